//! One connection to an agent's RPC address: handshake, authentication, questions and the stream of events.
//!
//! Each wait has a deadline, and whoever gets an error drops the connection: after a doubt nothing that follows
//! can be told apart. It decides nothing else.

use std::time::Duration;

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::members::Member;
use super::wire::{self, Head, Inbox, Wrong};
use super::{Options, key};
use crate::source::{ErrorClass, Origin, ReadError, Secret};

/// The version of the protocol that every Serf speaks.
const VERSION: u64 = 1;
/// What is asked to be told of.
pub(super) const EVENTS: &str = "member-join,member-leave,member-failed,member-update,member-reap";

/// An open connection that is past the handshake.
#[derive(Debug)]
pub(super) struct Connection<S = TcpStream> {
    address: String,
    stream: S,
    inbox: Inbox,
    limit: Duration,
    next: u64,
    /// The number of the stream of events.
    events: Option<u64>,
    /// A head whose body has not arrived.
    head: Option<Head>,
    /// Whether an event came while something else was waited for.
    noticed: bool,
}

impl Connection {
    /// Connects, shakes hands and proves the key.
    pub async fn open(address: &str, options: &Options) -> Result<Connection, ReadError> {
        let limit = options.timeout;
        let failed = |class, detail: &str| {
            ReadError::of(Origin::Serf, class, address, "the connection", detail)
        };
        let key = key::read(&options.key).map_err(|wrong| failed(ErrorClass::Forbidden, &wrong))?;
        let stream = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(failed(ErrorClass::Unreachable, &error.to_string()));
            }
            Err(_) => return Err(failed(ErrorClass::Timeout, "no connection was made")),
        };
        let _ = stream.set_nodelay(true);
        Connection::begin(stream, address, key, options).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Shakes hands and proves the key over a stream that leads to the agent.
    pub async fn begin(
        stream: S,
        address: &str,
        key: Option<Secret>,
        options: &Options,
    ) -> Result<Connection<S>, ReadError> {
        let mut connection = Connection {
            address: address.to_owned(),
            stream,
            inbox: Inbox::new(options.max_answer),
            limit: options.timeout,
            next: 0,
            events: None,
            head: None,
            noticed: false,
        };
        let version = [("Version", VERSION.into())];
        connection.ask("handshake", Some(&version), false).await?;
        if let Some(key) = key {
            let key = [("AuthKey", key.reveal().into())];
            connection.ask("auth", Some(&key), false).await?;
        }
        Ok(connection)
    }

    /// Asks to be told of events from now on. Only what happens later is told: ask for the members after this.
    pub async fn subscribe(&mut self) -> Result<(), ReadError> {
        let seq = self.next;
        let kinds = [("Type", EVENTS.into())];
        self.ask("stream", Some(&kinds), false).await?;
        self.events = Some(seq);
        Ok(())
    }

    /// All members, and the names of further ones that cannot be read.
    pub async fn members(&mut self) -> Result<(Vec<Member>, Vec<String>), ReadError> {
        self.noticed = false;
        let body = self.ask("members", None, true).await?;
        wire::members(&body).map_err(|wrong| self.wrong("members", &wrong))
    }

    /// Asks for something small, to see that the agent answers.
    pub async fn ping(&mut self) -> Result<(), ReadError> {
        self.ask("stats", None, true).await.map(drop)
    }

    /// Waits for an event, however long. Nothing is lost when the wait is given up.
    pub async fn event(&mut self) -> Result<(), ReadError> {
        const WHAT: &str = "events";
        if std::mem::take(&mut self.noticed) {
            return Ok(());
        }
        let head = match &self.head {
            Some(head) => head.clone(),
            None => {
                let head = self.read_head(WHAT).await?;
                self.head.insert(head).clone()
            }
        };
        self.check_event(&head, WHAT)?;
        let body = self.value(WHAT).await?;
        self.head = None;
        wire::event(&body).map_err(|wrong| self.wrong(WHAT, &wrong))?;
        Ok(())
    }

    async fn ask(
        &mut self,
        command: &'static str,
        body: Option<&[(&str, Value)]>,
        answered: bool,
    ) -> Result<Value, ReadError> {
        let limit = self.limit;
        match timeout(limit, self.ask_without_end(command, body, answered)).await {
            Ok(answer) => answer,
            Err(_) => {
                let detail = format!("no whole answer within {} s", limit.as_secs_f64());
                Err(self.error(ErrorClass::Timeout, command, &detail))
            }
        }
    }

    async fn ask_without_end(
        &mut self,
        command: &'static str,
        body: Option<&[(&str, Value)]>,
        answered: bool,
    ) -> Result<Value, ReadError> {
        let seq = self.next;
        self.next += 1;
        let request = wire::request(command, seq, body);
        if let Err(error) = self.stream.write_all(&request).await {
            return Err(self.error(ErrorClass::Unreachable, command, &error.to_string()));
        }
        loop {
            let head = match self.head.take() {
                Some(head) => head,
                None => self.read_head(command).await?,
            };
            if Some(head.seq) == self.events {
                self.check_event(&head, command)?;
                let body = self.value(command).await?;
                wire::event(&body).map_err(|wrong| self.wrong(command, &wrong))?;
                self.noticed = true;
                continue;
            }
            if !head.error.is_empty() {
                let class = match head.error.as_str() {
                    "Invalid authentication token" | "Authentication required" => {
                        ErrorClass::Forbidden
                    }
                    _ => ErrorClass::Protocol,
                };
                return Err(self.error(class, command, &head.error));
            }
            if head.seq != seq {
                let wrong = Wrong::Form("an answer to what was not asked");
                return Err(self.wrong(command, &wrong));
            }
            return match answered {
                true => self.value(command).await,
                false => Ok(Value::Nil),
            };
        }
    }

    fn check_event(&self, head: &Head, command: &str) -> Result<(), ReadError> {
        if Some(head.seq) != self.events || !head.error.is_empty() {
            let wrong = Wrong::Form("something that is no event");
            return Err(self.wrong(command, &wrong));
        }
        Ok(())
    }

    async fn read_head(&mut self, command: &str) -> Result<Head, ReadError> {
        let value = self.value(command).await?;
        wire::head(&value).map_err(|wrong| self.wrong(command, &wrong))
    }

    /// The next value. What has arrived of it stays where it is when the wait is given up.
    async fn value(&mut self, command: &str) -> Result<Value, ReadError> {
        loop {
            match self.inbox.next() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(wrong) => return Err(self.wrong(command, &wrong)),
            }
            self.inbox.buffer.reserve(4096);
            match self.stream.read_buf(&mut self.inbox.buffer).await {
                Ok(0) => {
                    let detail = "the agent closed the connection";
                    return Err(self.error(ErrorClass::Unreachable, command, detail));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(self.error(ErrorClass::Unreachable, command, &error.to_string()));
                }
            }
        }
    }

    fn wrong(&self, command: &str, wrong: &Wrong) -> ReadError {
        let class = match wrong {
            Wrong::TooLarge(_) | Wrong::TooMuch => ErrorClass::TooLarge,
            Wrong::NotMessagePack | Wrong::Form(_) => ErrorClass::Protocol,
        };
        self.error(class, command, &wrong.to_string())
    }

    fn error(&self, class: ErrorClass, command: &str, detail: &str) -> ReadError {
        ReadError::of(Origin::Serf, class, &self.address, command, detail)
    }
}

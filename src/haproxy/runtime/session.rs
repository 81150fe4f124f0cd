//! The connection that carries commands to one worker and matches their answers.
//!
//! Answers are matched in prompt mode: one command a line, a prompt after each answer. Without it
//! HAProxy ends an answer with an empty line, but 2.6 leaves that out after some refusals ("No such
//! server." of `del server`), several commands are silent, and others answer with empty lines of
//! their own, so answers cannot be told apart. The prompt is exact on 2.6, 2.8, 3.0 and 3.2, and so is
//! the master's after `@1` on a line of its own, which also sends what follows to the worker,
//! payloads and `experimental-mode` included.
//!
//! Each exchange has a connection of its own, since one opened before a reload would go on talking
//! to the old worker. Nothing here decides when something is said.

use std::time::{Duration, Instant};

use super::answer::Answer;
use super::certificates::{
    CertificateInfo, CertificateNames, CrtListEntry, parse_certificate, parse_certificates,
    parse_crt_list, parse_crt_lists,
};
use super::command::Command;
use super::encode::{self, COMMAND_LIMIT, Unspeakable};
use super::maps::{MapInfo, parse_map_entries, parse_maps, parse_patterns};
use super::state::{
    ServerConnections, ServerRow, Strange, parse_server_connections, parse_servers_state,
};
use super::version::Version;
use crate::haproxy::socket::{SocketError, exchange};
use crate::haproxy::stats::{Running, WorkerSocket};
use crate::haproxy::tally::TALLY;

/// The most commands in one exchange, so that a worker gets back to its traffic.
const BATCH_LIMIT: usize = 100;

/// One worker's command socket.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where the worker is reached.
    pub socket: WorkerSocket,
    /// What it is.
    pub version: Version,
    /// For one exchange.
    pub limit: Duration,
    /// What carries the revision of the set.
    pub variable: String,
}

/// What came of commands.
#[derive(Debug)]
#[must_use]
pub struct Batch {
    /// As many answers as are known, in the order of the commands.
    pub answers: Vec<Answer>,
    /// Why there are no more, when that is not a refusal. After a socket error commands whose answers
    /// are not known may have been carried out.
    pub error: Option<SendError>,
    /// How long it took, pauses included.
    pub took: Duration,
}

/// Why commands were not answered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// One of them cannot be said; none was sent.
    #[error(transparent)]
    Unspeakable(#[from] Unspeakable),
    /// The connection failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl Batch {
    /// Whether every one of `count` commands did what it is for.
    pub fn is_done(&self, count: usize) -> bool {
        self.error.is_none()
            && self.answers.len() == count
            && self.answers.iter().all(Answer::is_done)
    }

    /// The first refusal, with the index of its command.
    pub fn refusal(&self) -> Option<(usize, &Answer)> {
        let mut answers = self.answers.iter().enumerate();
        answers.find(|(_, answer)| !answer.is_done())
    }
}

impl Session {
    /// Sends commands in order, at most 100 and 12 kB of them in one exchange, and stops after the
    /// first exchange with a refusal or an error: those that follow a refused command in the same
    /// exchange have been carried out. Between two exchanges the worker gets as much time for its
    /// traffic as the last one took. Nothing is sent when one of the commands is unspeakable.
    ///
    /// Cancelled in the middle, what HAProxy has read is carried out all the same.
    pub async fn send(&self, commands: &[Command]) -> Batch {
        let begun = Instant::now();
        let mut batch = Batch {
            answers: Vec::with_capacity(commands.len()),
            error: None,
            took: Duration::ZERO,
        };
        let texts: Result<Vec<String>, Unspeakable> =
            commands.iter().map(Command::encode).collect();
        match texts {
            Ok(texts) => self.send_texts(commands, &texts, &mut batch).await,
            Err(cause) => batch.error = Some(SendError::Unspeakable(cause)),
        }
        batch.took = begun.elapsed();
        TALLY.told(commands.len(), &batch);
        batch
    }

    async fn send_texts(&self, commands: &[Command], texts: &[String], batch: &mut Batch) {
        let mut pause = None;
        let mut next = 0;
        while next < commands.len() {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let end = next + piece(&texts[next..]);
            let begun = Instant::now();
            let error = self
                .send_piece(&commands[next..end], &texts[next..end], &mut batch.answers)
                .await;
            pause = Some(begun.elapsed());
            if let Err(error) = error {
                batch.error = Some(SendError::Socket(error));
            }
            if batch.error.is_some() || batch.refusal().is_some() {
                break;
            }
            next = end;
        }
    }

    /// One exchange.
    async fn send_piece(
        &self,
        commands: &[Command],
        texts: &[String],
        answers: &mut Vec<Answer>,
    ) -> Result<(), SocketError> {
        let prompts = commands.iter().map(Command::prompts).sum();
        let (replies, error) = self.talk(&texts.concat(), prompts).await;
        let mut replies = replies.iter();
        for command in commands {
            let own: Vec<&String> = replies.by_ref().take(command.prompts()).collect();
            if own.len() < command.prompts() {
                break;
            }
            // Of several lines only the last has a say; the others are silent unless refused.
            let text: String = own.into_iter().map(String::as_str).collect();
            answers.push(command.judge(&text, self.version));
        }
        error.map_or(Ok(()), Err)
    }

    /// What runs and its servers, sorted by backend: those of `backends`, or all. All of it is asked over one
    /// connection, so one worker tells it. A backend that is not there has no servers.
    pub async fn servers(
        &self,
        backends: Option<&[String]>,
    ) -> Result<(Running, Vec<ServerRow>), SendError> {
        let questions = Running::questions(&self.variable);
        let about = questions.len();
        let mut lines = Vec::from(questions);
        match backends {
            None => lines.push("show servers state".to_owned()),
            Some(backends) => {
                for backend in backends {
                    let backend = encode::backend(backend)?;
                    lines.push(format!("show servers state {backend}"));
                }
            }
        }
        let replies = self.read(&lines).await?;
        let told = replies[..about].concat();
        let running = Running::read(&self.socket.address(), "show info", &told)?;
        let mut rows = Vec::new();
        for (line, reply) in lines.iter().zip(&replies).skip(about) {
            if reply.trim() != "Can't find backend." {
                rows.extend(parse_servers_state(reply).map_err(|_| self.strange(line, reply))?);
            }
        }
        rows.sort_by(|one, two| one.backend.cmp(&two.backend));
        Ok((running, rows))
    }

    /// What keeps the servers of a backend busy. A backend that is not there has no servers.
    pub async fn connections(&self, backend: &str) -> Result<Vec<ServerConnections>, SendError> {
        let backend = encode::backend(backend)?;
        // By its number: a name could be that of a frontend too, and `show stat` takes that one.
        let line = format!("show servers state {backend}");
        let Some(number) = backend_number(&self.read_one(line).await?) else {
            return Ok(Vec::new());
        };
        let line = format!("show stat {number} 4 -1");
        let reply = self.read_one(line.clone()).await?;
        match reply.trim() {
            "No such proxy." => Ok(Vec::new()),
            _ => Ok(parse_server_connections(&reply).map_err(|_| self.strange(&line, &reply))?),
        }
    }

    /// The maps that the worker holds.
    pub async fn maps(&self) -> Result<Vec<MapInfo>, SendError> {
        Ok(parse_maps(&self.read_one("show map".to_owned()).await?))
    }

    /// The entries of a map that traffic sees, or those of a version that was prepared.
    pub async fn map_entries(
        &self,
        map: &str,
        version: Option<u32>,
    ) -> Result<Vec<(String, String)>, SendError> {
        let map = encode::file(map)?;
        let line = match version {
            Some(version) => format!("show map @{version} {map}"),
            None => format!("show map {map}"),
        };
        let reply = self.read_one(line.clone()).await?;
        let entries: Result<_, Strange> = parse_map_entries(&reply);
        Ok(entries.map_err(|_| self.strange(&line, &reply))?)
    }

    /// The lists of ACL patterns that the worker holds; each that a map reads is there too.
    pub async fn acls(&self) -> Result<Vec<MapInfo>, SendError> {
        Ok(parse_maps(&self.read_one("show acl".to_owned()).await?))
    }

    /// The patterns of a file that traffic sees.
    pub async fn acl_patterns(&self, acl: &str) -> Result<Vec<String>, SendError> {
        let line = format!("show acl {}", encode::file(acl)?);
        let reply = self.read_one(line.clone()).await?;
        Ok(parse_patterns(&reply).map_err(|_| self.strange(&line, &reply))?)
    }

    /// The certificates that the worker holds.
    pub async fn certificates(&self) -> Result<CertificateNames, SendError> {
        let reply = self.read_one("show ssl cert".to_owned()).await?;
        Ok(parse_certificates(&reply))
    }

    /// What the worker holds under this name, not what a transaction would make of it. `None` when it
    /// holds nothing there.
    pub async fn certificate(&self, file: &str) -> Result<Option<CertificateInfo>, SendError> {
        let line = format!("show ssl cert {}", encode::file(file)?);
        Ok(parse_certificate(&self.read_one(line).await?))
    }

    /// The file names of the crt-lists that the worker holds, as the configuration writes them.
    pub async fn crt_lists(&self) -> Result<Vec<String>, SendError> {
        let reply = self.read_one("show ssl crt-list".to_owned()).await?;
        Ok(parse_crt_lists(&reply))
    }

    /// The lines of a crt-list that are in force.
    pub async fn crt_list(&self, list: &str) -> Result<Vec<CrtListEntry>, SendError> {
        let line = format!("show ssl crt-list -n {}", encode::file(list)?);
        let reply = self.read_one(line.clone()).await?;
        Ok(parse_crt_list(&reply).map_err(|_| self.strange(&line, &reply))?)
    }

    fn strange(&self, line: &str, reply: &str) -> SocketError {
        SocketError::strange(&self.socket.address(), line, reply)
    }

    async fn read_one(&self, line: String) -> Result<String, SocketError> {
        Ok(self.read(&[line]).await?.concat())
    }

    /// Asks questions of one line each.
    async fn read(&self, lines: &[String]) -> Result<Vec<String>, SocketError> {
        let mut text = lines.join("\n");
        text.push('\n');
        match self.talk(&text, lines.len()).await {
            (_, Some(error)) => Err(error),
            (replies, None) => Ok(replies),
        }
    }

    /// Writes lines in prompt mode and takes the answers apart; as many as have come whole.
    async fn talk(&self, lines: &str, expected: usize) -> (Vec<String>, Option<SocketError>) {
        let socket = self.socket.address();
        let prefix = self.socket.prefix();
        let opening = match &prefix {
            None => "prompt\n".to_owned(),
            Some(prefix) => format!("prompt\n{prefix}\n"),
        };
        let leading = opening.lines().count();
        let (text, error) = exchange(&socket, &format!("{opening}{lines}"), self.limit).await;
        let mut replies = split_at_prompts(&text, prefix.is_some());
        if replies.len() > leading + expected {
            let strange = SocketError::strange(&socket, lines.lines().next().unwrap_or(""), &text);
            return (Vec::new(), Some(strange));
        }
        let missing = replies.len() < leading + expected;
        replies.drain(..leading.min(replies.len()));
        let cut = || SocketError::Cut { socket };
        (replies, error.or_else(|| missing.then(cut)))
    }
}

/// The number of the backend that `show servers state` tells of; none of one without servers.
fn backend_number(state: &str) -> Option<u32> {
    let mut rows = state.lines().skip_while(|line| !line.starts_with('#'));
    rows.nth(1)?.split(' ').next()?.parse().ok()
}

/// How many of `texts` go into one exchange.
fn piece(texts: &[String]) -> usize {
    let mut length = 0;
    let fitting = texts.iter().take(BATCH_LIMIT).take_while(|text| {
        length += text.len();
        length <= COMMAND_LIMIT
    });
    // A single one always fits: it is not longer than the limit.
    fitting.count().max(1)
}

/// The text before each prompt. A prompt stands at the start of a line or right after another one;
/// `+ ` after it asks for the lines of a payload.
fn split_at_prompts(text: &str, master: bool) -> Vec<String> {
    let mut replies = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while at < text.len() {
        if let Some(length) = prompt(&text[at..], master) {
            replies.push(text[from..at].to_owned());
            at += length;
            while text[at..].starts_with("+ ") {
                at += 2;
            }
            from = at;
        } else {
            at = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
        }
    }
    replies
}

/// The length of the prompt that begins here: `> ` on the stats socket; `master> `, or `4711> ` with
/// the worker's process id, through the master, with its modes after it as in `4711(x)> `. A master
/// whose last reload failed says `master[ReloadFailed]> ` (2.6 to 3.2).
fn prompt(text: &str, master: bool) -> Option<usize> {
    if !master {
        return text.starts_with("> ").then_some(2);
    }
    // Answers may be long: only this line is looked at.
    let line = text.split('\n').next()?;
    let (name, _) = line.split_once("> ")?;
    let length = name.len() + 2;
    let who = match name.split_once('(') {
        Some((who, modes)) => {
            let modes = modes.strip_suffix(')')?;
            let known = modes.bytes().all(|mode| mode.is_ascii_lowercase());
            known.then_some(who)?
        }
        None => name,
    };
    let worker = !who.is_empty() && who.bytes().all(|digit| digit.is_ascii_digit());
    let master = ["master", "master[ReloadFailed]"].contains(&who);
    (master || worker).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // H03
    #[test]
    fn answers_are_told_apart_at_prompts() {
        // 2.6: no empty line after a refusal.
        let text = "\n> \n> 2.6.12\n\n> No such server.\n> No such server.\n\n> 1\na> b\n\n> ";
        assert_eq!(
            split_at_prompts(text, false),
            [
                "\n",
                "\n",
                "2.6.12\n\n",
                "No such server.\n",
                "No such server.\n\n",
                "1\na> b\n\n"
            ]
        );
        let text = "\n> New version created: 1\n\n> + + + \n> \n> half";
        assert_eq!(
            split_at_prompts(text, false),
            ["\n", "New version created: 1\n\n", "\n", "\n"]
        );
    }

    #[test]
    fn answers_are_told_apart_at_the_masters_prompts() {
        let text = "master> 12081> 12081(x)> \n12081(x)> proc.a: type=str value=<1> \n\n12081(x)> + + \n12081(x)> ";
        assert_eq!(
            split_at_prompts(text, true),
            ["", "", "", "\n", "proc.a: type=str value=<1> \n\n", "\n"]
        );
    }

    #[test]
    fn answers_are_told_apart_after_a_failed_reload() {
        let text = "master[ReloadFailed]> 12081> Name: HAProxy\n\n12081> ";
        assert_eq!(split_at_prompts(text, true), ["", "", "Name: HAProxy\n\n"]);
    }

    // H13
    #[test]
    fn an_exchange_is_bounded_by_count_and_length() {
        let texts = |count: usize, length: usize| vec!["x".repeat(length); count];
        assert_eq!(piece(&texts(250, 10)), 100);
        assert_eq!(piece(&texts(250, 1_000)), 12);
        assert_eq!(piece(&texts(3, COMMAND_LIMIT)), 1);
        assert_eq!(piece(&texts(7, 10)), 7);
    }

    // H13
    /// An answer that ends early has fewer prompts than were asked for, wherever it is cut.
    #[test]
    fn a_cut_answer_is_never_taken_for_a_whole_one() {
        let table = "1\n# be_id be_name\n3 web 1 a\n3 web 2 b\n\n";
        let whole = format!("\n> Pid: 1\n\n> {table}\n> ");
        let count = split_at_prompts(&whole, false).len();
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let cut = split_at_prompts(&whole[..end], false);
            assert!(cut.len() < count, "{:?}", &whole[..end]);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*", close in "[\n>+ (x)1master]*") {
            for text in [text, close] {
                split_at_prompts(&text, true);
                split_at_prompts(&text, false);
            }
        }
    }
}

//! A small Thrift service, its client, and callers that count what comes back. On the crate `thrift`'s
//! transports and binary protocol; what its compiler would generate for two methods is written by hand:
//! `string getAPIVersion()` and `string launch(1: i32 millis)`, which both give the instance's name.

pub mod callers;
pub mod instance;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use thrift::protocol::{
    TBinaryInputProtocol, TBinaryOutputProtocol, TFieldIdentifier, TInputProtocol,
    TMessageIdentifier, TMessageType, TMultiplexedOutputProtocol, TOutputProtocol,
    TStructIdentifier, TType,
};
use thrift::server::{TMultiplexedProcessor, TProcessor, handle_process_result};
use thrift::transport::{
    TBufferedReadTransport, TBufferedWriteTransport, TFramedReadTransport, TFramedWriteTransport,
    TIoChannel, TTcpChannel,
};
use thrift::{ApplicationError, ApplicationErrorKind};

use super::Outcome;

type Input = Box<dyn TInputProtocol + Send>;
type Output = Box<dyn TOutputProtocol + Send>;

/// How the two sides speak.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// Whether each message begins with its length.
    pub framed: bool,
    /// The service's name behind a `TMultiplexedProcessor`.
    pub service: Option<String>,
}

impl Form {
    /// Both directions of a connection.
    fn protocols(&self, stream: TcpStream) -> thrift::Result<(Input, Output)> {
        stream.set_nodelay(true)?;
        let (read, write) = TTcpChannel::with_stream(stream).split()?;
        Ok(if self.framed {
            (
                Box::new(TBinaryInputProtocol::new(
                    TFramedReadTransport::new(read),
                    true,
                )),
                Box::new(TBinaryOutputProtocol::new(
                    TFramedWriteTransport::new(write),
                    true,
                )),
            )
        } else {
            (
                Box::new(TBinaryInputProtocol::new(
                    TBufferedReadTransport::new(read),
                    true,
                )),
                Box::new(TBinaryOutputProtocol::new(
                    TBufferedWriteTransport::new(write),
                    true,
                )),
            )
        })
    }
}

/// Serves for ever, a thread for each connection, as Airavata's `TThreadPoolServer` does.
pub fn serve(listener: &TcpListener, name: &str, form: &Form) -> Outcome<()> {
    let own = Api {
        name: name.to_owned(),
    };
    let processor: Arc<dyn TProcessor + Send + Sync> = match &form.service {
        None => Arc::new(own),
        Some(service) => {
            let mut all = TMultiplexedProcessor::new();
            all.register(service.clone(), Box::new(own), false)
                .map_err(|error| format!("The service {service} cannot be registered: {error}."))?;
            Arc::new(all)
        }
    };
    loop {
        let (stream, _) = listener
            .accept()
            .map_err(|error| format!("No connection can be taken: {error}."))?;
        let processor = Arc::clone(&processor);
        let framed = form.framed;
        std::thread::spawn(move || {
            // Replies carry no service's name.
            let form = Form {
                framed,
                service: None,
            };
            if let Ok((mut input, mut output)) = form.protocols(stream) {
                while processor.process(&mut *input, &mut *output).is_ok() {}
            }
        });
    }
}

/// The service's methods.
struct Api {
    name: String,
}

impl TProcessor for Api {
    fn process(
        &self,
        input: &mut dyn TInputProtocol,
        output: &mut dyn TOutputProtocol,
    ) -> thrift::Result<()> {
        let call = input.read_message_begin()?;
        let number = read_number(input)?;
        input.read_message_end()?;
        let known = match call.name.as_str() {
            "getAPIVersion" => Ok(()),
            "launch" => {
                let millis = u64::try_from(number.unwrap_or(0)).unwrap_or(0);
                std::thread::sleep(Duration::from_millis(millis));
                Ok(())
            }
            other => Err(thrift::Error::Application(ApplicationError::new(
                ApplicationErrorKind::UnknownMethod,
                format!("Invalid method name: '{other}'"),
            ))),
        };
        if known.is_err() {
            return handle_process_result(&call, known, output);
        }
        output.write_message_begin(&TMessageIdentifier::new(
            call.name,
            TMessageType::Reply,
            call.sequence_number,
        ))?;
        output.write_struct_begin(&TStructIdentifier::new("result"))?;
        output.write_field_begin(&TFieldIdentifier::new("success", TType::String, 0))?;
        output.write_string(&self.name)?;
        output.write_field_end()?;
        output.write_field_stop()?;
        output.write_struct_end()?;
        output.write_message_end()?;
        output.flush()
    }
}

/// Reads a structure and gives its field 1, if that is a number.
fn read_number(input: &mut dyn TInputProtocol) -> thrift::Result<Option<i32>> {
    let mut found = None;
    input.read_struct_begin()?;
    loop {
        let field = input.read_field_begin()?;
        match (field.field_type, field.id) {
            (TType::Stop, _) => break,
            (TType::I32, Some(1)) => found = Some(input.read_i32()?),
            (other, _) => input.skip(other)?,
        }
        input.read_field_end()?;
    }
    input.read_struct_end()?;
    Ok(found)
}

/// A client on one connection, which it keeps.
pub struct Client {
    input: Input,
    output: Output,
    sequence: i32,
}

impl Client {
    /// Connects. `limit` is the longest time for the connection, and for each part of a reply.
    pub fn connect(address: SocketAddr, form: &Form, limit: Duration) -> Outcome<Client> {
        let failed = |error: &dyn std::fmt::Display| format!("No connection: {error}.");
        let stream = TcpStream::connect_timeout(&address, limit).map_err(|error| failed(&error))?;
        stream
            .set_read_timeout(Some(limit))
            .map_err(|error| failed(&error))?;
        let (input, output) = form.protocols(stream).map_err(|error| failed(&error))?;
        let output = match &form.service {
            Some(service) => Box::new(TMultiplexedOutputProtocol::new(service, output)),
            None => output,
        };
        Ok(Client {
            input,
            output,
            sequence: 0,
        })
    }

    /// The name of the instance that answers.
    pub fn version(&mut self) -> Outcome<String> {
        self.call("getAPIVersion", None)
    }

    /// The same after some work.
    pub fn launch(&mut self, work: Duration) -> Outcome<String> {
        let millis = i32::try_from(work.as_millis()).unwrap_or(i32::MAX);
        self.call("launch", Some(millis))
    }

    fn call(&mut self, method: &str, number: Option<i32>) -> Outcome<String> {
        self.sequence += 1;
        self.send(method, number)
            .and_then(|()| self.receive(method))
            .map_err(|error| format!("{method}: {error}."))
    }

    fn send(&mut self, method: &str, number: Option<i32>) -> thrift::Result<()> {
        let output = &mut self.output;
        output.write_message_begin(&TMessageIdentifier::new(
            method,
            TMessageType::Call,
            self.sequence,
        ))?;
        output.write_struct_begin(&TStructIdentifier::new("arguments"))?;
        if let Some(number) = number {
            output.write_field_begin(&TFieldIdentifier::new("millis", TType::I32, 1))?;
            output.write_i32(number)?;
            output.write_field_end()?;
        }
        output.write_field_stop()?;
        output.write_struct_end()?;
        output.write_message_end()?;
        output.flush()
    }

    fn receive(&mut self, method: &str) -> thrift::Result<String> {
        let reply = self.input.read_message_begin()?;
        if reply.message_type == TMessageType::Exception {
            let error = thrift::Error::read_application_error_from_in_protocol(&mut *self.input)?;
            return Err(thrift::Error::Application(error));
        }
        thrift::protocol::verify_expected_service_call(method, &reply.name)?;
        thrift::protocol::verify_expected_sequence_number(self.sequence, reply.sequence_number)?;
        thrift::protocol::verify_expected_message_type(TMessageType::Reply, reply.message_type)?;
        let mut name = String::new();
        self.input.read_struct_begin()?;
        loop {
            let field = self.input.read_field_begin()?;
            match (field.field_type, field.id) {
                (TType::Stop, _) => break,
                (TType::String, Some(0)) => name = self.input.read_string()?,
                (other, _) => self.input.skip(other)?,
            }
            self.input.read_field_end()?;
        }
        self.input.read_struct_end()?;
        self.input.read_message_end()?;
        Ok(name)
    }
}

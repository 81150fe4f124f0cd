//! Airavata's Thrift gateway, live: instances come, hang, are killed without notice and drain under load.
//!
//! It starts a real Consul, instances of a small Thrift service, and `gatewright run` on the template in
//! `thrift/`, which starts HAProxy. It ends with code 0 only if every step saw what it should, and leaves
//! nothing running. `--instance NAME [--framed] [--service SERVICE]` makes it one of the instances instead.

mod scenario;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use support::thrift::{Form, serve};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--instance", name, form @ ..] => instance(name, form),
        [] => support::interrupt_on_signals().and_then(|()| scenario::play()),
        _ => Err("This example takes no argument.".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Is an instance, until the standard input ends: that is when the starter has gone, however it went.
fn instance(name: &str, words: &[&str]) -> support::Outcome<()> {
    let form = match words {
        [] => Form::default(),
        ["--framed", rest @ ..] => Form {
            framed: true,
            service: service(rest)?,
        },
        rest => Form {
            framed: false,
            service: service(rest)?,
        },
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| format!("No loopback port can be had: {error}."))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("The listener has no address: {error}."))?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut out = std::io::stdout();
    writeln!(out, "{address}")
        .and_then(|()| out.flush())
        .map_err(|error| format!("The address cannot be told: {error}."))?;
    serve(&listener, name, &form)
}

fn service(words: &[&str]) -> support::Outcome<Option<String>> {
    match words {
        [] => Ok(None),
        ["--service", name] => Ok(Some((*name).to_owned())),
        other => Err(format!("An instance does not know {other:?}.")),
    }
}

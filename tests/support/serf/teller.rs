//! A way to an agent's RPC address that adds members to each list: those that no real agent takes for itself. All else
//! passes as it is, both ways.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmpv::Value;

use super::Agent;
use crate::{Outcome, ports};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Adds members to what one agent tells. Ends when dropped.
pub struct Teller {
    address: SocketAddr,
    members: Arc<Mutex<Vec<Value>>>,
    end: Arc<AtomicBool>,
}

impl Teller {
    /// Listens for clients of this agent.
    pub fn start(agent: &Agent) -> Outcome<Teller> {
        let failed = |error: io::Error| format!("A way to Serf cannot be made: {error}.");
        let [port] = ports::free()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let teller = Teller {
            address,
            members: Arc::default(),
            end: Arc::default(),
        };
        let (agent, members, end) = (
            agent.rpc(),
            Arc::clone(&teller.members),
            Arc::clone(&teller.end),
        );
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        // A client that the agent does not want finds its connection closed.
                        let _ = connect(client, &agent, &members);
                    }
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(teller)
    }

    /// The address for clients.
    pub fn rpc(&self) -> String {
        self.address.to_string()
    }

    /// Text as an agent writes it, which may be no UTF-8: a `str` of MessagePack.
    pub fn text(bytes: &[u8]) -> Value {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let written = [&[0xdb], length.as_slice(), bytes].concat();
        rmpv::decode::read_value(&mut written.as_slice()).unwrap_or(Value::Nil)
    }

    /// The members that it adds from here on, each as Serf's `members` lists it.
    pub fn set_members(&self, members: Vec<Value>) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn connect(mut client: TcpStream, agent: &str, members: &Arc<Mutex<Vec<Value>>>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut server = TcpStream::connect(agent)?;
    let (mut requests, mut to_agent) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut requests, &mut to_agent);
        let _ = to_agent.shutdown(Shutdown::Both);
    });
    let members = Arc::clone(members);
    std::thread::spawn(move || {
        let _ = answers(&mut server, &mut client, &members);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Passes on what the agent says, value by value, until either closes.
fn answers(
    agent: &mut TcpStream,
    client: &mut TcpStream,
    members: &Mutex<Vec<Value>>,
) -> io::Result<()> {
    let mut agent = BufReader::new(agent);
    loop {
        let mut value = rmpv::decode::read_value(&mut agent).map_err(io::Error::other)?;
        if let Some(list) = listed(&mut value) {
            list.extend(
                members
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                    .cloned(),
            );
        }
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &value)?;
        client.write_all(&bytes)?;
    }
}

/// The list in an answer to `members`; an event has one, too.
fn listed(value: &mut Value) -> Option<&mut Vec<Value>> {
    let Value::Map(fields) = value else {
        return None;
    };
    let is = |key: &Value, name: &str| key.as_str() == Some(name);
    if fields.iter().any(|(key, _)| is(key, "Event")) {
        return None;
    }
    let (_, list) = fields.iter_mut().find(|(key, _)| is(key, "Members"))?;
    match list {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

//! A network between gossiping agents that can be cut: each is known to the others by a relay for its UDP packets and
//! TCP connections. It tells who sends a packet by the port that it comes from.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Outcome, ports};

/// How often a relay looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Which agents are alone, by their own ports.
#[derive(Debug, Clone, Default)]
pub struct Network {
    alone: Arc<Mutex<BTreeSet<u16>>>,
}

/// One agent's relay. Ends when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    end: Arc<AtomicBool>,
}

impl Network {
    /// From now on nothing reaches the agent with this port, and nothing that it sends arrives.
    pub fn isolate(&self, port: u16) {
        self.alone().insert(port);
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        self.alone().clear();
    }

    /// A relay to the agent with this port.
    pub fn relay(&self, agent: u16) -> Outcome<Relay> {
        let failed = |error: io::Error| format!("A relay cannot be made: {error}.");
        let [port] = ports::free()?;
        let udp = UdpSocket::bind(address(port)).map_err(failed)?;
        let tcp = TcpListener::bind(address(port)).map_err(failed)?;
        let end = Arc::new(AtomicBool::new(false));
        udp.set_read_timeout(Some(LOOK)).map_err(failed)?;
        tcp.set_nonblocking(true).map_err(failed)?;
        let (network, stop) = (self.clone(), Arc::clone(&end));
        std::thread::spawn(move || packets(&udp, agent, &network, &stop));
        let (network, stop) = (self.clone(), Arc::clone(&end));
        std::thread::spawn(move || connections(&tcp, agent, &network, &stop));
        Ok(Relay { port, end })
    }

    fn alone(&self) -> std::sync::MutexGuard<'_, BTreeSet<u16>> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self, from: u16, to: u16) -> bool {
        let alone = self.alone();
        alone.contains(&from) || alone.contains(&to)
    }
}

impl Relay {
    /// Where the others reach the agent.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Packets to the agent, each sender by a socket of its own, by which the agent's answers come back.
fn packets(here: &UdpSocket, agent: u16, network: &Network, end: &Arc<AtomicBool>) {
    let mut senders: BTreeMap<u16, UdpSocket> = BTreeMap::new();
    let mut packet = [0; 65_536];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, from)) = here.recv_from(&mut packet) else {
            continue;
        };
        let from = from.port();
        if network.is_cut(from, agent) {
            continue;
        }
        if let Entry::Vacant(place) = senders.entry(from) {
            let Ok(socket) = UdpSocket::bind(address(0)) else {
                continue;
            };
            let _ = socket.set_read_timeout(Some(LOOK));
            if let (Ok(back), Ok(answers)) = (here.try_clone(), socket.try_clone()) {
                let (network, end) = (network.clone(), Arc::clone(end));
                std::thread::spawn(move || {
                    let mut packet = [0; 65_536];
                    while !end.load(Ordering::Relaxed) {
                        if let Ok(length) = answers.recv(&mut packet)
                            && !network.is_cut(from, agent)
                        {
                            let _ = back.send_to(&packet[..length], address(from));
                        }
                    }
                });
            }
            place.insert(socket);
        }
        if let Some(socket) = senders.get(&from) {
            let _ = socket.send_to(&packet[..length], address(agent));
        }
    }
}

/// Connections to the agent. Who makes one cannot be told, so there is none while anybody is alone.
fn connections(here: &TcpListener, agent: u16, network: &Network, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let Ok((client, _)) = here.accept() else {
            std::thread::sleep(LOOK / 10);
            continue;
        };
        if !network.alone().is_empty() || client.set_nonblocking(false).is_err() {
            continue;
        }
        if let Ok(server) = TcpStream::connect(address(agent)) {
            pump(&client, &server);
            pump(&server, &client);
        }
    }
}

fn pump(from: &TcpStream, to: &TcpStream) {
    if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

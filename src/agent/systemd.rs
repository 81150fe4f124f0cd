//! What systemd hears of the service (sd_notify(3)), without ever waiting for it: the loop must turn even where the
//! receiver has stopped reading and its queue is full.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// The socket that `NOTIFY_SOCKET` names, if it is set.
#[derive(Debug, Default)]
pub struct Systemd {
    address: Option<SocketAddr>,
    /// What did not fit into the receiver's queue, oldest first.
    waiting: VecDeque<String>,
}

impl Systemd {
    /// As the environment says.
    pub fn from_environment() -> Systemd {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
                _ => SocketAddr::from_pathname(&name),
            };
            address
                .inspect_err(|error| tracing::debug!("NOTIFY_SOCKET cannot be used: {error}."))
                .ok()
        });
        Systemd {
            address,
            waiting: VecDeque::new(),
        }
    }

    /// Says that the service is ready, reloads or stops. What does not fit now is sent by a later [`Systemd::watchdog`].
    pub fn tell(&mut self, state: NotifyState<'_>) {
        let mut message = format!("{state}\n");
        if let (NotifyState::Reloading, Ok(time)) = (&state, NotifyState::monotonic_usec_now()) {
            message += &format!("{time}\n");
        }
        self.waiting.push_back(message);
        self.flush();
    }

    /// Says that the loop turns, unless more important words still wait.
    pub fn watchdog(&mut self) {
        self.flush();
        if self.waiting.is_empty() {
            self.send(&format!("{}\n", NotifyState::Watchdog));
        }
    }

    fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if !self.send(&message) {
                self.waiting.push_front(message);
                return;
            }
        }
    }

    /// Whether the message need not be sent again: it was sent, or nobody will ever receive it.
    fn send(&self, message: &str) -> bool {
        let Some(address) = &self.address else {
            return true;
        };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::debug!("systemd cannot be notified: {error}.");
                true
            }
            Ok(_) => true,
        }
    }
}

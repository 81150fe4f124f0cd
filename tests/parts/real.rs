//! A real HAProxy as these tests start it by hand, its configuration, and waiting for what it does.
//!
//! Gatewright starts none of this; a test that looks at the whole program uses `support` instead.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::haproxies::Version;
use support::haproxy::cli;
use support::ports;

/// A port that no other test gets.
pub fn free_port() -> u16 {
    let [port] = ports::free().unwrap();
    port
}

/// Waits until `condition` holds, at most 20 s.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A configuration that answers every request with `word`.
pub fn configuration(directory: &Path, port: u16, word: &str) -> String {
    format!(
        "global\n    stats socket {}/stats.sock level admin\n    hard-stop-after 5s\n    httpclient.ssl.verify none\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
         frontend f\n    bind 127.0.0.1:{port}\n    http-request return status 200 content-type text/plain string {word}\n",
        directory.display()
    )
}

/// Asks over a new connection; the body, or what went wrong.
pub async fn get(port: u16) -> Result<String, std::io::Error> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(std::io::Error::other(text)),
        }
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await?
}

/// An HAProxy in a directory with its sockets and its pid file. It is killed when the value is dropped.
pub struct Haproxy {
    /// The master, which leads its own process group.
    pub child: Child,
}

impl Haproxy {
    /// Starts it in master-worker mode with `main` as its configuration and waits until it serves.
    pub async fn start(version: &Version, directory: &Path, main: &Path) -> Haproxy {
        use std::os::unix::process::CommandExt;
        let child = Command::new(version.program())
            .args(["-W", "-db", "-S"])
            .arg(format!(
                "{},mode,0600",
                directory.join("master.sock").display()
            ))
            .arg("-p")
            .arg(directory.join("pid"))
            .arg("-f")
            .arg(main)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("haproxy.log")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let (stats, master) = (directory.join("stats.sock"), directory.join("master.sock"));
        // The worker serves a moment before the master leads to it.
        eventually("HAProxy serves", || {
            UnixStream::connect(&stats).is_ok()
                && cli(&master, "@1 show info").is_ok_and(|answer| answer.contains("Pid:"))
        })
        .await;
        Haproxy { child }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

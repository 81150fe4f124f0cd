//! A small HTTP server that misbehaves on purpose, in place of Consul.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatewright::source::consul::{Consul, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the fake does with one request.
pub enum Reply {
    /// A whole answer.
    Whole(Vec<u8>),
    /// These bytes, then nothing more while the connection stays open.
    Stuck(Vec<u8>),
    /// These bytes one after the other, one each 50 ms, after a whole head.
    Trickle(Vec<u8>, Vec<u8>),
    /// These bytes, then the connection is closed.
    Cut(Vec<u8>),
    /// These bytes again and again, until nobody takes them.
    Flood(Vec<u8>),
}

/// A running server.
pub struct Fake {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// How many connections are open.
    pub open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Listens on a free port. `script` gets the head of each request and its number, counted from 0.
    pub async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, open) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let script = Arc::new(script);
        let task = tokio::spawn({
            let (requests, open) = (Arc::clone(&requests), Arc::clone(&open));
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (script, requests, open) = (script.clone(), requests.clone(), open.clone());
                    connections.spawn(async move {
                        open.fetch_add(1, Ordering::SeqCst);
                        serve(stream, &*script, &requests).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Fake {
            address,
            requests,
            open,
            task,
        }
    }

    /// The head of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The source that asks this server, with options changed.
    pub fn consul(&self, change: impl FnOnce(&mut Options)) -> Consul {
        let mut options = Options {
            addresses: vec![self.address.parse().unwrap()],
            ..Options::default()
        };
        change(&mut options);
        Consul::new(options).unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &(impl Fn(&str, usize) -> Reply + ?Sized),
    requests: &Mutex<Vec<String>>,
) {
    // Delayed acknowledgements would hide a busy loop.
    stream.set_nodelay(true).unwrap();
    while let Some(head) = head(&mut stream).await {
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(head.clone());
            requests.len() - 1
        };
        match script(&head, number) {
            Reply::Whole(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Stuck(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read(&mut [0]).await;
                return;
            }
            Reply::Trickle(head, body) => {
                let _ = stream.write_all(&head).await;
                for byte in body {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return;
            }
            Reply::Flood(bytes) => {
                while stream.write_all(&bytes).await.is_ok() {}
                return;
            }
            Reply::Cut(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// A whole answer.
pub fn reply(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend(format!("{header}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

/// An answer of JSON with one more header.
pub fn json(index: &str, body: &str) -> Reply {
    Reply::Whole(reply(
        "200 OK",
        &["Content-Type: application/json", index],
        body.as_bytes(),
    ))
}

/// A service with one instance on `port`.
pub fn web(port: u64) -> String {
    format!(
        r#"[{{"Node":{{"Node":"n","Address":"10.0.0.1"}},"Service":{{"ID":"w","Service":"web","Port":{port}}},"Checks":[]}}]"#
    )
}

/// Holds a blocking query for ever and answers any other.
pub fn blocks(head: &str, body: &str) -> Reply {
    if head.contains("index=") {
        Reply::Stuck(Vec::new())
    } else {
        json("X-Consul-Index: 5", body)
    }
}

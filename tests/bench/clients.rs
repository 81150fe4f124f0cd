//! Keep-alive clients: each sends its next request a moment after the last answer, on the same
//! connection as long as the other side keeps it, and counts what came back. They never send a
//! request twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::wire::{self, Answer};

/// The pause between an answer and the next request: 32 clients then leave the machine time for
/// Consul, HAProxy and what is measured.
const PAUSE: Duration = Duration::from_millis(4);
/// An answer that takes longer counts as failed.
const LIMIT: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, Default)]
pub struct Count {
    /// How long each good answer took.
    pub times: Vec<Duration>,
    /// Requests whose connection was closed or reset before the whole answer, or that got none in time.
    pub reset: u64,
    /// Answers with another status than 200.
    pub refused: u64,
    /// Connections that ended by an announced close, as a graceful reload does it.
    pub closed: u64,
    /// The first failure, in words.
    pub first: Option<String>,
    /// Who answered since [`Clients::mark`], and how often.
    pub marked: BTreeMap<String, u64>,
}

impl Count {
    /// Requests that failed in any way.
    pub fn failed(&self) -> u64 {
        self.reset + self.refused
    }

    fn add(&mut self, other: Count) {
        self.times.extend(other.times);
        self.reset += other.reset;
        self.refused += other.refused;
        self.closed += other.closed;
        self.first = self.first.take().or(other.first);
        for (name, times) in other.marked {
            *self.marked.entry(name).or_default() += times;
        }
    }
}

/// What the clients are told.
#[derive(Default)]
struct Orders {
    stop: AtomicBool,
    mark: AtomicBool,
}

/// Running clients.
pub struct Clients {
    orders: Arc<Orders>,
    tasks: Vec<JoinHandle<Count>>,
    began: Instant,
}

impl Clients {
    /// Starts `count` of them.
    pub fn start(runtime: &Handle, address: SocketAddr, path: &str, count: usize) -> Clients {
        let orders = Arc::new(Orders::default());
        let tasks = (0..count)
            .map(|_| runtime.spawn(client(address, path.to_owned(), Arc::clone(&orders))))
            .collect();
        Clients {
            orders,
            tasks,
            began: Instant::now(),
        }
    }

    /// From now on they count who answers.
    pub fn mark(&self) {
        self.orders.mark.store(true, Ordering::Relaxed);
    }

    /// Ends them after their current requests; also says how long they ran.
    pub fn stop(self, runtime: &Handle) -> (Count, Duration) {
        self.orders.stop.store(true, Ordering::Relaxed);
        let ran = self.began.elapsed();
        let mut whole = Count::default();
        for task in self.tasks {
            if let Ok(count) = runtime.block_on(task) {
                whole.add(count);
            }
        }
        (whole, ran)
    }
}

async fn client(address: SocketAddr, path: String, orders: Arc<Orders>) -> Count {
    let request = wire::request("GET", &path, "");
    let mut count = Count::default();
    let mut kept: Option<TcpStream> = None;
    while !orders.stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let marked = orders.mark.load(Ordering::Relaxed);
        let stream = kept.take();
        match tokio::time::timeout(LIMIT, exchange(address, stream, &request)).await {
            Ok(Ok((answer, stream))) => {
                count.closed += u64::from(answer.closes);
                kept = (!answer.closes).then_some(stream);
                if answer.status == 200 {
                    count.times.push(start.elapsed());
                    if marked {
                        let name = String::from_utf8_lossy(&answer.body).into_owned();
                        *count.marked.entry(name).or_default() += 1;
                    }
                } else {
                    count.refused += 1;
                    let status = answer.status;
                    count.first.get_or_insert(format!("status {status}"));
                }
            }
            Ok(Err(error)) => {
                count.reset += 1;
                count.first.get_or_insert(error.to_string());
            }
            Err(_) => {
                count.reset += 1;
                count.first.get_or_insert("no answer in time".to_owned());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    count
}

/// One request; the stream comes back.
async fn exchange(
    address: SocketAddr,
    stream: Option<TcpStream>,
    request: &[u8],
) -> std::io::Result<(Answer, TcpStream)> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(request).await?;
    let mut buffer = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((answer, _)) = wire::parse(&buffer)? {
            return Ok((answer, stream));
        }
    }
}

//! A proxy before HAProxy's socket that makes trouble at one chosen line. It hands lines over one by one
//! and waits for the prompt after each, so that what HAProxy has carried out by then is known.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

type Hook = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What happens at a line. The lines before it have been carried out.
#[derive(Clone)]
pub enum Fault {
    /// The connection ends before it.
    CutBefore,
    /// It is carried out, and the connection ends in place of the answer.
    CutAfter,
    /// Something else happens; then it and all that follows go on, or the connection ends.
    Meanwhile(Hook),
}

/// Something that happens between two lines, and whether the lines go on after it.
pub fn meanwhile<F>(hook: impl Fn() -> F + Send + Sync + 'static) -> Fault
where
    F: Future<Output = bool> + Send + 'static,
{
    Fault::Meanwhile(Arc::new(move || Box::pin(hook())))
}

#[derive(Default)]
struct State {
    fault: Option<(Fault, At)>,
    lines: Vec<String>,
    connections: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// Once, when so many lines have come since the fault was set.
    Line(usize),
    /// Before each line that says such a word.
    Each(&'static str),
}

/// Listens where HAProxy's socket was, which stands beside it under another name.
pub struct Proxy {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Puts itself before the socket. A reload does not make that anew: the new worker takes over what
    /// the former one listens on.
    pub fn before(socket: &Path) -> Proxy {
        let real = behind(socket);
        std::fs::rename(socket, &real).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (real, state) = (real.clone(), Arc::clone(&shared));
                state.lock().unwrap().connections += 1;
                tokio::spawn(async move {
                    serve(client, real, &state).await;
                    state.lock().unwrap().connections -= 1;
                });
            }
        });
        Proxy { state, task }
    }

    /// At the line of this number, counted from 1 and from now.
    pub fn at(&self, line: usize, fault: Fault) {
        self.set(Some((fault, At::Line(line))));
    }

    /// At each line that says this.
    pub fn each(&self, word: &'static str, fault: Fault) {
        self.set(Some((fault, At::Each(word))));
    }

    /// No trouble from here on.
    pub fn calm(&self) {
        self.set(None);
    }

    fn set(&self, fault: Option<(Fault, At)>) {
        let mut state = self.state.lock().unwrap();
        state.fault = fault;
        state.lines.clear();
    }

    /// The lines that have come since trouble was last set or ended.
    pub fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }

    /// Until everything that was said has been carried out.
    pub async fn idle(&self) {
        while self.state.lock().unwrap().connections > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Those of them that change something.
    pub fn commands(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| {
            let words = ["add ", "set ", "del ", "enable "];
            words.iter().any(|word| line.starts_with(word))
        });
        lines
    }
}

/// Where HAProxy's own socket is.
pub fn behind(socket: &Path) -> PathBuf {
    socket.with_extension("real")
}

/// Notes a line; the fault that is due at it.
fn due(state: &Mutex<State>, line: &str) -> Option<Fault> {
    let mut state = state.lock().unwrap();
    state.lines.push(line.trim_end().to_owned());
    let count = state.lines.len();
    match &state.fault {
        Some((fault, At::Each(word))) if line.contains(word) => Some(fault.clone()),
        Some((_, At::Line(number))) if *number <= count => state.fault.take().map(|(f, _)| f),
        _ => None,
    }
}

async fn serve(client: UnixStream, real: PathBuf, state: &Mutex<State>) {
    let Ok(mut haproxy) = UnixStream::connect(real).await else {
        return;
    };
    let (from, mut to) = client.into_split();
    let mut from = BufReader::new(from);
    let mut line = String::new();
    let mut prompts = false;
    while matches!(from.read_line(&mut line).await, Ok(1..)) {
        prompts |= line == "prompt\n";
        let fault = due(state, &line);
        if let Some(Fault::CutBefore) = fault {
            return;
        }
        if let Some(Fault::Meanwhile(hook)) = &fault {
            if !hook().await {
                return;
            }
            // From here on all at once, as Gatewright sends it: it may be gone by now.
            while matches!(from.read_line(&mut line).await, Ok(1..)) {}
            prompts = false;
        }
        if haproxy.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
        if !prompts {
            break;
        }
        let Some(answer) = until_prompt(&mut haproxy).await else {
            return;
        };
        if let Some(Fault::CutAfter) = fault {
            return;
        }
        if to.write_all(&answer).await.is_err() {
            return;
        }
    }
    let _ = haproxy.shutdown().await;
    let _ = tokio::io::copy(&mut haproxy, &mut to).await;
}

async fn until_prompt(haproxy: &mut UnixStream) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"> ") {
        if haproxy.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(answer)
}

//! What HAProxy writes: its messages for our log, its standard output for ours, without secrets.

use std::io::Write;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::redact;
use crate::catalog::secrets::Secrets;

/// What is not shown of HAProxy's lines.
#[derive(Clone)]
pub struct Hiding {
    /// Values of its environment.
    pub secrets: Vec<String>,
    /// Those of the sets that it may run.
    pub hidden: watch::Receiver<[Secrets; 2]>,
}

impl Hiding {
    fn hide(&self, line: &str) -> String {
        let [newest, former] = self.hidden.borrow().clone();
        redact::hide(&former.hide(&newest.hide(line)), &self.secrets)
    }
}

/// Hands HAProxy's messages on to our log and keeps the last lines for the reason of its end.
pub async fn listen(stderr: Option<ChildStderr>, hiding: &Hiding) -> String {
    let mut last = std::collections::VecDeque::new();
    if let Some(stderr) = stderr {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line).await, Ok(count) if count > 0) {
            let text = hiding.hide(String::from_utf8_lossy(&line).trim_end());
            let letters = text.chars().take(1000);
            let text: String = letters
                .map(|letter| if letter.is_control() { ' ' } else { letter })
                .collect();
            line.clear();
            tracing::info!(target: "haproxy", "{text}");
            if text.starts_with("[ALERT]") {
                last.push_back(text);
            }
            if last.len() > 8 {
                last.pop_front();
            }
        }
    }
    last.into_iter().collect::<Vec<_>>().join(" ")
}

/// Hands on to our standard output what HAProxy writes to its own, such as its log of requests. While nobody reads
/// ours, HAProxy drops its lines.
pub async fn pass_on(stdout: Option<ChildStdout>, hiding: &Hiding) {
    let Some(stdout) = stdout else { return };
    let (lines, mut written) = mpsc::channel::<String>(64);
    // A thread of its own: a reader that is stuck must not keep us from ending.
    let write = move || {
        while let Some(line) = written.blocking_recv() {
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    };
    let thread = std::thread::Builder::new().name("stdout".to_owned());
    if let Err(error) = thread.spawn(write) {
        tracing::warn!("No thread can be started, so HAProxy's standard output is lost: {error}.");
    }
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(count) if count > 0) {
        let _ = lines
            .send(hiding.hide(&String::from_utf8_lossy(&line)))
            .await;
        line.clear();
    }
}

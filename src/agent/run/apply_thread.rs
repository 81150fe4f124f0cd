//! The thread on which the applier works. Applying reads and writes files, and a disk may take its time: nothing else
//! waits for that. One piece of work follows another, so that the order of what is done to the files is that of the
//! loop.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};

use super::*;

/// A thread with a runtime of its own.
pub(super) struct ApplyThread {
    runtime: Handle,
    /// Dropped, it ends the thread.
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl ApplyThread {
    pub(super) fn start() -> io::Result<ApplyThread> {
        let own = Builder::new_current_thread().enable_all().build()?;
        let runtime = own.handle().clone();
        let (end, told) = oneshot::channel::<()>();
        let (tell, ended) = oneshot::channel();
        thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || {
                let _ = own.block_on(told);
                // What is under way is dropped, and its children are killed with it.
                own.shutdown_background();
                let _ = tell.send(());
            })?;
        Ok(ApplyThread {
            runtime,
            end,
            ended,
        })
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Drops what is under way and tidies up, as far as the disk lets it.
    pub(super) async fn end(self, tidy: impl FnOnce() + Send + 'static) {
        let tidied = tokio::task::spawn_blocking(tidy);
        drop(self.end);
        let _ = timeout(LAST_FILES, async { tokio::join!(tidied, self.ended) }).await;
    }
}

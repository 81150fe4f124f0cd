//! A file as a source: a catalog as `gatewright capture` writes it, read again whenever its content differs.
//!
//! A file that is broken, cut short or gone changes nothing: what was read before stays in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::consul::TokenStatus;
use super::{ErrorClass, Freshness, Origin, ReadError, SourceStatus, Update, Watch, WatchId};
use crate::catalog::fixture::Fixture;
use crate::catalog::{Answer, Query, snapshot};

/// How often the file is looked at. Only one whose size, time or number differs is read.
const LOOK: Duration = Duration::from_millis(500);
/// A larger file is refused.
const LARGEST: u64 = 64 << 20;

/// A catalog file. Cheap to clone; clones share what was read.
#[derive(Debug, Clone)]
pub struct CatalogFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Read)>>,
    reads: AtomicU64,
    failures: Mutex<BTreeMap<ErrorClass, u64>>,
    watches: AtomicU64,
}

/// What came of the last read.
type Read = Result<Arc<Fixture>, ReadError>;

/// What tells one content of a file from another without reading it.
type Stamp = Option<(u64, std::time::SystemTime, u64)>;

impl CatalogFile {
    /// Prepares the source; nothing is read yet.
    pub fn new(path: PathBuf) -> CatalogFile {
        CatalogFile {
            shared: Arc::new(Shared {
                path,
                read: Mutex::default(),
                reads: AtomicU64::new(0),
                failures: Mutex::default(),
                watches: AtomicU64::new(0),
            }),
        }
    }

    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        let shared = Arc::clone(&self.shared);
        shared.watches.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(shared);
        Watch::begin(async move { tell(&counted.0, id, query, out).await })
    }

    /// The answer to a query as the file is now.
    pub fn read_once(&self, query: &Query) -> Result<(Answer, Freshness), ReadError> {
        let begun = Instant::now();
        let answer = self.shared.answer(query)?;
        Ok((answer, Freshness::now(begun)))
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        let shared = &self.shared;
        let path = shared.path.display().to_string();
        let last_error = match &*lock(&shared.read) {
            Some((_, Err(error))) => Some(error.clone()),
            _ => None,
        };
        SourceStatus {
            origin: Origin::File,
            address: path.clone(),
            addresses: vec![path],
            switches: 0,
            requests: shared.reads.load(Ordering::Relaxed),
            watches: shared.watches.load(Ordering::Relaxed),
            errors: lock(&shared.failures).clone(),
            last_error,
            throttled_for: None,
            connection_limit: None,
            token: TokenStatus {
                source: "none".to_owned(),
                problem: None,
            },
            members: BTreeMap::new(),
            notes: Vec::new(),
            tls_problem: None,
            certificates: Vec::new(),
            insecure_skip_verify: false,
        }
    }
}

impl Shared {
    fn answer(&self, query: &Query) -> Result<Answer, ReadError> {
        let catalog = self.catalog()?;
        let answer = catalog.answer(query);
        answer.map_err(|misfit| {
            self.error(
                ErrorClass::Protocol,
                &query.to_string(),
                &misfit.to_string(),
            )
        })
    }

    /// The catalog, read again where the file differs.
    fn catalog(&self) -> Result<Arc<Fixture>, ReadError> {
        let mut read = lock(&self.read);
        let stamp = stamp(&self.path);
        match &*read {
            Some((before, result)) if *before == stamp => result.clone(),
            _ => {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let result = self.load();
                if let Err(error) = &result {
                    *lock(&self.failures).entry(error.class).or_default() += 1;
                }
                *read = Some((stamp, result.clone()));
                result
            }
        }
    }

    fn load(&self) -> Result<Arc<Fixture>, ReadError> {
        const WHAT: &str = "reading";
        let unreadable =
            |error: std::io::Error| self.error(ErrorClass::Unreachable, WHAT, &error.to_string());
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(self.error(ErrorClass::Protocol, WHAT, "it is no regular file"));
        }
        if metadata.len() > LARGEST {
            return Err(self.error(ErrorClass::TooLarge, WHAT, "it has more than 64 MiB"));
        }
        let text = std::fs::read_to_string(&self.path).map_err(unreadable)?;
        let catalog = match snapshot::is_snapshot(&text) {
            true => snapshot::decode(&text)
                .map(|snapshot| snapshot.catalog)
                .map_err(|error| error.to_string()),
            false => serde_json::from_str(&text).map_err(|error| error.to_string()),
        };
        catalog
            .map(Arc::new)
            .map_err(|error| self.error(ErrorClass::Protocol, WHAT, &error))
    }

    fn error(&self, class: ErrorClass, what: &str, detail: &str) -> ReadError {
        let path = self.path.display().to_string();
        ReadError::of(Origin::File, class, &path, what, detail)
    }
}

async fn tell(shared: &Arc<Shared>, id: WatchId, query: Query, out: mpsc::Sender<Update>) {
    let mut last: Option<Arc<Answer>> = None;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let (asked, of) = (Arc::clone(shared), query.clone());
        // A file on a slow disk keeps nobody waiting.
        let Ok(result) = tokio::task::spawn_blocking(move || asked.answer(&of)).await else {
            return;
        };
        let (watch, query, freshness) = (id, query.clone(), Freshness::now(begun));
        let update = match result {
            Err(error) => {
                attempts += 1;
                Update::Failed {
                    watch,
                    query,
                    error,
                    attempts,
                    retry_in: LOOK,
                }
            }
            Ok(answer) => {
                attempts = 0;
                if last.as_deref() == Some(&answer) {
                    Update::Unchanged {
                        watch,
                        query,
                        freshness,
                    }
                } else {
                    let answer = Arc::new(answer);
                    last = Some(Arc::clone(&answer));
                    Update::Answered {
                        watch,
                        query,
                        answer,
                        freshness,
                    }
                }
            }
        };
        if out.send(update).await.is_err() {
            return;
        }
        tokio::select! {
            // Cancel safety: both only wait.
            () = sleep(LOOK) => {}
            () = out.closed() => return,
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?, metadata.ino()))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the watches that are alive.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

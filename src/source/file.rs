//! A file as a source: a catalog as `gatewright capture` writes it, read again whenever it is replaced.
//!
//! A file that is broken, cut short or gone changes nothing: what was read before stays in force. One task reads
//! for all watches.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::consul::{Load, TokenStatus};
use super::seen::{Followed, Seen, tell};
use super::{ErrorClass, Freshness, Origin, ReadError, SourceStatus, Update, Watch, WatchId};
use crate::catalog::fixture::{self, Fixture};
use crate::catalog::{Answer, Query, snapshot};
use crate::text;

/// Nobody relies on being told alone: the file is looked at this often too. Some file systems tell nothing.
const LOOK: Duration = Duration::from_secs(2);
/// A file that is written in place is read when nothing has happened for so long,
const QUIET: Duration = Duration::from_millis(50);
/// but after this time at the latest.
const RESTLESS: Duration = Duration::from_secs(1);

/// A catalog file. Cheap to clone; clones share what was read.
#[derive(Debug, Clone)]
pub struct CatalogFile {
    followed: Arc<Followed<Shared>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    seen: watch::Sender<Seen<Fixture>>,
    reads: AtomicU64,
    told: Mutex<Told>,
}

/// What is told in the status.
#[derive(Debug, Default)]
struct Told {
    errors: BTreeMap<ErrorClass, u64>,
    last_error: Option<ReadError>,
}

/// What tells one content of a file from another without reading it: size, time and number.
type Stamp = Option<(u64, std::time::SystemTime, u64)>;

impl CatalogFile {
    /// Prepares the source; nothing is read yet.
    pub fn new(path: PathBuf) -> CatalogFile {
        let shared = Shared {
            path,
            seen: watch::Sender::new(Seen::Nothing),
            reads: AtomicU64::new(0),
            told: Mutex::default(),
        };
        CatalogFile {
            followed: Followed::new(shared),
        }
    }

    /// Watches a query until the returned handle is dropped. Must be called within a Tokio runtime.
    pub fn watch(&self, id: WatchId, query: Query, out: mpsc::Sender<Update>) -> Watch {
        self.followed
            .watch("the catalog file", follow, |shared| async move {
                let answer = |catalog: &Arc<Fixture>, query: &Query| {
                    shared.answer(catalog, query).map(Arc::new)
                };
                tell(shared.seen.subscribe(), answer, id, query, out).await;
            })
    }

    /// The answer to a query as the file is now.
    pub fn read_once(&self, query: &Query) -> Result<(Answer, Freshness), ReadError> {
        let begun = Instant::now();
        let catalog = self.followed.shared.load()?;
        let answer = self.followed.shared.answer(&catalog, query)?;
        Ok((answer, Freshness::now(begun)))
    }

    /// What the source is doing.
    pub fn status(&self) -> SourceStatus {
        let shared = &self.followed.shared;
        let path = shared.path.display().to_string();
        let told = shared.told();
        SourceStatus {
            origin: Origin::File,
            address: path.clone(),
            addresses: vec![path],
            switches: 0,
            requests: shared.reads.load(Ordering::Relaxed),
            watches: self.followed.watches(),
            errors: told.errors.clone(),
            last_error: told.last_error.clone(),
            throttled_for: None,
            load: Load::default(),
            token: TokenStatus {
                source: "none".to_owned(),
                problem: None,
            },
            members: BTreeMap::new(),
            cut_off: false,
            notes: Vec::new(),
            tls_problem: None,
            certificates: Vec::new(),
            insecure_skip_verify: false,
        }
    }
}

/// Reads the file now and whenever it differs. Runs until it is aborted.
async fn follow(shared: Arc<Shared>) {
    let changes = Arc::new(Notify::new());
    let (path, woken) = (shared.path.clone(), Arc::clone(&changes));
    let _watcher = spawn_blocking(move || watch_folders(&path, &woken)).await;
    let mut before: Option<(Stamp, Result<Arc<Fixture>, ReadError>)> = None;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let path = shared.path.clone();
        let stamp = spawn_blocking(move || stamp(&path)).await.ok().flatten();
        let read = match before.take() {
            // What could not be read may be readable now without any difference in these.
            Some((one, result)) if one == stamp && !is_away(&result) => result,
            former => {
                let result = shared.load_aside().await.map(Arc::new);
                // What was written anew and is the same wakes nobody.
                match (former, result) {
                    (Some((_, Ok(old))), Ok(new)) if old == new => Ok(old),
                    (_, result) => result,
                }
            }
        };
        before = Some((stamp, read.clone()));
        let seen = match read {
            Ok(catalog) => {
                attempts = 0;
                Seen::Known(catalog, Freshness::now(begun))
            }
            Err(error) => {
                attempts += 1;
                Seen::Failed {
                    error,
                    attempts,
                    retry_in: LOOK,
                    outage: true,
                }
            }
        };
        shared.seen.send_replace(seen);
        if timeout(LOOK, changes.notified()).await.is_ok() {
            let first = Instant::now();
            while first.elapsed() < RESTLESS && timeout(QUIET, changes.notified()).await.is_ok() {}
        }
    }
}

fn is_away(result: &Result<Arc<Fixture>, ReadError>) -> bool {
    matches!(result, Err(error) if error.class == ErrorClass::Unreachable)
}

/// Wakes `changes` when something happens in the file's folder, and in its target's where it is a symlink. `None`
/// where the system has no way to tell; the file is looked at every now and then anyway.
fn watch_folders(path: &Path, changes: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let woken = Arc::clone(changes);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too, and not of interest.
        if !matches!(&event, Ok(event) if event.kind.is_access()) {
            woken.notify_one();
        }
    })
    .ok()?;
    let target = path.canonicalize().ok();
    let folders = [path.parent(), target.as_deref().and_then(Path::parent)];
    for folder in folders.into_iter().flatten() {
        let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
    }
    Some(watcher)
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?, metadata.ino()))
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, catalog: &Fixture, query: &Query) -> Result<Answer, ReadError> {
        let answer = catalog.answer(query);
        answer.map_err(|misfit| {
            let (query, detail) = (query.to_string(), misfit.to_string());
            self.error(ErrorClass::Protocol, &query, &detail)
        })
    }

    /// As [`Shared::load`]; a slow disk keeps nobody waiting.
    async fn load_aside(self: &Arc<Self>) -> Result<Fixture, ReadError> {
        let shared = Arc::clone(self);
        let read = spawn_blocking(move || shared.load()).await;
        read.unwrap_or_else(|error| {
            Err(self.error(ErrorClass::Unreachable, "reading", &error.to_string()))
        })
    }

    fn load(&self) -> Result<Fixture, ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let result = self.read();
        if let Err(error) = &result {
            let mut told = self.told();
            *told.errors.entry(error.class).or_default() += 1;
            told.last_error = Some(error.clone());
        }
        result
    }

    fn read(&self) -> Result<Fixture, ReadError> {
        const WHAT: &str = "reading";
        let text = text::read(&self.path, text::OF_CATALOG).map_err(|error| {
            let class = match error.kind() {
                ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::IsADirectory => {
                    ErrorClass::Protocol
                }
                ErrorKind::FileTooLarge => ErrorClass::TooLarge,
                _ => ErrorClass::Unreachable,
            };
            self.error(class, WHAT, &error.to_string())
        })?;
        let catalog = match snapshot::is_snapshot(&text) {
            true => snapshot::decode(&text)
                .map(|snapshot| snapshot.catalog)
                .map_err(|error| error.to_string()),
            false => serde_json::from_str(&text).map_err(|error| {
                let secrets = fixture::secrets::of_text(&text);
                secrets.hide(&error.to_string())
            }),
        };
        catalog.map_err(|error| self.error(ErrorClass::Protocol, WHAT, &error))
    }

    fn error(&self, class: ErrorClass, what: &str, detail: &str) -> ReadError {
        let path = self.path.display().to_string();
        ReadError::of(Origin::File, class, &path, what, detail)
    }
}

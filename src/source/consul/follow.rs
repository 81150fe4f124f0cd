//! The task that asks Consul everything that somebody wants to know, in the order of the [`Schedule`], and tells what
//! came. It decides nothing about when; it keeps the answers, and finds out what signals mean for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::answer::{Check, NodeEntry};
use super::asked::{Asked, Reply};
use super::client::{Miss, Position, Read};
use super::error::ErrorClass;
use super::index;
use super::intern::Interner;
use super::limit::Pace;
use super::schedule::{Failure, How, Schedule, Sort, Step, Told};
use super::signals::{self, Named};
use super::wanted::Shared;
use crate::catalog::{Answer, Kind, Scope, Status};
use crate::source::seen::Seen;

/// How long Consul may hold a question while others wait for the connection: so that ten take turns each second,
/// within these.
const TURN_LEAST: Duration = Duration::from_secs(1);
const TURN_MOST: Duration = Duration::from_secs(5);
/// How often what is under way is counted for people.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// A signal that fails for so long is not relied on.
const UNRELIABLE: Duration = Duration::from_secs(5);
/// A limit of Consul's that comes after so long without one is told of again.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Runs until it is aborted, which closes all its connections.
pub(super) async fn follow(shared: Arc<Shared>) {
    Follower::new(shared).run().await;
}

struct Follower {
    shared: Arc<Shared>,
    schedule: Schedule,
    questions: BTreeMap<u64, Question>,
    numbers: BTreeMap<Asked, u64>,
    /// The last number.
    last: u64,
    running: JoinSet<(u64, Result<Read, Miss>)>,
    handles: BTreeMap<u64, AbortHandle>,
    /// The questions about each service.
    services: BTreeMap<Scope, BTreeMap<String, BTreeSet<u64>>>,
    scopes: BTreeMap<Scope, Signals>,
    interner: Interner,
    /// What is told of an outage.
    outage: Option<Seen<Answer>>,
    /// How many questions could be held when signals were chosen.
    holds: usize,
    counted_at: Option<Instant>,
    /// When there was a limit of Consul's last that has been told of.
    limited_at: Option<Instant>,
}

struct Question {
    asked: Asked,
    told: Option<watch::Sender<Seen<Answer>>>,
    position: Position,
    known: Known,
    /// What was told last, for watches that come later.
    seen: Seen<Answer>,
    /// Of the signals of this scope.
    signals: Option<Scope>,
    /// Since when its requests fail.
    fails: Option<std::time::Instant>,
}

impl Question {
    fn tell(&mut self, seen: Seen<Answer>) {
        if let Some(told) = &self.told {
            told.send_replace(seen.clone());
        }
        self.seen = seen;
    }
}

/// The last good answer.
enum Known {
    Nothing,
    Answer(Arc<Answer>),
    Checks(BTreeSet<Check>),
}

/// The signals of a scope.
struct Signals {
    numbers: [u64; 4],
    /// Whether each of them has been answered, and none fails.
    live: bool,
    /// Nodes that are still to be read, with the number of the question.
    nodes: BTreeMap<String, u64>,
    /// Something has changed since the nodes are being read.
    again: bool,
}

impl Follower {
    fn new(shared: Arc<Shared>) -> Follower {
        shared.begin_anew();
        let most = shared.client.followed();
        Follower {
            shared,
            schedule: Schedule::new(most, fastrand::u64(..)),
            questions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: 0,
            running: JoinSet::new(),
            handles: BTreeMap::new(),
            services: BTreeMap::new(),
            scopes: BTreeMap::new(),
            interner: Interner::new(),
            outage: None,
            holds: 0,
            counted_at: None,
            limited_at: None,
        }
    }

    async fn run(mut self) {
        loop {
            self.take_changes();
            let now = Instant::now();
            while let Some(step) = self.schedule.next(now.into_std()) {
                self.step(step);
            }
            let count_at = self.count(now);
            let wakes_at = self
                .schedule
                .wakes_at(now.into_std())
                .map(Instant::from_std);
            let wakes_at = wakes_at.into_iter().chain(count_at).min();
            let wakes = async {
                match wakes_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel safety: a request that has ended is taken here or in the next turn.
                Some(ended) = self.running.join_next_with_id() => match ended {
                    Ok((id, (number, result))) => self.ended(number, id, result),
                    // Given up.
                    Err(error) if error.is_cancelled() => {}
                    // Our caller begins anew.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                // Cancel safety: a permit stays until it is taken.
                () = self.shared.changed.notified() => {}
                // Cancel safety: it only waits.
                () = wakes => {}
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::GiveUp(number) => {
                if let Some(handle) = self.handles.remove(&number) {
                    handle.abort();
                }
            }
            Step::Ask(number, how) => {
                let Some(question) = self.questions.get(&number) else {
                    return;
                };
                let mut position = question.position;
                // A read is also what follows a failure: Consul may be another one then, with another history.
                if how == How::Read {
                    position.index = index::FRESH;
                }
                let (client, asked) = (Arc::clone(&self.shared.client), question.asked.clone());
                let wait = match how {
                    How::Turn => client.options.wait.min(turn(self.schedule.holds())),
                    How::Read | How::Hold => client.options.wait,
                };
                let read = async move { (number, client.read(&asked, position, wait).await) };
                let handle = self.running.spawn(read);
                self.handles.insert(number, handle);
            }
        }
    }

    /// Questions come and go.
    fn take_changes(&mut self) {
        let changes = self.shared.changes();
        let holds = self.schedule.holds();
        if changes.is_empty() && holds == self.holds {
            return;
        }
        self.holds = holds;
        for (asked, told) in changes {
            match (told, self.numbers.get(&asked).copied()) {
                (Some(told), None) => {
                    if let Some(outage) = &self.outage {
                        told.send_replace(outage.clone());
                    }
                    let sort = match asked.blocks() {
                        true => Sort::Alone,
                        false => Sort::Polled(self.shared.client.options.poll_interval),
                    };
                    self.add(asked, sort, Some(told));
                }
                (Some(told), Some(number)) => {
                    let Some(question) = self.questions.get_mut(&number) else {
                        continue;
                    };
                    let seen = std::mem::replace(&mut question.seen, Seen::Nothing);
                    question.told = Some(told);
                    question.tell(seen);
                }
                (None, Some(number)) => {
                    let Some(question) = self.questions.get_mut(&number) else {
                        continue;
                    };
                    question.told = None;
                    if question.signals.is_none() {
                        self.remove(number);
                    }
                }
                (None, None) => {}
            }
        }
        self.choose_signals();
    }

    fn add(&mut self, asked: Asked, sort: Sort, told: Option<watch::Sender<Seen<Answer>>>) -> u64 {
        self.last += 1;
        let number = self.last;
        if let Some((scope, name)) = asked.service() {
            let scope = self.services.entry(scope.clone()).or_default();
            scope.entry(name.to_lowercase()).or_default().insert(number);
        }
        if sort != Sort::Errand {
            self.numbers.insert(asked.clone(), number);
        }
        let pace = match asked.is_list_of_services() {
            true => Pace::of_list(),
            false => Pace::default(),
        };
        let question = Question {
            asked,
            told,
            position: Position::default(),
            known: Known::Nothing,
            seen: Seen::Nothing,
            signals: None,
            fails: None,
        };
        self.questions.insert(number, question);
        self.schedule.add(number, sort, pace);
        number
    }

    fn remove(&mut self, number: u64) {
        self.schedule.remove(number);
        if let Some(handle) = self.handles.remove(&number) {
            handle.abort();
        }
        let Some(question) = self.questions.remove(&number) else {
            return;
        };
        self.numbers.remove(&question.asked);
        if let Some((scope, name)) = question.asked.service()
            && let Some(names) = self.services.get_mut(scope)
        {
            let name = name.to_lowercase();
            if let Some(numbers) = names.get_mut(&name) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    names.remove(&name);
                }
            }
            if names.is_empty() {
                self.services.remove(scope);
            }
        }
    }

    fn ended(&mut self, number: u64, id: Id, result: Result<Read, Miss>) {
        if !self.questions.contains_key(&number) {
            return;
        }
        if self.handles.get(&number).map(AbortHandle::id) != Some(id) {
            // It had been given up, but Consul had answered: there may be news.
            self.schedule.name(number, Instant::now().into_std());
            return;
        }
        self.handles.remove(&number);
        match result {
            Ok(read) => self.answered(number, read),
            Err(miss) => self.failed(number, miss),
        }
    }

    fn answered(&mut self, number: u64, read: Read) {
        let now = Instant::now().into_std();
        self.outage = None;
        let Some(question) = self.questions.get_mut(&number) else {
            return;
        };
        let first = matches!(question.known, Known::Nothing);
        let before = std::mem::replace(&mut question.position, read.position);
        let moved = read.position.seen != before.seen;
        // Another agent, or another history: what was modified there may bear any index.
        let anew = read.position.seen < before.seen || read.position.epoch != before.epoch;
        question.fails = None;
        let mut named = Named::default();
        let mut changed = false;
        match read.reply {
            Reply::Answer(mut answer) => {
                let known = match std::mem::replace(&mut question.known, Known::Nothing) {
                    Known::Answer(before) if *before == answer => before,
                    before => {
                        if let Answer::Instances(list) = &mut answer {
                            list.iter_mut().for_each(|one| self.interner.intern(one));
                        }
                        let answer = Arc::new(answer);
                        if let (Known::Answer(before), Some(_)) = (&before, &question.signals) {
                            named = signals::by_lists(before, &answer);
                        }
                        changed = !first;
                        answer
                    }
                };
                question.known = Known::Answer(Arc::clone(&known));
                question.tell(Seen::Known(known, read.freshness));
            }
            Reply::Checks(checks) => {
                if let Known::Checks(before) = &question.known {
                    named = signals::by_checks(before, &checks);
                }
                question.known = Known::Checks(checks);
            }
            Reply::OnNode(entries) => return self.looked_at_node(number, Some(&entries), now),
        }
        let kind = match &question.asked {
            Asked::Query(query) => Some(&query.kind),
            Asked::Checks(..) | Asked::OnNode(..) => None,
        };
        let registered = question.asked.is_list_of_services();
        let nodes = matches!(kind, Some(Kind::Nodes { .. }));
        let signals = question.signals.clone();
        // Each registration moves the list of services, whose content need not change.
        let wakes = (registered && moved && !first) || named != Named::default();
        let changed = changed || (signals.is_some() && wakes);
        self.schedule
            .answered(number, changed, read.extra_requests, now);
        if let Some(scope) = signals {
            self.signalled(&scope, &named, now);
            if nodes && !anew {
                // One may be new, with instances of services that are known.
                self.look_at_nodes(&scope, named.nodes);
            }
            if first {
                self.sweep_older(&scope, now);
            } else if anew {
                self.sweep_services(&scope);
            } else if registered && moved {
                self.sweep(&scope);
            }
            self.look_at_signals(&scope, now);
        }
    }

    fn failed(&mut self, number: u64, miss: Miss) {
        let now = Instant::now().into_std();
        let class = miss.error.class;
        let failure = Failure {
            everyone: class.concerns_all(),
            lost: miss.lost,
            refused: miss.refused,
            address: class.blames_address(),
            unreachable: miss.gone,
            retry_after: miss.error.retry_after,
            throttled: class == ErrorClass::Throttled,
        };
        let told = self.schedule.failed(number, failure, now);
        let Some(question) = self.questions.get_mut(&number) else {
            return;
        };
        question.fails.get_or_insert(now);
        if let Asked::OnNode(..) = question.asked {
            return self.looked_at_node(number, None, now);
        }
        if let Some(scope) = question.signals.clone() {
            self.look_at_signals(&scope, now);
        }
        let Told::Fails {
            attempts,
            retry_in,
            outage,
        } = told
        else {
            return;
        };
        let seen = Seen::Failed {
            error: miss.error,
            attempts,
            retry_in,
            outage,
        };
        let says = |seen: &Seen<Answer>| match seen {
            Seen::Failed { error, .. } => Some((error.class, error.detail.clone())),
            _ => None,
        };
        let said = self.outage.as_ref().and_then(says);
        let all = outage && said != says(&seen);
        self.outage = outage.then(|| seen.clone());
        for (other, question) in &mut self.questions {
            if all || *other == number {
                question.tell(seen.clone());
            }
        }
    }

    /// Decides which scopes have signals.
    fn choose_signals(&mut self) {
        let now = Instant::now().into_std();
        let most = self.schedule.signals(!self.scopes.is_empty());
        let mut scopes: Vec<(usize, Scope)> = Vec::new();
        for (scope, names) in &self.services {
            let count = names.values().map(BTreeSet::len).sum();
            scopes.push((count, scope.clone()));
        }
        scopes.sort_by(|one, two| two.cmp(one));
        scopes.truncate(most);
        let wanted: BTreeSet<Scope> = scopes.into_iter().map(|(_, scope)| scope).collect();
        let gone: Vec<Scope> = self
            .scopes
            .keys()
            .filter(|scope| !wanted.contains(scope))
            .cloned()
            .collect();
        for scope in gone {
            self.end_signals(&scope, now);
        }
        for scope in wanted {
            if !self.scopes.contains_key(&scope) {
                self.begin_signals(scope, now);
            }
        }
        // New questions take part as the old ones do.
        for scope in self.scopes.keys().cloned().collect::<Vec<_>>() {
            self.sort_services(&scope, now);
        }
    }

    fn begin_signals(&mut self, scope: Scope, now: std::time::Instant) {
        let asked = [
            Asked::Checks(scope.clone(), Status::Critical),
            Asked::Checks(scope.clone(), Status::Warning),
            Asked::services(&scope),
            Asked::nodes(&scope),
        ];
        let numbers = asked.map(|asked| match self.numbers.get(&asked).copied() {
            Some(number) => {
                self.schedule.set_sort(number, Sort::Signal, now);
                number
            }
            None => self.add(asked, Sort::Signal, None),
        });
        for number in numbers {
            if let Some(question) = self.questions.get_mut(&number) {
                question.signals = Some(scope.clone());
            }
        }
        let signals = Signals {
            numbers,
            live: false,
            nodes: BTreeMap::new(),
            again: false,
        };
        self.scopes.insert(scope.clone(), signals);
        // Some of them may have been answered long ago.
        self.sweep_older(&scope, now);
        self.look_at_signals(&scope, now);
    }

    fn end_signals(&mut self, scope: &Scope, now: std::time::Instant) {
        let Some(signals) = self.scopes.remove(scope) else {
            return;
        };
        for number in signals.nodes.into_values() {
            self.remove(number);
        }
        for number in signals.numbers {
            let Some(question) = self.questions.get_mut(&number) else {
                continue;
            };
            question.signals = None;
            match question.told {
                Some(_) => self.schedule.set_sort(number, Sort::Alone, now),
                None => self.remove(number),
            }
        }
        self.sort_services(scope, now);
    }

    /// Whether the signals of a scope can be relied on decides how often its services are read.
    fn look_at_signals(&mut self, scope: &Scope, now: std::time::Instant) {
        let Some(signals) = self.scopes.get_mut(scope) else {
            return;
        };
        let questions = &self.questions;
        let good = |number: &u64| {
            let fails = |since: std::time::Instant| now - since >= UNRELIABLE;
            questions.get(number).is_some_and(|one| {
                !one.fails.is_some_and(fails) && !matches!(one.known, Known::Nothing)
            })
        };
        let live = signals.numbers.iter().all(good);
        if std::mem::replace(&mut signals.live, live) != live {
            self.sort_services(scope, now);
        }
    }

    fn sort_services(&mut self, scope: &Scope, now: std::time::Instant) {
        let sort = match self.scopes.get(scope) {
            Some(signals) if signals.live => Sort::Signalled,
            _ => Sort::Alone,
        };
        for number in self.of_scope(scope) {
            self.schedule.set_sort(number, sort, now);
        }
    }

    /// What a signal names is read at once.
    fn signalled(&mut self, scope: &Scope, named: &Named, now: std::time::Instant) {
        let Some(names) = self.services.get(scope) else {
            return;
        };
        for service in &named.services {
            for number in names.get(&service.to_lowercase()).into_iter().flatten() {
                self.schedule.name(*number, now);
            }
        }
        if named.nodes.is_empty() {
            return;
        }
        for number in names.values().flatten() {
            let there = self
                .questions
                .get(number)
                .is_some_and(|one| match &one.known {
                    Known::Answer(answer) => signals::is_on_one(answer, &named.nodes),
                    _ => true,
                });
            if there {
                self.schedule.name(*number, now);
            }
        }
    }

    /// Something has changed in a scope that no signal names: whatever it can be about is read, by nodes where there are
    /// fewer of them than of services.
    fn sweep(&mut self, scope: &Scope) {
        let Some(signals) = self.scopes.get_mut(scope) else {
            return;
        };
        if !signals.nodes.is_empty() {
            signals.again = true;
            return;
        }
        let [.., nodes] = signals.numbers;
        let names = self
            .questions
            .get(&nodes)
            .map(|question| match &question.known {
                Known::Answer(answer) => node_names(answer),
                _ => Vec::new(),
            });
        let names = names.unwrap_or_default();
        let services = self.of_scope(scope);
        if names.is_empty() || names.len() >= services.len() {
            return self.sweep_services(scope);
        }
        self.look_at_nodes(scope, names);
    }

    /// Reads what is registered on these nodes, at the pace of a sweep.
    fn look_at_nodes(&mut self, scope: &Scope, names: impl IntoIterator<Item = String>) {
        for name in names {
            let reads = |signals: &Signals| signals.nodes.get(&name).copied();
            match self.scopes.get(scope).and_then(reads) {
                Some(number) if self.schedule.is_under_way(number) => {
                    if let Some(signals) = self.scopes.get_mut(scope) {
                        signals.again = true;
                    }
                }
                Some(_) => {}
                None => {
                    let asked = Asked::OnNode(scope.clone(), name.clone());
                    let number = self.add(asked, Sort::Errand, None);
                    if let Some(signals) = self.scopes.get_mut(scope) {
                        signals.nodes.insert(name, number);
                    }
                }
            }
        }
    }

    /// All services of a scope are read, whatever is known of them.
    fn sweep_services(&mut self, scope: &Scope) {
        for number in self.of_scope(scope) {
            self.schedule.sweep(number);
        }
    }

    /// What was asked before a signal was there may have changed in between.
    fn sweep_older(&mut self, scope: &Scope, than: std::time::Instant) {
        for number in self.of_scope(scope) {
            let at = self.schedule.answered_at(number);
            if at.is_none_or(|at| at < than) {
                self.schedule.sweep(number);
            }
        }
    }

    fn looked_at_node(
        &mut self,
        number: u64,
        entries: Option<&[NodeEntry]>,
        now: std::time::Instant,
    ) {
        if entries.is_some() {
            self.schedule.answered(number, false, 0, now);
        }
        let asked = self.questions.get(&number).map(|one| one.asked.clone());
        self.remove(number);
        let Some(Asked::OnNode(scope, node)) = asked else {
            return;
        };
        match entries {
            Some(entries) => {
                let here = signals::by_service(entries);
                for (name, numbers) in self.services.get(&scope).into_iter().flatten() {
                    let here = here.get(name).map_or(&[][..], Vec::as_slice);
                    for number in numbers {
                        let outdated =
                            self.questions
                                .get(number)
                                .is_some_and(|one| match &one.known {
                                    Known::Answer(answer) => {
                                        signals::is_outdated(answer, one.position.seen, &node, here)
                                    }
                                    _ => !here.is_empty(),
                                });
                        if outdated {
                            self.schedule.name(*number, now);
                        }
                    }
                }
            }
            // A service may be new there.
            None => self.sweep_services(&scope),
        }
        let Some(signals) = self.scopes.get_mut(&scope) else {
            return;
        };
        signals.nodes.remove(&node);
        if signals.nodes.is_empty() && std::mem::take(&mut signals.again) {
            self.sweep(&scope);
        }
    }

    fn of_scope(&self, scope: &Scope) -> Vec<u64> {
        let names = self.services.get(scope);
        names
            .into_iter()
            .flat_map(|names| names.values().flatten().copied())
            .collect()
    }

    /// Counts what is under way, at most once a second; says when that is to be done.
    fn count(&mut self, now: Instant) -> Option<Instant> {
        let count_at = self.counted_at.map(|at| at + COUNTED_EVERY);
        if let Some(at) = count_at.filter(|at| now < *at) {
            return Some(at);
        }
        self.counted_at = Some(now);
        let load = self.schedule.load();
        if load == self.shared.load() {
            return None;
        }
        self.shared.set_load(load);
        if let Some(limited) = load.limited() {
            let before = self.limited_at.replace(now);
            if before.is_none_or(|at| now - at >= FORGOTTEN) {
                tracing::warn!("{limited}");
            }
        }
        Some(now + COUNTED_EVERY)
    }
}

/// How long one of so many that are held at a time may be.
fn turn(held: usize) -> Duration {
    Duration::from_millis(100)
        .saturating_mul(u32::try_from(held).unwrap_or(u32::MAX))
        .clamp(TURN_LEAST, TURN_MOST)
}

fn node_names(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Nodes(nodes) => nodes.iter().map(|node| node.name.clone()).collect(),
        _ => Vec::new(),
    }
}

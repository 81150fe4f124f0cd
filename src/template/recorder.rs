//! What one rendering shares: the answers, what was asked, the file being written and what is
//! remembered of the last one. Helpers reach it through one lock; only one rendering uses it at
//! a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use handlebars::{Helper, Output, RenderContext, RenderError};

use super::answers::Slot;
use super::closed::Plan;
use super::judge::{Standard, place_fault};
use super::listeners::Listeners;
use super::memo::Memo;
use super::slots::{Crowded, Group, Slots};
use super::source_map::Item;
use super::tables::{Made, Tables, Wanted};
use super::writer::{
    CHANGED_SECRET, END, LineMarks, POSITION, SECRET, SECRET_ENDS, Snapshot, Stop, Writer,
};
use super::{Noted, Options};
use crate::catalog::secrets::SecretPart;
use crate::catalog::{Instance, Known, Query};

/// Remembers what a rendering asked.
pub struct Recorder {
    state: Mutex<State>,
    options: Options,
    plans: BTreeMap<usize, Plan>,
}

/// What a [`Recorder`] holds.
#[derive(Default)]
pub struct State {
    // For the life of the set.
    /// The answers by their edition. Each content of each answer has a number of its own, and no
    /// number is used twice.
    slots: BTreeMap<u64, Arc<Slot>>,
    editions: BTreeMap<Query, u64>,
    next: u64,
    /// Where the configuration listens, as far as instances were judged by it.
    own: Listeners,

    // For one rendering.
    deadline: Option<Instant>,
    /// Whether items that cannot be rendered are left out.
    pub isolating: bool,
    /// Those that were.
    pub left_out: Vec<LeftOut>,
    /// What a helper left out of what it gave: what, and why, to follow "because".
    pub refused: BTreeSet<(String, String)>,
    /// What is odd in what a helper gave.
    pub noted: BTreeSet<Noted>,
    used: BTreeSet<u64>,
    /// Queries without an answer.
    pub needed: BTreeSet<Query>,
    /// Keys and folders that are demanded and not there.
    pub absent: BTreeSet<Query>,
    /// The last query of each call in the templates.
    pub calls: BTreeMap<u64, Query>,
    /// Items that were gone through, by their numbers; only when positions are wanted.
    pub items: Vec<Item>,
    /// The items of the list that was just written as lines, one a line.
    pub lines: Vec<Option<usize>>,
    /// Files that were read, and their texts.
    pub files: BTreeMap<PathBuf, Arc<str>>,
    /// The path and text of the last value written.
    pub last: Option<(String, String)>,
    /// A path that was missing, and the nearest field.
    pub near: Option<(String, String)>,
    /// The item that was being gone through when something failed, the innermost.
    pub culprit: Option<Item>,
    marked: bool,
    /// The slots before this rendering, and by it.
    before: Slots,
    pub assigned: Slots,
    /// Slots that are nearly all used.
    pub crowded: Vec<Crowded>,
    tables: Tables,
    /// Addresses and ports that keys name.
    places: BTreeSet<(String, u16)>,

    // For one file.
    writer: Option<Writer>,
    /// Where the [`Pen`] of the writer is, to tell it from the engine's own outputs.
    pen: usize,
    /// What is remembered of the file.
    pub memo: Memo,
    /// How many fragments were taken again, for tests.
    pub taken_again: usize,
}

/// An item that could not be rendered.
pub struct LeftOut {
    /// Which, and where it comes from.
    pub what: String,
    pub query: Option<Query>,
    /// Why.
    pub error: RenderError,
    pub stop: Option<Stop>,
    /// See [`State::last`] and [`State::near`].
    pub last: Option<(String, String)>,
    pub near: Option<(String, String)>,
}

/// A file that was written.
pub struct Ended {
    /// Its text.
    pub text: String,
    /// What of it came from secrets.
    pub secrets: Vec<SecretPart>,
    /// The marks of its lines.
    pub lines: Vec<LineMarks>,
    /// Why it stopped, if it did not come to its end.
    pub stop: Option<Stop>,
    /// See [`Writer::peak`].
    pub peak: usize,
    /// What is remembered of it.
    pub memo: Memo,
}

/// The mark that an item ends.
pub const ITEM_ENDS: &str = "\u{2}-\u{3}";

/// How a fragment begins.
pub enum Begun {
    /// It was written again.
    Again,
    /// It is to be rendered and ended with [`Recorder::leave`].
    Fresh,
    /// It is to be rendered, and nothing is remembered of it.
    Unknown,
}

impl Recorder {
    /// For one set of templates.
    pub fn new(options: Options, plans: BTreeMap<usize, Plan>) -> Recorder {
        Recorder {
            state: Mutex::default(),
            options,
            plans,
        }
    }

    /// What is remembered at the moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing here that the next rendering does not replace.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What templates may do.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What the body of a loop reads, if that is known.
    pub fn plan(&self, spot: usize) -> Option<&Plan> {
        self.plans.get(&spot)
    }

    // Answers.

    /// Brings the answers up to date: only those with a new revision are judged anew.
    pub fn take_in(&self, answers: &BTreeMap<Query, Known>) {
        let mut state = self.state();
        let State {
            slots,
            editions,
            next,
            own,
            ..
        } = &mut *state;
        editions.retain(|query, edition| {
            let keep = answers.contains_key(query);
            if !keep {
                slots.remove(edition);
            }
            keep
        });
        for (query, known) in answers {
            let last = editions.get(query).and_then(|edition| slots.get(edition));
            if last.is_some_and(|slot| slot.revision == known.revision) {
                continue;
            }
            let slot = Slot::new(query, known, self.standard(own), last, next);
            *next += 1;
            if let Some(former) = editions.insert(query.clone(), *next) {
                slots.remove(&former);
            }
            slots.insert(*next, Arc::new(slot));
        }
    }

    /// The answers as they were taken in.
    pub fn known(&self) -> BTreeMap<Query, Known> {
        let state = self.state();
        let slot = |edition| state.slots.get(edition);
        let known = state.editions.iter();
        known
            .filter_map(|(query, edition)| Some((query.clone(), slot(edition)?.known())))
            .collect()
    }

    fn standard<'a>(&'a self, own: &'a Listeners) -> Standard<'a> {
        Standard {
            fitness: &self.options.fitness,
            own,
        }
    }

    /// Takes note of where the configuration listens and judges the answers again that this
    /// concerns; false when there are none.
    pub fn listens(&self, listeners: Listeners) -> bool {
        let mut state = self.state();
        if state.own == listeners {
            return false;
        }
        let former = std::mem::replace(&mut state.own, listeners);
        let State {
            places,
            slots,
            editions,
            next,
            own,
            ..
        } = &mut *state;
        let turns = |address: &str, port| former.have(address, port) != own.have(address, port);
        let mut places = places.iter();
        let mut concerned = places.any(|(address, port)| turns(address, i64::from(*port)));
        for (query, edition) in editions.iter_mut() {
            let Some(slot) = slots.get(edition) else {
                continue;
            };
            let turns = |one: &Instance| turns(&one.address, one.port);
            if !slot.instances().iter().any(turns) {
                continue;
            }
            let known = slot.known();
            let judged = Slot::new(query, &known, self.standard(own), Some(slot), next);
            *next += 1;
            slots.remove(edition);
            slots.insert(*next, Arc::new(judged));
            *edition = *next;
            concerned = true;
        }
        concerned
    }

    /// Notes a query; `lacks` says of its answer that it keeps the rendering from being used.
    pub fn look_up(
        &self,
        query: &Query,
        call: Option<u64>,
        lacks: impl Fn(&Slot) -> bool,
    ) -> Option<(u64, Arc<Slot>)> {
        let mut state = self.state();
        if state.marked
            && let Some(call) = call
        {
            state.calls.insert(call, query.clone());
        }
        let found = state.editions.get(query).copied();
        let Some((edition, slot)) =
            found.and_then(|edition| Some((edition, state.slots.get(&edition)?)))
        else {
            state.needed.insert(query.clone());
            state.memo.spoil();
            return None;
        };
        let slot = Arc::clone(slot);
        state.used.insert(edition);
        state.memo.asked(edition);
        if lacks(&slot) {
            state.absent.insert(query.clone());
            state.memo.spoil();
        }
        Some((edition, slot))
    }

    /// The route table that this rendering made by these rules. What is rendered now depends on the answers that
    /// the table was made from.
    pub fn table(&self, wanted: &Wanted) -> Option<Arc<Made>> {
        let mut state = self.state();
        let State {
            used, memo, tables, ..
        } = &mut *state;
        let (made, asked) = tables.find(wanted)?;
        used.extend(asked);
        asked.iter().for_each(|edition| memo.asked(*edition));
        Some(made)
    }

    /// Keeps a route table, made from the answers of these editions, for the rest of this rendering.
    pub fn keep_table(&self, wanted: Wanted, asked: Vec<u64>, made: &Arc<Made>) {
        let mut state = self.state();
        state.tables.keep(wanted, asked, Arc::clone(made));
    }

    /// An answer by its edition.
    pub fn slot(&self, edition: u64) -> Option<Arc<Slot>> {
        self.state().slots.get(&edition).cloned()
    }

    /// Whether an answer lists a service of this name, whatever the state of its instances.
    pub fn lists_service(&self, name: &str) -> bool {
        let state = self.state();
        state.slots.values().any(|slot| slot.lists_service(name))
    }

    /// What is wrong with an address that a key names, if anything.
    pub fn address_fault(&self, address: &str, port: u16) -> Option<String> {
        let mut state = self.state();
        // Where the configuration listens may change while the key does not.
        state.memo.spoil();
        state.places.insert((address.to_owned(), port));
        place_fault(address, port, self.standard(&state.own))
    }

    /// Notes what a helper left out. It must be told again each time, so nothing is remembered of it.
    pub fn refuse(&self, what: &str, reason: &str) {
        let mut state = self.state();
        state.memo.spoil();
        state.refused.insert((what.to_owned(), reason.to_owned()));
    }

    /// Notes what is odd in what a helper gives, told each time as well.
    pub fn note(&self, code: &'static str, text: String) {
        let mut state = self.state();
        state.memo.spoil();
        state.noted.insert(Noted { code, text });
    }

    /// The slots of a name as they were. Whoever reads them reads what no answer says.
    pub fn slots_before(&self, name: &str) -> Group {
        let mut state = self.state();
        state.memo.spoil();
        state.before.group(name)
    }

    /// Notes the slots of a name; false when this rendering has assigned them already.
    pub fn assign_slots(&self, name: &str, spare: usize, group: Group) -> bool {
        let mut state = self.state();
        state.memo.spoil();
        state.crowded.extend(group.crowded(name, spare));
        state.assigned.insert(name, group)
    }

    /// Notes a file. It may be another one next time.
    pub fn read_file(&self, path: PathBuf, text: &str) {
        self.state().files.insert(path, text.into());
        self.depends_on_more();
    }

    /// Notes that what is being rendered depends on more than answers.
    pub fn depends_on_more(&self) {
        self.state().memo.spoil();
    }

    /// Whether something was missing so far, so that the text will be thrown away.
    pub fn is_incomplete(&self) -> bool {
        let state = self.state();
        !state.needed.is_empty() || !state.absent.is_empty()
    }

    /// The mark of a position, when positions are wanted.
    pub fn mark(&self, helper: &Helper<'_>) -> String {
        match helper.param(1).and_then(|at| at.value().as_u64()) {
            Some(at) if self.state().marked => format!("{POSITION}={at}{END}"),
            _ => String::new(),
        }
    }

    /// What a tag gives between the marks of what came from a secret, if it did.
    pub fn as_secret(helper: &Helper<'_>, text: String) -> String {
        let begins = match helper.param(3).map(|changed| changed.value() == true) {
            None => return text,
            Some(false) => SECRET,
            Some(true) => CHANGED_SECRET,
        };
        format!("{POSITION}{begins}{END}{text}{POSITION}{SECRET_ENDS}{END}")
    }

    /// Notes the item at which something failed, unless one further in is noted.
    pub fn note_culprit(&self, item: impl FnOnce() -> Option<(String, Option<Query>)>) {
        let mut state = self.state();
        if state.culprit.is_none() {
            state.culprit = item().map(|(what, query)| Item {
                query,
                what,
                name: None,
            });
        }
    }

    /// Whether positions are wanted.
    pub fn is_marked(&self) -> bool {
        self.state().marked
    }

    /// The mark that an item begins, when positions are wanted.
    pub fn item_begins(&self, item: impl FnOnce() -> Option<Item>) -> String {
        match self.number_item(item) {
            Some(number) => format!("{POSITION}+{number}{END}"),
            None => String::new(),
        }
    }

    /// The number of an item, when positions are wanted.
    pub fn number_item(&self, item: impl FnOnce() -> Option<Item>) -> Option<usize> {
        let mut state = self.state();
        let item = if state.marked { item()? } else { return None };
        state.items.push(item);
        Some(state.items.len() - 1)
    }

    /// Marks each line of a text that was made from a list with its item.
    pub fn mark_lines(&self, text: &str) -> Option<String> {
        let items = std::mem::take(&mut self.state().lines);
        if items.is_empty() || text.split('\n').count() != items.len() {
            return None;
        }
        let lines = text.split('\n').zip(items).map(|(line, item)| match item {
            Some(item) => format!("{POSITION}+{item}{END}{line}{POSITION}-{END}"),
            None => line.to_owned(),
        });
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    // Limits, and items that are left out.

    /// Whether the rendering has taken too long; then it is stopped.
    pub fn is_late(&self) -> bool {
        let mut state = self.state();
        let late = state.deadline.is_some_and(|end| Instant::now() > end);
        if late && let Some(writer) = &mut state.writer {
            writer.stop = Some(Stop::TooSlow);
        }
        late
    }

    /// Whether an item that is written to this output may be left out. Only what goes straight into
    /// the file can be taken back.
    pub fn isolates(&self, out: &mut dyn Output) -> bool {
        let state = self.state();
        state.isolating && state.pen == std::ptr::from_mut(out).addr()
    }

    /// How the file stands before an item.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.state().writer.as_ref()?.snapshot()
    }

    /// Takes an item that failed back out of the file, if it is the item that is wrong. What is not
    /// known yet, too large or too slow concerns the whole rendering.
    pub fn take_back(
        &self,
        snapshot: Snapshot,
        (what, query): (String, Option<Query>),
        error: RenderError,
    ) -> Result<LeftOut, RenderError> {
        if self.is_incomplete() {
            return Err(error);
        }
        let mut state = self.state();
        let State {
            writer, last, near, ..
        } = &mut *state;
        let Some(writer) = writer.as_mut() else {
            return Err(error);
        };
        if matches!(writer.stop, Some(Stop::TooLarge | Stop::TooSlow)) {
            return Err(error);
        }
        let stop = writer.stop.take();
        writer.restore(snapshot);
        Ok(LeftOut {
            what,
            query,
            error,
            stop,
            last: last.clone(),
            near: near.take(),
        })
    }

    // Fragments.

    /// Whether what is written to this output goes straight into the file, with nothing between
    /// that would change it: partials are indented on the way, and their blocks are kept aside.
    pub fn writes_straight(&self, out: &mut dyn Output) -> bool {
        let state = self.state();
        !state.marked && !state.isolating && state.pen == std::ptr::from_mut(out).addr()
    }

    /// Begins a fragment; only where [`Recorder::writes_straight`].
    pub fn enter(&self, key: &[u8], engine: &mut RenderContext<'_, '_>) -> Begun {
        let mut state = self.state();
        let State {
            slots,
            used,
            writer,
            memo,
            taken_again,
            ..
        } = &mut *state;
        let Some(writer) = writer.as_mut().filter(|writer| writer.is_between()) else {
            return Begun::Unknown;
        };
        let current = |edition: u64| slots.contains_key(&edition);
        let found = memo.enter(key, writer, notes(engine), current);
        match found {
            None => {
                writer.peak = 0;
                Begun::Fresh
            }
            Some(again) => {
                used.extend(&again.asked);
                *taken_again += 1;
                let (text, secrets) = (memo.text(&again), memo.secrets_of(&again));
                writer.again(text, secrets, again.peak, &again.after.escaper);
                let [newline, content, indent] = again.after.engine;
                engine.set_trailing_newline(newline);
                engine.set_content_produced(content);
                engine.set_indent_before_write(indent);
                Begun::Again
            }
        }
    }

    /// Refuses an empty value at the end of what is written so far, unless its line can do without it.
    pub fn end_word(&self) -> Result<(), RenderError> {
        match &mut self.state().writer {
            Some(writer) => Ok(writer.end_word()?),
            None => Ok(()),
        }
    }

    /// Ends a fragment that was begun fresh.
    pub fn leave(&self, engine: &RenderContext<'_, '_>) {
        let mut state = self.state();
        let State { writer, memo, .. } = &mut *state;
        let Some(writer) = writer else { return };
        if !writer.is_between() {
            memo.spoil();
        }
        let at = writer.text().len();
        writer.peak = memo.leave(writer.escaper(), notes(engine), at, writer.peak);
    }
}

/// The engine's notes for indenting.
pub fn notes(engine: &RenderContext<'_, '_>) -> [bool; 3] {
    [
        engine.get_trailine_newline(),
        engine.get_content_produced(),
        engine.get_indent_before_write(),
    ]
}

impl State {
    /// Before a rendering.
    pub fn begin(&mut self, before: &Slots, deadline: Instant, marked: bool) {
        self.deadline = Some(deadline);
        self.left_out.clear();
        self.refused.clear();
        self.noted.clear();
        self.before = before.clone();
        self.assigned = Slots::default();
        self.crowded.clear();
        self.used.clear();
        self.needed.clear();
        self.absent.clear();
        self.calls.clear();
        self.items.clear();
        self.lines.clear();
        self.files.clear();
        self.last = None;
        self.near = None;
        self.culprit = None;
        self.tables = Tables::default();
        self.places.clear();
        self.marked = marked;
    }

    /// After a rendering.
    pub fn end(&mut self) {
        self.tables = Tables::default();
    }

    /// Before a file: what it is written by, and where the pen is.
    pub fn begin_file(&mut self, writer: Writer, pen: &mut Pen<'_>) {
        self.culprit = None;
        self.pen = std::ptr::from_mut(pen).addr();
        if !self.marked && !self.isolating {
            self.memo.begin(writer.escaper());
        }
        self.writer = Some(writer);
    }

    /// After a file, however it ended.
    pub fn end_file(&mut self) -> Ended {
        self.pen = 0;
        let writer = self.writer.take();
        let stop = writer.as_ref().and_then(|writer| writer.stop);
        let peak = writer.as_ref().map_or(0, |writer| writer.peak);
        let (text, secrets, lines) = writer.map(Writer::finish).unwrap_or_default();
        Ended {
            text,
            secrets,
            lines,
            stop,
            peak,
            memo: std::mem::take(&mut self.memo),
        }
    }

    /// The text of a file as it was, with what of it came from secrets, if everything in it still holds.
    pub fn unchanged(&mut self) -> Option<(String, Vec<SecretPart>)> {
        let State {
            slots, used, memo, ..
        } = self;
        let (text, asked) = memo.unchanged(|edition| slots.contains_key(&edition))?;
        used.extend(asked);
        Some((text.to_owned(), memo.secrets().to_vec()))
    }

    /// The answers that were asked for, in the order of their queries.
    pub fn used(&self) -> impl Iterator<Item = (&Query, &Slot)> {
        self.editions
            .iter()
            .filter(|(_, edition)| self.used.contains(edition))
            .filter_map(|(query, edition)| Some((query, self.slots.get(edition)?.as_ref())))
    }

    /// All queries that were asked.
    pub fn asked(&self) -> BTreeSet<Query> {
        self.used()
            .map(|(query, _)| query)
            .chain(&self.needed)
            .cloned()
            .collect()
    }
}

/// The engine's way to the file.
pub struct Pen<'a>(pub &'a Recorder);

impl Output for Pen<'_> {
    fn write(&mut self, segment: &str) -> Result<(), io::Error> {
        match &mut self.0.state().writer {
            Some(writer) => writer.write(segment),
            None => Err(io::Error::other("no file is being written")),
        }
    }
}

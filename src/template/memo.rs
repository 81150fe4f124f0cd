//! Parts of the last rendering that need not be rendered again. Pure.
//!
//! A fragment is a stretch of a file: the whole of it, a tag at the top of a template, or one
//! round of a loop. What it says follows from
//!
//! * its place in the templates, which never change in one set;
//! * its key: the item, the loop's variables and the names bound outside, as far as they are read
//!   ([`super::closed`]);
//! * the contents of the answers that it asked for, each known by the number of its edition;
//! * the state in which it met the file and the engine;
//! * what is fixed for one set: parameters, environment variables, options.
//!
//! Where all of them are the same, its text is too, and so is the state that it leaves behind. A fragment
//! that read a file, or asked for what was not there, is never taken again.
//!
//! Fragments stand inside each other. Their text is not kept but pointed at, in the text of the
//! last rendering, each by its distance from the beginning of the one around it: so one that is
//! taken again moves with everything inside it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::escape::Escaper;
use super::writer::Writer;
use crate::catalog::secrets::SecretPart;

/// What a fragment is told apart by from the others inside the same one: the same bytes only for the same
/// place, item, variables and bound names.
pub type Key = Vec<u8>;

/// How a file and the engine stand between two writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where in the file's language the next value would land.
    pub escaper: Escaper,
    /// The engine's notes for indenting partials: trailing newline, content produced, indent
    /// before the next write.
    pub engine: [bool; 3],
}

/// A stretch of the last rendering.
#[derive(Debug)]
pub struct Fragment {
    start: usize,
    len: usize,
    /// The most that the file would have held while it was written, from its beginning.
    peak: usize,
    before: Arc<Standing>,
    after: Arc<Standing>,
    /// The editions of the answers it asked for, sorted.
    asked: Vec<u64>,
    reusable: bool,
    inside: BTreeMap<Key, Fragment>,
}

/// A fragment that is being written.
struct Open {
    key: Key,
    start: usize,
    before: Arc<Standing>,
    asked: Vec<u64>,
    reusable: bool,
    /// The peak of what is around it, up to its beginning.
    outer_peak: usize,
    /// What was inside it last time, and where it began then.
    old: BTreeMap<Key, Fragment>,
    old_start: usize,
    inside: BTreeMap<Key, Fragment>,
}

/// What is remembered of one file, while it is rendered and in between.
#[derive(Default)]
pub struct Memo {
    text: Arc<str>,
    /// What of it came from secrets, in its order.
    secrets: Vec<SecretPart>,
    whole: Option<Fragment>,
    open: Vec<Open>,
    standing: Option<Arc<Standing>>,
}

/// A fragment that is taken again.
pub struct Again {
    /// Where its text stands in that of the last rendering.
    pub text: Range<usize>,
    /// How it leaves file and engine.
    pub after: Arc<Standing>,
    /// The editions it asked for.
    pub asked: Vec<u64>,
    /// The most that the file would have held while it was written, from its beginning.
    pub peak: usize,
}

impl Memo {
    /// The last text, if everything in it still holds.
    pub fn unchanged(&self, current: impl Fn(u64) -> bool) -> Option<(&str, &[u64])> {
        let whole = self.whole.as_ref()?;
        let holds = whole.reusable && whole.asked.iter().all(|edition| current(*edition));
        holds.then_some((&*self.text, whole.asked.as_slice()))
    }

    /// Before a file is rendered.
    pub fn begin(&mut self, escaper: &Escaper) {
        let old = self.whole.take().map(|whole| whole.inside);
        let before = self.share(escaper, [false; 3]);
        self.open = vec![Open::new(
            Key::new(),
            0,
            before,
            0,
            old.unwrap_or_default(),
            0,
        )];
    }

    /// After it was rendered to its end.
    pub fn finish(&mut self, text: &str, secrets: &[SecretPart], peak: usize) {
        self.whole = self.open.pop().map(|open| {
            // Nothing follows it.
            let after = Arc::clone(&open.before);
            open.close(0, text.len(), peak, after).1
        });
        self.text = text.into();
        self.secrets = secrets.to_vec();
    }

    /// Begins a fragment where the writer stands, or hands out what it was last time. After one was
    /// begun, the writer's peak counts from nothing.
    /// What would grow the file past its limit is rendered: only then it is known where.
    pub fn enter(
        &mut self,
        key: &[u8],
        writer: &Writer,
        engine: [bool; 3],
        current: impl Fn(u64) -> bool,
    ) -> Option<Again> {
        let (escaper, at) = (writer.escaper(), writer.text().len());
        let around = self.open.last_mut()?;
        let (mut old, mut old_start) = (BTreeMap::new(), 0);
        if let Some((key, mut last)) = around.old.remove_entry(key) {
            old_start = around.old_start + last.start;
            let holds = last.reusable
                && last.before.engine == engine
                && last.before.escaper == *escaper
                && writer.has_room(last.peak)
                && last.asked.iter().all(|edition| current(*edition));
            if holds {
                let again = Again {
                    text: old_start..old_start + last.len,
                    after: Arc::clone(&last.after),
                    asked: last.asked.clone(),
                    peak: last.peak,
                };
                last.start = at - around.start;
                around.asked.extend(&last.asked);
                around.inside.insert(key, last);
                return Some(again);
            }
            old = last.inside;
        }
        let before = self.share(escaper, engine);
        let open = Open::new(key.to_vec(), at, before, writer.peak, old, old_start);
        self.open.push(open);
        None
    }

    /// The text of a fragment that is taken again.
    pub fn text(&self, again: &Again) -> &str {
        self.text.get(again.text.clone()).unwrap_or_default()
    }

    /// What of the last text came from secrets.
    pub fn secrets(&self) -> &[SecretPart] {
        &self.secrets
    }

    /// What of the text of a fragment that is taken again came from secrets.
    pub fn secrets_of(&self, again: &Again) -> impl Iterator<Item = SecretPart> + use<'_> {
        let Range { start, end } = again.text;
        let first = self.secrets.partition_point(|part| part.start < start);
        let parts = self.secrets.iter().skip(first);
        parts
            .take_while(move |part| part.start < end)
            .map(move |part| SecretPart {
                start: part.start - start,
                ..*part
            })
    }

    /// Ends the innermost fragment; the peak so far of what is around it.
    pub fn leave(&mut self, escaper: &Escaper, engine: [bool; 3], at: usize, peak: usize) -> usize {
        let after = self.share(escaper, engine);
        let (Some(open), Some(around)) = (self.open.pop(), self.open.last_mut()) else {
            return peak;
        };
        let outer_peak = open.outer_peak.max(peak);
        let (key, fragment) = open.close(around.start, at, peak, after);
        around.asked.extend(&fragment.asked);
        around.reusable &= fragment.reusable;
        around.inside.insert(key, fragment);
        outer_peak
    }

    /// The fragment being written asked for an answer.
    pub fn asked(&mut self, edition: u64) {
        if let Some(open) = self.open.last_mut() {
            open.asked.push(edition);
        }
    }

    /// The fragment being written, and what is around it, must be rendered again next time.
    pub fn spoil(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.reusable = false;
        }
    }

    /// Most fragments begin and end alike, at the beginning of a line: one copy is enough for them.
    fn share(&mut self, escaper: &Escaper, engine: [bool; 3]) -> Arc<Standing> {
        match &self.standing {
            Some(shared) if shared.engine == engine && shared.escaper == *escaper => {
                Arc::clone(shared)
            }
            _ => {
                let escaper = escaper.clone();
                Arc::clone(self.standing.insert(Arc::new(Standing { escaper, engine })))
            }
        }
    }
}

impl Open {
    fn new(
        key: Key,
        start: usize,
        before: Arc<Standing>,
        outer_peak: usize,
        old: BTreeMap<Key, Fragment>,
        old_start: usize,
    ) -> Open {
        Open {
            key,
            start,
            before,
            asked: Vec::new(),
            reusable: true,
            outer_peak,
            old,
            old_start,
            inside: BTreeMap::new(),
        }
    }

    fn close(
        mut self,
        around: usize,
        end: usize,
        peak: usize,
        after: Arc<Standing>,
    ) -> (Key, Fragment) {
        self.asked.sort_unstable();
        self.asked.dedup();
        self.asked.shrink_to_fit();
        let fragment = Fragment {
            start: self.start - around,
            len: end - self.start,
            peak: peak.saturating_sub(self.start),
            before: self.before,
            after,
            asked: self.asked,
            reusable: self.reusable,
            inside: self.inside,
        };
        (self.key, fragment)
    }
}

#[cfg(test)]
mod tests;

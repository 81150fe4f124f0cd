//! Where a rendering goes: bounded in size and time, escaping values by where they land, and
//! noting which part of a template each line came of.
//!
//! The engine marks what it writes with control characters that neither templates nor values may
//! hold: values stand between [`VALUE`] and [`END`], and a position between [`POSITION`] and
//! [`END`].

use std::io;
use std::sync::Arc;
use std::time::Instant;

use handlebars::Output;

use super::escape::{Escaper, Grammar, Origin, Refusal};
use crate::catalog::secrets::SecretPart;

/// Begins a value. [`OPERATOR`] follows where the operator set it.
pub const VALUE: char = '\u{1}';
/// Right behind [`VALUE`]: a parameter of the settings or a variable of the environment. No value begins with it.
pub const OPERATOR: char = VALUE;
/// Begins a position: `N` says that what follows is text from position N on, `=N` that it is what the tag
/// at position N stands for, `>N` that a partial is entered there, `<` that it is left, `+N` that item N of
/// those gone through begins, `-` that it ends; [`SECRET`], [`CHANGED_SECRET`] and [`SECRET_ENDS`] stand around what
/// came from a secret.
pub const POSITION: char = '\u{2}';
/// Ends either.
pub const END: char = '\u{3}';
/// The position that a secret begins, as it was read.
pub const SECRET: &str = "!";
/// The position that something begins that a helper made of a secret.
pub const CHANGED_SECRET: &str = "!!";
/// The position that either ends.
pub const SECRET_ENDS: &str = "!.";

/// Why writing ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A value does not fit where it stands.
    Refused(Refusal),
    /// The file grew too large.
    TooLarge,
    /// The rendering took too long.
    TooSlow,
}

/// Positions of one output line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineMarks {
    /// Its stretches in order, as far as it is known who wrote them.
    pub segments: Vec<Segment>,
    /// The numbers of the items that were being gone through, outermost first.
    pub items: Vec<usize>,
}

/// A stretch of an output line that one position wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its first column, from 0, and its length, in characters.
    pub column: usize,
    pub length: usize,
    /// The position.
    pub at: usize,
    /// For text of a template: lines and, in the last of them, characters since it began there.
    pub offset: usize,
    pub inner: usize,
    /// Whether it is what a tag stands for; else it is text of the template.
    pub tag: bool,
    /// The includes around it, outermost first.
    pub includes: Arc<[usize]>,
    /// The numbers of the items within whose rounds it was written, outermost first.
    pub items: Arc<[usize]>,
}

/// One file being written.
pub struct Writer {
    text: String,
    escaper: Escaper,
    max_bytes: usize,
    deadline: Instant,
    writes: u32,
    frame: Frame,
    /// Why it stopped.
    pub stop: Option<Stop>,
    /// The most bytes that were judged against the limit; see [`super::memo`].
    pub peak: usize,
    /// What came from secrets, in the order of the text.
    secrets: Vec<SecretPart>,
    marks: Option<Marks>,
}

#[derive(Debug, Default)]
enum Frame {
    #[default]
    Literal,
    Value(String),
    Position(String),
}

/// How a file stood; what was written since can be taken back.
pub struct Snapshot {
    length: usize,
    escaper: Escaper,
    peak: usize,
    /// How many lines had marks, and the rest of the marks without these.
    marks: Option<(usize, Marks)>,
}

#[derive(Default)]
struct Marks {
    at: Option<usize>,
    /// Whether `at` is a tag.
    tag: bool,
    /// Lines, and characters of the last, written since the position began.
    offset: usize,
    inner: usize,
    /// Characters of the line so far.
    column: usize,
    includes: Arc<[usize]>,
    items: Vec<usize>,
    lines: Vec<LineMarks>,
    line: LineMarks,
}

impl Writer {
    /// An empty file. With `marked`, positions are expected and kept.
    pub fn new(grammar: Grammar, max_bytes: usize, deadline: Instant, marked: bool) -> Writer {
        Writer {
            text: String::new(),
            escaper: Escaper::new(grammar),
            max_bytes,
            deadline,
            writes: 0,
            frame: Frame::Literal,
            stop: None,
            peak: 0,
            secrets: Vec::new(),
            marks: marked.then(Marks::default),
        }
    }

    /// What was written so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the next value would land.
    pub fn escaper(&self) -> &Escaper {
        &self.escaper
    }

    /// Whether no value or position is only half written.
    pub fn is_between(&self) -> bool {
        matches!(self.frame, Frame::Literal)
    }

    /// How it stands, unless a value or position is half written.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.is_between().then(|| Snapshot {
            length: self.text.len(),
            escaper: self.escaper.clone(),
            peak: self.peak,
            marks: self.marks.as_ref().map(|marks| {
                let rest = Marks {
                    includes: Arc::clone(&marks.includes),
                    items: marks.items.clone(),
                    lines: Vec::new(),
                    line: marks.line.clone(),
                    ..*marks
                };
                (marks.lines.len(), rest)
            }),
        })
    }

    /// Takes back what was written since.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.text.truncate(snapshot.length);
        let kept = |part: &SecretPart| part.start < snapshot.length;
        self.secrets.truncate(self.secrets.partition_point(kept));
        self.escaper = snapshot.escaper;
        self.peak = snapshot.peak;
        self.frame = Frame::Literal;
        if let (Some(marks), Some((count, mut former))) = (&mut self.marks, snapshot.marks) {
            former.lines = std::mem::take(&mut marks.lines);
            former.lines.truncate(count);
            *marks = former;
        }
    }

    /// Whether so many bytes more are allowed.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.text.len() + bytes <= self.max_bytes
    }

    /// Writes what was written here before, and goes on as it went on then.
    pub fn again(
        &mut self,
        text: &str,
        secrets: impl Iterator<Item = SecretPart>,
        peak: usize,
        after: &Escaper,
    ) {
        let begin = self.text.len();
        self.peak = self.peak.max(begin + peak);
        self.secrets.extend(secrets.map(|part| SecretPart {
            start: begin + part.start,
            ..part
        }));
        self.text.push_str(text);
        self.escaper.clone_from(after);
    }

    /// Refuses an empty value that the line cannot do without, if the word ends here.
    pub fn end_word(&mut self) -> io::Result<()> {
        match self.escaper.missing() {
            Some(refusal) => Err(self.stop(Stop::Refused(refusal))),
            None => Ok(()),
        }
    }

    /// The text, what of it came from secrets, and the marks of its lines.
    pub fn finish(self) -> (String, Vec<SecretPart>, Vec<LineMarks>) {
        let marks = self.marks.map(|mut marks| {
            marks.lines.push(std::mem::take(&mut marks.line));
            marks.lines
        });
        (self.text, self.secrets, marks.unwrap_or_default())
    }

    fn stop(&mut self, why: Stop) -> io::Error {
        self.stop = Some(why);
        io::Error::other("stopped")
    }

    fn put(&mut self, segment: &str) -> io::Result<()> {
        let mut rest = segment;
        loop {
            match std::mem::take(&mut self.frame) {
                Frame::Literal => {
                    let end = rest.find([VALUE, POSITION]).unwrap_or(rest.len());
                    self.literal(&rest[..end])?;
                    let mut letters = rest[end..].chars();
                    self.frame = match letters.next() {
                        None => return Ok(()),
                        Some(VALUE) => Frame::Value(String::new()),
                        Some(_) => Frame::Position(String::new()),
                    };
                    rest = letters.as_str();
                }
                Frame::Value(mut value) => match rest.split_once(END) {
                    None => {
                        value.push_str(rest);
                        self.frame = Frame::Value(value);
                        return Ok(());
                    }
                    Some((inside, after)) => {
                        value.push_str(inside);
                        self.value(&value)?;
                        rest = after;
                    }
                },
                Frame::Position(mut position) => match rest.split_once(END) {
                    None => {
                        position.push_str(rest);
                        self.frame = Frame::Position(position);
                        return Ok(());
                    }
                    Some((inside, after)) => {
                        position.push_str(inside);
                        self.position(&position);
                        rest = after;
                    }
                },
            }
        }
    }

    fn position(&mut self, position: &str) {
        let start = self.text.len();
        let begins = |changed| SecretPart {
            start,
            len: 0,
            changed,
        };
        match (position, &mut self.marks) {
            (SECRET, _) => self.secrets.push(begins(false)),
            (CHANGED_SECRET, _) => self.secrets.push(begins(true)),
            (SECRET_ENDS, _) => {
                let last = self.secrets.last_mut().into_iter();
                last.for_each(|part| part.len = start.saturating_sub(part.start));
            }
            (_, Some(marks)) => marks.position(position),
            (_, None) => {}
        }
    }

    fn literal(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let result = self.escaper.literal(text, &mut self.text);
        if let Some(marks) = &mut self.marks {
            marks.wrote(text);
        }
        result.map_err(|refusal| self.stop(Stop::Refused(refusal)))
    }

    fn value(&mut self, value: &str) -> io::Result<()> {
        let before = self.text.len();
        let (value, origin) = match value.strip_prefix(OPERATOR) {
            Some(value) => (value, Origin::Operator),
            None => (value, Origin::Catalog),
        };
        let result = self.escaper.value(value, origin, &mut self.text);
        if let Some(marks) = &mut self.marks {
            marks.wrote(&self.text[before..]);
        }
        result.map_err(|refusal| self.stop(Stop::Refused(refusal)))
    }
}

impl Output for Writer {
    fn write(&mut self, segment: &str) -> Result<(), io::Error> {
        self.writes = self.writes.wrapping_add(1);
        if self.writes.is_multiple_of(256) && Instant::now() > self.deadline {
            return Err(self.stop(Stop::TooSlow));
        }
        let size = self.text.len() + segment.len();
        if size > self.max_bytes {
            return Err(self.stop(Stop::TooLarge));
        }
        self.peak = self.peak.max(size);
        self.put(segment)
    }
}

impl Marks {
    fn position(&mut self, text: &str) {
        let number = |text: &str| text.parse::<usize>().ok();
        match text.split_at_checked(1) {
            Some(("<", _)) => {
                let without = self.includes.len().saturating_sub(1);
                self.includes = self.includes[..without].into();
                self.at = None;
            }
            Some((">", id)) => {
                let id = number(id);
                self.includes = self.includes.iter().copied().chain(id).collect();
            }
            Some(("+", item)) => self.items.extend(number(item)),
            Some(("-", _)) => {
                self.items.pop();
            }
            Some(("=", id)) => self.begin(number(id), true),
            _ => self.begin(number(text), false),
        }
    }

    fn begin(&mut self, at: Option<usize>, tag: bool) {
        (self.at, self.tag) = (at, tag);
        (self.offset, self.inner) = (0, 0);
    }

    fn wrote(&mut self, text: &str) {
        for (index, part) in text.split('\n').enumerate() {
            if index > 0 {
                self.offset += 1;
                self.inner = 0;
                self.column = 0;
                self.lines.push(std::mem::take(&mut self.line));
            }
            if part.is_empty() {
                continue;
            }
            let length = part.chars().count();
            if let Some(at) = self.at {
                self.line.segments.push(Segment {
                    column: self.column,
                    length,
                    at,
                    offset: if self.tag { 0 } else { self.offset },
                    inner: if self.tag { 0 } else { self.inner },
                    tag: self.tag,
                    includes: Arc::clone(&self.includes),
                    items: self.items.as_slice().into(),
                });
                for item in &self.items {
                    if !self.line.items.contains(item) {
                        self.line.items.push(*item);
                    }
                }
            }
            self.column += length;
            self.inner += length;
        }
    }
}

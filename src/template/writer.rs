//! Where a rendering goes: bounded in size and time, escaping values by where they land, and
//! noting which part of a template each line came of.
//!
//! The engine marks what it writes with control characters that neither templates nor values may
//! hold: values stand between [`VALUE`] and [`END`], and a position between [`POSITION`] and
//! [`END`].

use std::io;
use std::time::Instant;

use handlebars::Output;

use super::escape::{Escaper, Grammar, Refusal};

/// Begins a value from the catalog.
pub const VALUE: char = '\u{1}';
/// Begins a position: `N` says that what follows came of position N, `>N` that a partial is
/// entered there, `<` that it is left.
pub const POSITION: char = '\u{2}';
/// Ends either.
pub const END: char = '\u{3}';

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

/// Positions of one output line: the innermost with its includes, and all that wrote to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineMarks {
    /// The position that began the line with its line offset, then the includes around it.
    pub begun: Option<(usize, usize, Vec<usize>)>,
    /// Every position that wrote to the line, includes too.
    pub touched: Vec<usize>,
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
    /// Line ends written since the position began.
    offset: usize,
    includes: Vec<usize>,
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
                    at: marks.at,
                    offset: marks.offset,
                    includes: marks.includes.clone(),
                    lines: Vec::new(),
                    line: marks.line.clone(),
                };
                (marks.lines.len(), rest)
            }),
        })
    }

    /// Takes back what was written since.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.text.truncate(snapshot.length);
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
    pub fn again(&mut self, text: &str, peak: usize, after: &Escaper) {
        self.peak = self.peak.max(self.text.len() + peak);
        self.text.push_str(text);
        self.escaper.clone_from(after);
    }

    /// The text, and the marks of its lines.
    pub fn finish(mut self) -> (String, Vec<LineMarks>) {
        self.escaper.end(&mut self.text);
        let marks = self.marks.map(|mut marks| {
            marks.lines.push(std::mem::take(&mut marks.line));
            marks.lines
        });
        (self.text, marks.unwrap_or_default())
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
                    self.literal(&rest[..end]);
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
                        if let Some(marks) = &mut self.marks {
                            marks.position(&position);
                        }
                        rest = after;
                    }
                },
            }
        }
    }

    fn literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.escaper.literal(text, &mut self.text);
        if let Some(marks) = &mut self.marks {
            marks.wrote(text);
        }
    }

    fn value(&mut self, value: &str) -> io::Result<()> {
        let result = self.escaper.value(value, &mut self.text);
        if let Some(marks) = &mut self.marks {
            marks.wrote(value);
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
        if text == "<" {
            self.includes.pop();
            self.at = None;
        } else if let Some(id) = text.strip_prefix('>').and_then(|id| id.parse().ok()) {
            self.includes.push(id);
        } else if let Ok(id) = text.parse() {
            self.at = Some(id);
            self.offset = 0;
        }
    }

    fn wrote(&mut self, text: &str) {
        for (index, part) in text.split('\n').enumerate() {
            if index > 0 {
                self.offset += 1;
                self.lines.push(std::mem::take(&mut self.line));
            }
            if part.is_empty() {
                continue;
            }
            let Some(at) = self.at else { continue };
            let line = &mut self.line;
            if line.begun.is_none() {
                let includes = self.includes.iter().rev().copied().collect();
                line.begun = Some((at, self.offset, includes));
            }
            for id in self.includes.iter().copied().chain([at]) {
                if !line.touched.contains(&id) {
                    line.touched.push(id);
                }
            }
        }
    }
}

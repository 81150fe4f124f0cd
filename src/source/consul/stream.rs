//! A long list of JSON that is read while it arrives: each entry as soon as it is whole, so that no
//! more than one entry and what is kept of the others is in memory. Pure.
//!
//! It finds where entries begin and end; what is inside one is judged by the reader of that entry.

/// Where in the list the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before `[`.
    Start,
    /// After `[`: the first entry, or the end.
    First,
    /// In an entry, or before one that must come.
    Entry,
    /// After `]`.
    End,
}

/// Takes a list in pieces.
#[derive(Debug)]
pub(super) struct Stream {
    at: At,
    /// How many brackets and braces of the entry are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The part of the current entry that has arrived.
    entry: Vec<u8>,
    /// How many entries were whole.
    entries: usize,
}

impl Stream {
    pub(super) fn new() -> Stream {
        Stream {
            at: At::Start,
            depth: 0,
            in_string: false,
            escaped: false,
            entry: Vec::new(),
            entries: 0,
        }
    }

    /// Takes the next piece; `read` gets each entry that is whole by now.
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        mut read: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut begin = 0;
        for (index, byte) in piece.iter().enumerate() {
            match self.at {
                At::Start | At::End | At::First if is_blank(*byte) => begin = index + 1,
                At::Start if *byte == b'[' => {
                    self.at = At::First;
                    begin = index + 1;
                }
                At::Start | At::End => {
                    return Err(self.wrong("does not have the shape of this answer"));
                }
                At::First if *byte == b']' => {
                    self.at = At::End;
                    begin = index + 1;
                }
                At::First => {
                    self.at = At::Entry;
                    self.step(*byte);
                }
                At::Entry if self.ends(*byte) => {
                    let rest = piece.get(begin..index).unwrap_or_default();
                    self.whole(rest, &mut read)?;
                    begin = index + 1;
                    if *byte == b']' {
                        self.at = At::End;
                    }
                }
                At::Entry => self.step(*byte),
            }
        }
        if self.at == At::Entry {
            self.entry
                .extend_from_slice(piece.get(begin..).unwrap_or_default());
        }
        Ok(())
    }

    /// After the last piece.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.at {
            At::End => Ok(()),
            _ => Err(self.wrong("ends too early")),
        }
    }

    /// Whether this byte ends the entry.
    fn ends(&self, byte: u8) -> bool {
        !self.in_string && self.depth == 0 && matches!(byte, b',' | b']')
    }

    /// Takes a byte of an entry.
    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            // The reader of the entry finds the one that is too many.
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn whole(
        &mut self,
        rest: &[u8],
        read: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let result = if self.entry.is_empty() {
            read(rest)
        } else {
            self.entry.extend_from_slice(rest);
            read(&self.entry)
        };
        self.entry.clear();
        self.entries += 1;
        // What an entry says of lines counts from its beginning.
        result.map_err(|error| format!("entry {}: {error}", self.entries))
    }

    fn wrong(&self, what: &str) -> String {
        format!("the body {what} (after {} entries)", self.entries)
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

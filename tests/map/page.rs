//! `tests/README.md` as text and tables. Cells are wrapped over several rows, so that the page is readable as it is; a
//! row that begins with an empty cell goes on with the row above it.

use std::fmt::{self, Display};

/// The tables whose cells are wrapped: the head, and the width of each column.
const WRAPPED: [([&str; 3], [usize; 3]); 4] = [
    (PROMISES, [7, 42, 60]),
    (FAULTS, [3, 32, 74]),
    (RUNS, [3, 51, 55]),
    (["figure", "goal", "measured"], [32, 15, 62]),
];
pub const PROMISES: [&str; 3] = ["promise", "what it says", "entries"];
pub const FAULTS: [&str; 3] = ["id", "fault", "tests"];
pub const RUNS: [&str; 3] = ["run", "what the others did", "what Gatewright does"];

/// The parts of the page in their order.
pub struct Page(Vec<Part>);

enum Part {
    Line(String),
    Table(Table),
}

/// A table whose cells are whole.
pub struct Table {
    head: [&'static str; 3],
    widths: [usize; 3],
    rows: Vec<[String; 3]>,
}

impl Page {
    /// Reads the page.
    pub fn read(text: &str) -> Page {
        let mut parts = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((head, widths)) = WRAPPED.iter().find(|(head, _)| *head == cells(line)) else {
                parts.push(Part::Line(line.to_owned()));
                continue;
            };
            let mut rows: Vec<[String; 3]> = Vec::new();
            lines.next(); // the dashes below the head
            while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                let cells = cells(line);
                match rows.last_mut() {
                    Some(row) if cells[0].is_empty() => {
                        for (whole, cell) in row
                            .iter_mut()
                            .zip(cells)
                            .filter(|(_, cell)| !cell.is_empty())
                        {
                            whole.push(' ');
                            whole.push_str(&cell);
                        }
                    }
                    _ => rows.push(cells),
                }
            }
            parts.push(Part::Table(Table {
                head: *head,
                widths: *widths,
                rows,
            }));
        }
        Page(parts)
    }

    /// The tables with this head.
    pub fn tables(&mut self, head: [&'static str; 3]) -> impl Iterator<Item = &mut Table> {
        self.0.iter_mut().filter_map(move |part| match part {
            Part::Table(table) if table.head == head => Some(table),
            _ => None,
        })
    }

    /// The first lines of all items of lists.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Line(line) if line.starts_with("* ") => Some(line.as_str()),
            _ => None,
        })
    }
}

impl Table {
    /// The rows below the head.
    pub fn rows(&mut self) -> impl Iterator<Item = &mut [String; 3]> {
        self.rows.iter_mut()
    }
}

fn cells(line: &str) -> [String; 3] {
    let inner = line.trim_start_matches('|').trim_end_matches('|');
    let mut cells = inner.split(" | ").map(|cell| cell.trim().to_owned());
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Line(line) => writeln!(f, "{line}")?,
                Part::Table(table) => table.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.widths;
        let [id, what, then] = self.head;
        writeln!(f, "| {id:first$} | {what:second$} | {then:third$} |")?;
        writeln!(
            f,
            "|{:-<1$}|{2:-<3$}|{4:-<5$}|",
            "",
            first + 2,
            "",
            second + 2,
            "",
            third + 2
        )?;
        for row in &self.rows {
            let columns = [0, 1, 2].map(|column| wrapped(&row[column], self.widths[column]));
            let height = columns.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..height {
                let cell = |column: usize| columns[column].get(line).map_or("", String::as_str);
                writeln!(
                    f,
                    "| {:first$} | {:second$} | {:third$} |",
                    cell(0),
                    cell(1),
                    cell(2)
                )?;
            }
        }
        Ok(())
    }
}

/// A cell as lines of at most `width` characters, as far as its words allow.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

//! What was measured, as a table, as bars and as JSON. It measures nothing and judges nothing: whoever
//! adds a row says whether its goal is met.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::numbers::written;
use super::options::Shape;
use support::Outcome;

/// The widest bar, in characters.
const WIDTH: f64 = 40.0;

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The part of the benchmark.
    pub part: &'static str,
    /// The HAProxy version; empty when none was there.
    pub haproxy: String,
    /// Who was measured.
    pub who: String,
    /// How many other servers the configuration had.
    pub servers: usize,
    /// What Consul had, where that says it better.
    pub shape: Option<Shape>,
    /// What came out, in words.
    pub measured: String,
    /// What is wanted, in words; empty when nothing is.
    pub goal: &'static str,
    /// Whether the goal is met.
    pub met: Option<bool>,
    /// What must not happen and did, a sentence each: the benchmark fails then. Never a time.
    pub broken: Vec<String>,
    /// The figures, by name.
    pub figures: Map<String, Value>,
}

impl Row {
    /// Adds a figure for the JSON, rounded to three digits after the point.
    pub fn figure(mut self, name: &str, value: impl Into<f64>) -> Row {
        let rounded = (value.into() * 1000.0).round() / 1000.0;
        self.figures.insert(name.to_owned(), json!(rounded));
        self
    }
}

/// One bar of a chart.
#[derive(Debug, Clone)]
struct Bar {
    chart: &'static str,
    label: String,
    value: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    bars: Vec<Bar>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a line; it is shown at once, so that a long run can be followed.
    pub fn row(&mut self, row: Row) {
        say(&format!(
            "  {}, {} {}: {}",
            row.part,
            row.who,
            about(&row),
            row.measured
        ));
        self.rows.push(row);
    }

    /// Adds a bar to the chart of this title.
    pub fn bar(&mut self, chart: &'static str, label: String, value: f64) {
        self.bars.push(Bar {
            chart,
            label,
            value,
        });
    }

    /// Adds a remark below the table.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// Everything that must not happen and did.
    pub fn broken(&self) -> Vec<String> {
        let of_row = |row: &Row| {
            let place = format!("{}, {} {}", row.part, row.who, about(row));
            let broken = row.broken.iter();
            broken
                .map(|why| format!("{place}: {why}"))
                .collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of_row).collect()
    }

    /// The table, as Markdown.
    pub fn table(&self) -> String {
        let size = match self.rows.iter().all(|row| row.shape.is_some()) {
            true => "services × instances",
            false => "other servers",
        };
        let head = ["", size, "HAProxy", "measured", "goal", "met"].map(str::to_owned);
        let mut lines = vec![head];
        for row in &self.rows {
            lines.push([
                format!("{}: {}", row.part, row.who),
                match row.shape {
                    Some(shape) => shape.to_string(),
                    None => super::numbers::thousands(row.servers as u64),
                },
                row.haproxy.clone(),
                row.measured.clone(),
                row.goal.to_owned(),
                match row.met {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "",
                }
                .to_owned(),
            ]);
        }
        let width = |column: usize| {
            let cells = lines.iter().map(|line| line[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    /// The bars, chart by chart; each chart has its own scale.
    pub fn charts(&self) -> String {
        let mut text = String::new();
        let mut titles: Vec<&str> = Vec::new();
        for bar in &self.bars {
            if !titles.contains(&bar.chart) {
                titles.push(bar.chart);
            }
        }
        for title in titles {
            let bars: Vec<&Bar> = self.bars.iter().filter(|bar| bar.chart == title).collect();
            let most = bars
                .iter()
                .map(|bar| bar.value)
                .fold(f64::EPSILON, f64::max);
            let label = bars.iter().map(|bar| bar.label.chars().count()).max();
            let label = label.unwrap_or(0);
            let _ = writeln!(text, "\n{title}");
            for bar in bars {
                let length = (bar.value / most * WIDTH).ceil() as usize;
                let _ = writeln!(
                    text,
                    "  {:<label$} {:>6} {}",
                    bar.label,
                    written(bar.value),
                    "█".repeat(length.max(1))
                );
            }
        }
        text
    }

    /// Writes everything as one JSON object.
    pub fn write(&self, path: &Path, frame: Value) -> Outcome<()> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut line = json!({
                    "part": row.part, "who": row.who, "haproxy": row.haproxy,
                    "measured": row.measured, "goal": row.goal,
                    "met": row.met, "figures": row.figures,
                });
                match row.shape {
                    Some(shape) => {
                        line["services"] = json!(shape.services);
                        line["instances"] = json!(shape.instances);
                    }
                    None => line["other_servers"] = json!(row.servers),
                }
                line
            })
            .collect();
        let whole = json!({"run": frame, "rows": rows, "notes": self.notes});
        std::fs::write(path, format!("{whole:#}\n"))
            .map_err(|error| format!("{} cannot be written: {error}.", path.display()))
    }
}

/// Something on the way, to standard error: standard output holds the result alone.
pub fn say(text: &str) {
    anstream::eprintln!("{text}");
}

fn about(row: &Row) -> String {
    let size = match row.shape {
        Some(shape) => format!("with {shape} instances"),
        None => {
            let servers = super::numbers::thousands(row.servers as u64);
            format!("with {servers} other servers")
        }
    };
    if row.haproxy.is_empty() {
        size
    } else {
        format!("{size} on HAProxy {}", row.haproxy)
    }
}

//! What is wanted of each size, and times as words and figures. Pure.

use super::changes::Times;
use super::probe::LIMIT;
use crate::numbers::{Samples, written};
use crate::options::Shape;
use crate::report::Row;

/// A most, and the same in words.
type Most<T> = (T, &'static str);

/// Limits of times in milliseconds, and the same in words.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the median.
    pub median: f64,
    /// Of each.
    pub each: f64,
    /// In words.
    pub text: &'static str,
}

/// A change of health.
pub const HEALTH: Limits = limits(100.0, 2_000.0, "p50 ≤ 0.1 s, max ≤ 2 s");
/// The second change of a service within a minute.
pub const SECOND: Limits = limits(100.0, 100.0, "each ≤ 0.1 s");
/// No limits.
pub const NONE: Limits = limits(f64::INFINITY, f64::INFINITY, "");

/// What is wanted of a size.
#[derive(Debug, Clone, Copy)]
pub struct Goals {
    /// Connections at most.
    pub connections: Most<usize>,
    /// Milliseconds until the first set.
    pub first: Most<f64>,
    /// A new instance or address.
    pub places: Limits,
    /// Requests a second at rest.
    pub idle: Most<f64>,
    /// Megabytes at rest and at most.
    pub memory: ([f64; 2], &'static str),
    /// Whether times are compared with the change made by hand instead.
    pub by_floor: bool,
}

impl Goals {
    /// Those of a size, if it has any.
    pub fn of(shape: Shape) -> Option<Goals> {
        match (shape.services, shape.instances) {
            (10, 3) => Some(Goals {
                connections: (16, "≤ 16"),
                first: (300.0, "≤ 0.3 s"),
                places: NONE,
                idle: (1.0, "≤ 1 request/s"),
                memory: ([10.0, f64::INFINITY], "≤ 10 MB at rest"),
                by_floor: true,
            }),
            (300, 10) => Some(Goals {
                connections: (60, "≤ 60"),
                first: (1_500.0, "≤ 1.5 s"),
                places: limits(1_000.0, 5_000.0, "p50 ≤ 1 s, max ≤ 5 s"),
                idle: (3.0, "≤ 3 requests/s"),
                memory: ([25.0, f64::INFINITY], "≤ 25 MB at rest"),
                by_floor: false,
            }),
            (1_000, 10) => Some(Goals {
                connections: (60, "≤ 60"),
                first: (3_000.0, "≤ 3 s"),
                places: limits(1_000.0, 10_000.0, "p50 ≤ 1 s, max ≤ 10 s"),
                idle: (10.0, "≤ 10 requests/s"),
                memory: ([45.0, 45.0], "≤ 45 MB at rest and at most"),
                by_floor: false,
            }),
            (1, 10_000) => Some(Goals {
                connections: (60, "≤ 60"),
                first: (f64::INFINITY, ""),
                places: NONE,
                idle: (1.0, "≤ 1 request/s"),
                memory: ([45.0, 45.0], "≤ 45 MB at rest and at most"),
                by_floor: false,
            }),
            _ => None,
        }
    }
}

/// Times as figures, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    count: usize,
    late: usize,
    /// The value in the middle.
    pub median: Option<f64>,
    high: Option<f64>,
    most: Option<f64>,
}

impl Told {
    /// The figures of these times.
    pub fn of(times: &Times) -> Told {
        let samples = Samples::milliseconds(times.times.clone());
        Told {
            count: samples.count(),
            late: times.late,
            median: samples.median(),
            high: samples.percentile(0.9),
            most: samples.percentile(1.0),
        }
    }

    /// Whether they are within limits; `None` where nothing was measured.
    pub fn meets(&self, limits: Limits) -> Option<bool> {
        Some(self.median? <= limits.median && self.most? <= limits.each && self.late == 0)
    }

    /// Puts them into a row.
    pub fn row(&self, mut row: Row) -> Row {
        row.measured = match (self.median, self.high, self.most) {
            (Some(median), Some(high), Some(most)) => format!(
                "p50 {}, p90 {}, max {}, {} samples",
                time(median),
                time(high),
                time(most),
                self.count
            ),
            _ => "nothing was measured".to_owned(),
        };
        if self.late > 0 {
            let limit = LIMIT.as_secs();
            row.measured
                .push_str(&format!(", {} not within {limit} s", self.late));
        }
        self.figures(row, "")
    }

    /// Median, most and count in a few words.
    pub fn short(&self) -> String {
        match (self.median, self.most) {
            (Some(median), Some(most)) => {
                format!("p50 {}, max {} of {}", time(median), time(most), self.count)
            }
            _ => "none".to_owned(),
        }
    }

    /// Adds the figures to a row, each with this before its name.
    pub fn figures(&self, mut row: Row, before: &str) -> Row {
        row = row.figure(&format!("{before}samples"), self.count as f64);
        row = row.figure(&format!("{before}late"), self.late as f64);
        let named = [
            ("p50_ms", self.median),
            ("p90_ms", self.high),
            ("max_ms", self.most),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                row = row.figure(&format!("{before}{name}"), value);
            }
        }
        row
    }
}

/// Milliseconds in words, as seconds from one second on. What was given up is longer than its limit.
pub fn time(milliseconds: f64) -> String {
    let limit = LIMIT.as_secs_f64() * 1_000.0;
    if milliseconds == limit {
        format!("> {} s", LIMIT.as_secs())
    } else if milliseconds < 1_000.0 {
        format!("{} ms", written(milliseconds))
    } else {
        format!("{:.2} s", milliseconds / 1_000.0)
    }
}

const fn limits(median: f64, each: f64, text: &'static str) -> Limits {
    Limits { median, each, text }
}

//! Samples as figures: median, percentiles and how they are written. Pure.

use std::time::Duration;

/// Measured values, sorted.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Times, in milliseconds.
    pub fn milliseconds(times: impl IntoIterator<Item = Duration>) -> Samples {
        let mut values: Vec<f64> = times.into_iter().map(milliseconds).collect();
        values.sort_by(f64::total_cmp);
        Samples(values)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which the given share (0 to 1) of all lie: the nearest rank.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    /// The value in the middle.
    pub fn median(&self) -> Option<f64> {
        self.percentile(0.5)
    }
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A number with as many digits as say something: 0.42, 5.3, 1,234.
pub fn written(value: f64) -> String {
    match value.abs() {
        size if size < 1.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => thousands(value.round() as u64),
    }
}

/// A whole number with a comma after each three digits.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

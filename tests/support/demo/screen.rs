//! What the quick start prints: headings, bars and verdicts. Colours only on a terminal and without NO_COLOR.

use std::io::IsTerminal;
use std::time::Duration;

use crate::traffic::Report;

/// The widest bar, in characters.
const WIDTH: u64 = 40;

/// The terminal, or whatever takes the output.
pub struct Screen {
    colour: bool,
    bar: &'static str,
}

impl Screen {
    /// Looks what the output can show.
    #[allow(clippy::new_without_default)] // it looks at the environment
    pub fn new() -> Screen {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        Screen {
            colour: std::io::stdout().is_terminal() && !set("NO_COLOR"),
            bar: if locale.contains("utf-8") || locale.contains("utf8") {
                "█"
            } else {
                "#"
            },
        }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        anstream::println!("{text}");
    }

    /// The heading of a step.
    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.paint("1", text));
    }

    /// How the requests were spread, a bar for each instance.
    pub fn spread(&self, names: &[&str], report: &Report) {
        let most = report.answers.values().copied().max().unwrap_or(0).max(1);
        for name in names {
            let count = report.answers.get(*name).copied().unwrap_or(0);
            let bar = self
                .bar
                .repeat(usize::try_from(count * WIDTH / most).unwrap_or(0));
            self.line(&format!(
                "  {name:<10} {count:>4} {}",
                self.paint("36", &bar)
            ));
        }
    }

    /// The end of a step: what it took and how many requests failed meanwhile.
    pub fn verdict(&self, good: bool, took: Duration, sent: u64, failed: u64) {
        let word = if good {
            self.paint("32", "as expected")
        } else {
            self.paint("31", "NOT as expected")
        };
        self.line(&format!(
            "  {word}: took {:.1} s, {failed} of {sent} requests failed",
            took.as_secs_f64()
        ));
    }

    /// A note that explains.
    pub fn note(&self, text: &str) {
        self.line(&self.paint("2", &format!("  {text}")));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

//! The command line of the benchmark. Pure; it never touches the files it names.

use std::path::PathBuf;

use support::{Outcome, tools};

/// How to call it.
pub const USAGE: &str = "\
tests/bench/run [--quick] [--haproxy VERSION]… [--sizes N,…] [--parts PART,…] [--json FILE]

  --quick              fewer samples, 10 and 1,000 servers, the first HAProxy only; within 90 s
  --haproxy VERSION    2.6, 2.8, 3.0 or 3.2; may be given more than once; else 2.6 and 3.2
  --sizes N,…          how many other servers the configuration has; else 10,1000,10000
  --parts PART,…       latency, churn, cost, alone; else all of them
  --json FILE          writes the figures there as well

CONSUL_TEMPLATE and FABIO name programs that are measured beside Gatewright.";

/// The parts of the benchmark, in the order in which they are shown.
pub const PARTS: [&str; 4] = ["latency", "churn", "cost", "alone"];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Less of everything.
    pub quick: bool,
    /// The HAProxy versions.
    pub haproxy: Vec<String>,
    /// Other servers in the configuration, ascending.
    pub sizes: Vec<usize>,
    /// The parts that run.
    pub parts: Vec<String>,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
    /// consul-template, when it is to be measured.
    pub consul_template: Option<PathBuf>,
    /// Fabio, when it is to be measured.
    pub fabio: Option<PathBuf>,
}

impl Options {
    /// Reads the words after the program's name. `None` when help is asked for.
    pub fn read(words: impl IntoIterator<Item = String>) -> Outcome<Option<Options>> {
        let mut options = Options {
            quick: false,
            haproxy: Vec::new(),
            sizes: Vec::new(),
            parts: Vec::new(),
            json: None,
            consul_template: program("CONSUL_TEMPLATE"),
            fabio: program("FABIO"),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value."));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                // Cargo adds it for every benchmark.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--haproxy" => options
                    .haproxy
                    .push(one_of(&value()?, &tools::HAPROXY_VERSIONS)?),
                "--sizes" => {
                    for size in value()?.split(',') {
                        options.sizes.push(read_size(size)?);
                    }
                }
                "--parts" => {
                    for part in value()?.split(',') {
                        options.parts.push(one_of(part, &PARTS)?);
                    }
                }
                "--json" => options.json = Some(PathBuf::from(value()?)),
                _ => return Err(format!("The benchmark knows no {word}.\n\n{USAGE}")),
            }
        }
        options.fill();
        Ok(Some(options))
    }

    fn fill(&mut self) {
        if self.haproxy.is_empty() {
            let usual: &[&str] = if self.quick {
                &["2.6"]
            } else {
                &["2.6", "3.2"]
            };
            self.haproxy = usual.iter().map(|version| (*version).to_owned()).collect();
        }
        if self.sizes.is_empty() {
            let usual: &[usize] = if self.quick {
                &[10, 1_000]
            } else {
                &[10, 1_000, 10_000]
            };
            self.sizes = usual.to_vec();
        }
        self.sizes.sort_unstable();
        self.sizes.dedup();
        if self.parts.is_empty() {
            self.parts = PARTS.iter().map(|part| (*part).to_owned()).collect();
        }
    }

    /// Whether a part runs.
    pub fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|name| name == part)
    }
}

fn one_of(word: &str, known: &[&str]) -> Outcome<String> {
    if known.contains(&word) {
        Ok(word.to_owned())
    } else {
        Err(format!("{word} is none of {}.", known.join(", ")))
    }
}

fn read_size(word: &str) -> Outcome<usize> {
    match word.trim().parse() {
        Ok(size) if (10..=20_000).contains(&size) && size % 10 == 0 => Ok(size),
        _ => Err(format!(
            "--sizes takes multiples of 10 from 10 to 20000, not {word}."
        )),
    }
}

fn program(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    (!value.is_empty()).then(|| PathBuf::from(value))
}

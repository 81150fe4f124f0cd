//! The command line of the benchmark. Pure; it never touches the files it names.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use support::{Outcome, tools};

/// How to call it.
pub const USAGE: &str = "\
tests/bench/run [--quick] [--haproxy VERSION]… [--sizes N,…] [--parts PART,…] [--json FILE]

  --quick              fewer samples, 10 and 1,000 servers, the first HAProxy only; within 90 s
  --haproxy VERSION    2.6, 2.8, 3.0 or 3.2; may be given more than once; else 2.6 and 3.2
  --sizes N,…          how many other servers the configuration has; else 10,1000,10000
  --parts PART,…       latency, churn, cost, alone; else these four. scale and neighbour run only when named
  --json FILE          writes the figures there as well

For the part scale, which measures many services on a Consul with its default limits (HAProxy 3.2 unless named):
  --scale SxI,…        services × instances of each; else 10x3,300x10,1000x10,1x10000
  --ways WAY,…         template, routes; else both
  --nodes N            nodes of the instances; else one for each 10 instances, 100 at most
  --rest SECONDS       how long idle requests are counted; else 65, longer than a blocking query, or 20 with --quick
Each size takes 2 to 5 minutes by each way, with --quick half of that.

The part neighbour measures what the data of one service cost all others, in 8 cases; 2 minutes for each version.

CONSUL_TEMPLATE and FABIO name programs that are measured beside Gatewright.";

/// The parts that run unless some are named, in the order in which they are shown.
pub const USUAL_PARTS: [&str; 4] = ["latency", "churn", "cost", "alone"];
/// The parts that run only when they are named.
pub const SCALE: &str = "scale";
pub const NEIGHBOUR: &str = "neighbour";

/// How many services Consul has, and how many instances each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub services: usize,
    pub instances: usize,
}

impl Shape {
    /// All instances.
    pub fn total(self) -> usize {
        self.services * self.instances
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = super::numbers::thousands(self.services as u64);
        write!(f, "{services} × {}", self.instances)
    }
}

/// Which configuration the part scale measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A template that names each service.
    Template,
    /// `gatewright run --routes` on the tags of the services.
    Routes,
}

impl Way {
    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Way::Template => "template",
            Way::Routes => "routes",
        }
    }
}

/// What the part scale measures.
#[derive(Debug, Clone)]
pub struct Scale {
    /// The HAProxy versions.
    pub haproxy: Vec<String>,
    /// The sizes.
    pub shapes: Vec<Shape>,
    /// The configurations.
    pub ways: Vec<Way>,
    /// How many nodes, when it does not depend on the size.
    pub nodes: Option<usize>,
    /// How long idle requests are counted.
    pub rest: Duration,
}

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
    /// What the part scale measures.
    pub scale: Scale,
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
            scale: Scale {
                haproxy: Vec::new(),
                shapes: Vec::new(),
                ways: Vec::new(),
                nodes: None,
                rest: Duration::ZERO,
            },
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
                        let known = [USUAL_PARTS.as_slice(), &[SCALE, NEIGHBOUR]].concat();
                        options.parts.push(one_of(part, &known)?);
                    }
                }
                "--scale" => {
                    for shape in value()?.split(',') {
                        options.scale.shapes.push(read_shape(shape)?);
                    }
                }
                "--ways" => {
                    for way in value()?.split(',') {
                        options.scale.ways.push(match way {
                            "template" => Way::Template,
                            "routes" => Way::Routes,
                            _ => return Err(format!("{way} is none of template, routes.")),
                        });
                    }
                }
                "--nodes" => options.scale.nodes = Some(read_number(&value()?, 1..=5_000)?),
                "--rest" => {
                    let seconds = read_number(&value()?, 20..=600)?;
                    options.scale.rest = Duration::from_secs(seconds as u64);
                }
                "--json" => options.json = Some(PathBuf::from(value()?)),
                _ => return Err(format!("The benchmark knows no {word}.\n\n{USAGE}")),
            }
        }
        options.fill();
        Ok(Some(options))
    }

    fn fill(&mut self) {
        self.fill_scale();
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
            self.parts = USUAL_PARTS.map(str::to_owned).into();
        }
    }

    fn fill_scale(&mut self) {
        let scale = &mut self.scale;
        scale.haproxy = match self.haproxy.as_slice() {
            [] => vec!["3.2".to_owned()],
            named => named.to_vec(),
        };
        if scale.shapes.is_empty() {
            scale.shapes = [(10, 3), (300, 10), (1_000, 10), (1, 10_000)]
                .map(|(services, instances)| Shape {
                    services,
                    instances,
                })
                .into();
        }
        if scale.ways.is_empty() {
            scale.ways = vec![Way::Template, Way::Routes];
        }
        if scale.rest.is_zero() {
            scale.rest = Duration::from_secs(if self.quick { 20 } else { 65 });
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

fn read_shape(word: &str) -> Outcome<Shape> {
    let (services, instances) = word
        .split_once('x')
        .ok_or_else(|| format!("--scale takes sizes such as 300x10, not {word}."))?;
    Ok(Shape {
        services: read_number(services, 1..=5_000)?,
        instances: read_number(instances, 2..=10_000)?,
    })
}

fn read_number(word: &str, range: RangeInclusive<usize>) -> Outcome<usize> {
    let number = word.trim().parse().ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("{word} is no number from {least} to {most}.")
        })
}

fn program(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    (!value.is_empty()).then(|| PathBuf::from(value))
}

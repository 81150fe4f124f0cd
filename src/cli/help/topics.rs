//! The topics of `gatewright help`. Each page is a Markdown file that lies where a reader of the repository looks for
//! it; what a table of the program says is written from that table.

use crate::diagnostic::codes;
use crate::lint;
use crate::status::metrics::FAMILIES;
use crate::template::helpers::reference::reference_markdown;

use super::super::EXIT_CODES;

/// A topic.
pub struct Topic {
    /// What `gatewright help` is given.
    pub name: &'static str,
    /// The topic in a line, for the list of topics.
    pub about: &'static str,
    /// Its Markdown file.
    file: &'static str,
    /// What follows the file, from a table of the program.
    table: fn() -> String,
}

impl Topic {
    /// The page as Markdown.
    pub fn page(&self) -> String {
        self.file.to_owned() + &(self.table)()
    }
}

/// `topic!(NAME, ABOUT, PATH of the file, table)`.
macro_rules! topic {
    ($name:literal, $about:literal, $path:literal) => {
        topic!($name, $about, $path, String::new)
    };
    ($name:literal, $about:literal, $path:literal, $table:expr) => {
        Topic {
            name: $name,
            about: $about,
            file: include_str!($path),
            table: $table,
        }
    };
}

/// Every topic, in the order of the list.
#[rustfmt::skip] // One topic, a line.
pub const TOPICS: &[Topic] = &[
    topic!("settings", "every key of the settings file", "../../../examples/settings/README.md", settings),
    topic!("templates", "the language of templates, with all helpers", "../../../templates/README.md", language),
    topic!("escaping", "how values are escaped, and which instances are left out", "escaping.md"),
    topic!("consul", "token, outages, and many services", "consul.md"),
    topic!("serf", "a Serf cluster instead of Consul", "../../../examples/serf/README.md"),
    topic!("file", "a catalog file instead of Consul", "../../../examples/file/README.md"),
    topic!("modes", "how HAProxy is reloaded, started and confirmed", "../../../haproxy/README.md"),
    topic!("changes", "what is applied without a reload, and how servers drain", "changes.md"),
    topic!("guard", "what vanishes in mass, and how to release it", "guard.md"),
    topic!("promises", "the ten promises, how they are kept, and the limits", "promises.md"),
    topic!("status", "what a sidecar tells, on its socket and by HTTP; the log", "status.md"),
    topic!("states", "the word for the whole, and what to do about it", "states.md"),
    topic!("metrics", "every metric for Prometheus", "metrics.md", metrics),
    topic!("alerts", "what to alert on", "alerts.md"),
    topic!("troubleshooting", "from a question or a message to its cause", "troubleshooting.md"),
    topic!("security", "what is promised, against whom; secrets", "security.md"),
    topic!("ci", "templates in CI: catalogs, expected texts, reports", "../../../examples/ci/README.md"),
    topic!("lints", "what `check` warns of, with examples; how to allow it", "lints.md", lint::reference),
    topic!("codes", "the word in brackets of a message: meaning and remedy", "codes.md", code_list),
    topic!("exit-codes", "the exit codes of all commands", "exit-codes.md", exit_codes),
    topic!("migrate", "from consul-template", "migrate.md"),
    topic!("fabio", "routes by the tags of services", "fabio.md"),
    topic!("stacks", "consul-template, Fabio, Serf: feature by feature", "../../../examples/README.md"),
    topic!("airavata", "Thrift and Apache Airavata's gateways", "../../../examples/airavata/README.md"),
    topic!("benchmark", "latency, churn, cost and size, measured", "../../../tests/bench/README.md"),
];

fn settings() -> String {
    let keys = include_str!("../../../examples/settings/gatewright.toml");
    format!("\n## All keys\n\n```toml\n{keys}```\n")
}

fn language() -> String {
    String::from("\n") + &reference_markdown()
}

fn metrics() -> String {
    let mut list = String::from("\n");
    for (name, kind, labels, meaning) in FAMILIES {
        let kind = format!("{kind:?}").to_lowercase();
        let with = if labels.is_empty() { "" } else { "; labels: " };
        list.push_str(&format!("* `{name}` ({kind}{with}{labels}): {meaning}\n"));
    }
    list
}

fn code_list() -> String {
    let entry = |one: &codes::Code| format!("\n## {}\n\n{} {}\n", one.code, one.what, one.help);
    codes::CODES.iter().map(entry).collect()
}

fn exit_codes() -> String {
    let lines = EXIT_CODES.split_once('\n').map_or("", |(_, lines)| lines);
    format!("\n```\n{lines}\n```\n")
}

//! The table of all helpers, in the order of the reference. Each entry has examples, which a test
//! renders from the catalog that the reference shows.

mod catalog;
mod formats;
mod haproxy;
mod lists;
mod logic;
mod settings;
mod text;

use super::entry::{Entry, Example, Group};

/// As many parameters as one likes.
const MANY: usize = 64;

const fn eg(template: &'static str, output: &'static str) -> Example {
    Example { template, output }
}

const PARTS: [&[Entry]; 9] = [
    catalog::TABLE,
    haproxy::TABLE,
    settings::TABLE,
    lists::TABLE,
    text::TABLE,
    logic::COMPARISON,
    logic::NUMBERS,
    formats::TABLE,
    logic::BLOCKS,
];

const COUNT: usize = {
    let mut count = 0;
    let mut part = 0;
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

/// Every helper.
pub static TABLE: &[Entry] = &{
    let mut all = [Entry::of(Group::Catalog); COUNT];
    let (mut part, mut to) = (0, 0);
    while part < PARTS.len() {
        let mut from = 0;
        while from < PARTS[part].len() {
            all[to] = PARTS[part][from];
            (from, to) = (from + 1, to + 1);
        }
        part += 1;
    }
    all
};

/// The `name=value` pairs: their names, kinds and meanings.
pub const PAIRS: &[(&str, &str, &str)] = &[
    ("tag", "text", "Only instances with this tag."),
    (
        "status",
        "text",
        "\"any\", or the states that come through: passing, warning, critical, maintenance; several with commas.",
    ),
    (
        "near",
        "text",
        "The name of a node, or \"_agent\": the nearest come first.",
    ),
    (
        "filter",
        "text",
        "An expression for Consul's filter parameter.",
    ),
    (
        "nodeMeta",
        "text",
        "Only of nodes with this metadata: \"key:value,key:value\".",
    ),
    ("connect", "truth", "Ask for the Connect-capable endpoints."),
    ("dc", "text", "The datacenter that is asked."),
    ("ns", "text", "The namespace (Consul Enterprise)."),
    (
        "partition",
        "text",
        "The admin partition (Consul Enterprise).",
    ),
    (
        "options",
        "text",
        "Keywords for every server line; written out in the template, because it may hold several words.",
    ),
    (
        "weight",
        "truth",
        "Whether each line says the weight that Consul has for a passing instance; false.",
    ),
    (
        "id",
        "truth",
        "Whether each line says the server's id; true.",
    ),
    (
        "name",
        "text",
        "The beginning of the servers' names; it says whose slots are whose.",
    ),
    (
        "spare",
        "number",
        "How many spare servers there are at least after a reload; 4.",
    ),
    (
        "prefix",
        "text",
        "How a tag begins that is a route; the parameter tag_prefix, or \"urlprefix-\".",
    ),
    (
        "overrides",
        "text",
        "The key, and the folder of keys, that hold lines of routes; the parameter overrides, or \"fabio/config\". Empty for none.",
    ),
    (
        "service",
        "text",
        "The name of a service behind a TMultiplexedProcessor; none.",
    ),
    (
        "framed",
        "truth",
        "Whether the service wants framed messages, as TNonblockingServer and its kin do; false.",
    ),
    (
        "exception",
        "truth",
        "Whether an exception that the method does not declare (TApplicationException) counts as an answer as well; false.",
    ),
    ("includeZero", "truth", "Whether 0 counts as something."),
];

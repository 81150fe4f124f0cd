//! Backends that have no server at all when the catalog shows nothing, because nothing else is said for that case.
//! The text is followed as it would be rendered, line by line.

use super::super::shape::Shape;
use super::Walk;
use crate::haproxy::config::is_section_keyword;
use crate::template::outline::{At, Block, Expression, Node, Outlines, each_node};

/// Stands for a value in a line.
const VALUE: char = '\u{1}';

/// Where in a configuration the text is.
#[derive(Default)]
pub(super) struct Flow {
    /// The line so far.
    line: String,
    section: Option<Section>,
    /// The blocks around, outermost first.
    blocks: Vec<Around>,
}

/// A block around the text.
struct Around {
    /// The loop that may have no round, if it is one.
    empties: Option<At>,
    /// Whether it has an `{{else}}`.
    otherwise: bool,
    /// Whether it asks if a list of the catalog holds anything.
    asks: bool,
    /// Whether `{{else}}` was passed.
    turned: bool,
}

/// A backend or listen section.
struct Section {
    kind: String,
    /// Its name, unless a value is in it.
    name: Option<String>,
    /// The blocks around its first line.
    depth: usize,
    /// Whether it has servers at all times, or answers without any.
    settled: bool,
    /// What its servers come from.
    from: Option<At>,
    /// The helper that writes them, if it is no loop.
    helper: bool,
}

/// Whether a condition asks how many servers are there: then their absence is thought of.
pub(super) fn asks_how_many(outlines: &Outlines) -> bool {
    let mut found = false;
    for nodes in &outlines.nodes {
        each_node(nodes, &mut |node| {
            if let Node::Text(text) = node {
                found |= ["nbsrv(", "srv_is_up(", "connslots("]
                    .iter()
                    .any(|word| text.contains(word));
            }
        });
    }
    found
}

impl Walk<'_> {
    pub(super) fn flow_text(&mut self, text: &str) {
        let mut parts = text.split('\n').peekable();
        while let Some(part) = parts.next() {
            let Some(flow) = &mut self.flow else { return };
            flow.line.push_str(part);
            if parts.peek().is_some() {
                self.flow_line();
            }
        }
    }

    pub(super) fn flow_prints(&mut self, at: At, expression: &Expression) {
        let call = match expression {
            Expression::Call(call) => Some((call.name.as_str(), call.parameters.first())),
            _ => None,
        };
        let list = match call {
            Some(("servers", Some(list))) => Some(self.shape(at, list)),
            _ => None,
        };
        let Some(flow) = &mut self.flow else { return };
        match (call, list) {
            (Some(("servers", _)), Some(list)) => {
                let from = list.may_be_empty().then_some(at);
                flow.servers(from, flow.blocks.len(), true);
            }
            // Spare ones are always there, disabled.
            (Some(("slots", _)), _) => flow.servers(None, 0, true),
            _ => flow.line.push(VALUE),
        }
    }

    pub(super) fn flow_enters(&mut self, block: &Block, value: &Shape) {
        let Some(flow) = &mut self.flow else { return };
        let is_loop = block.call.name == "each";
        let asks =
            matches!(block.call.name.as_str(), "if" | "with") && asks_list(&block.call.parameters);
        flow.blocks.push(Around {
            empties: (is_loop && value.may_be_empty()).then_some(block.at),
            otherwise: block.inverse.is_some(),
            asks,
            turned: false,
        });
    }

    pub(super) fn flow_turns(&mut self) {
        if let Some(around) = self.flow.as_mut().and_then(|flow| flow.blocks.last_mut()) {
            around.turned = true;
        }
    }

    pub(super) fn flow_leaves(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.blocks.pop();
        }
    }

    /// The end of a template.
    pub(super) fn flow_ends(&mut self) {
        self.flow_line();
        self.close();
        self.flow = None;
    }

    /// A line is whole.
    fn flow_line(&mut self) {
        let Some(flow) = &mut self.flow else { return };
        let line = std::mem::take(&mut flow.line);
        let mut words = line.split_whitespace();
        let Some(keyword) = words.next() else { return };
        if is_section_keyword(keyword) {
            self.close();
            let Some(flow) = &mut self.flow else { return };
            let name = words.next().filter(|name| !name.contains(VALUE));
            flow.section = matches!(keyword, "backend" | "listen").then(|| Section {
                kind: keyword.to_owned(),
                name: name.map(str::to_owned),
                depth: flow.blocks.len(),
                settled: false,
                from: None,
                helper: false,
            });
            return;
        }
        match keyword {
            "server" => flow.server_line(),
            "server-template" => flow.servers(None, 0, false),
            _ if answers(keyword, words.next().unwrap_or_default()) => flow.servers(None, 0, false),
            _ => {}
        }
    }

    /// The section ends.
    fn close(&mut self) {
        let Some(section) = self.flow.as_mut().and_then(|flow| flow.section.take()) else {
            return;
        };
        let (Some(at), false) = (section.from, section.settled || self.asks_servers) else {
            return;
        };
        let which = match &section.name {
            Some(name) => format!("the {} `{name}`", section.kind),
            None => format!("this {}", section.kind),
        };
        let (place, message, help) = match section.helper {
            true => (
                self.outlines.word(at, "servers", ""),
                format!(
                    "When these servers are none, {which} has no server at all, and HAProxy answers 503 to everybody."
                ),
                "Write them by {{#each}} with an {{else}} that says what is to be then, or add a line `server … backup`.",
            ),
            false => (
                self.outlines.tag(at),
                format!(
                    "This loop has no {{{{else}}}}: when it has no round, {which} has no server at all, and HAProxy answers 503 to everybody."
                ),
                "Say after {{else}} what is to be then: a server of your own, `http-request return status 503` with a page, or a comment that 503 is meant. A line `server … backup` beside the loop helps, too.",
            ),
        };
        self.warn("no-else", place, message, help.to_owned());
    }
}

impl Flow {
    /// A line with a server. It may not be there if a loop around it, within the section, has no round.
    fn server_line(&mut self) {
        let depth = self.section.as_ref().map_or(0, |section| section.depth);
        let loops = self.blocks.iter().enumerate().skip(depth);
        let mut empties = loops.filter_map(|(index, around)| {
            let at = around.empties.filter(|_| !around.turned)?;
            Some((index + 1, at))
        });
        match empties.next() {
            Some((blocks, at)) => self.servers(Some(at), blocks, false),
            None => self.servers(None, 0, false),
        }
    }

    /// Servers that `from`, if anything, may write none of. Only the first `blocks` of the blocks around can say what
    /// is to be then.
    fn servers(&mut self, from: Option<At>, blocks: usize, helper: bool) {
        let Some(section) = &mut self.section else {
            return;
        };
        let around = self.blocks.iter().take(blocks).enumerate();
        let thought_of = around
            .filter(|(_, around)| !around.turned)
            .any(|(index, around)| around.asks || (around.otherwise && index >= section.depth));
        match from.filter(|_| !thought_of) {
            None => section.settled = true,
            Some(at) if section.from.is_none() => {
                section.from = Some(at);
                section.helper = helper;
            }
            Some(_) => {}
        }
    }
}

/// Whether a list of the catalog is asked for in parameters.
fn asks_list(parameters: &[Expression]) -> bool {
    parameters.iter().any(|one| match one {
        Expression::Call(call) => {
            matches!(
                call.name.as_str(),
                "service" | "connect" | "services" | "nodes" | "ls" | "tree"
            ) || asks_list(&call.parameters)
        }
        _ => false,
    })
}

/// Whether a line makes a backend answer without a server.
fn answers(keyword: &str, action: &str) -> bool {
    match keyword {
        "redirect" | "dispatch" | "use_backend" | "default_backend" | "errorfile"
        | "errorfiles" | "http-error" | "stats" | "use-fcgi-app" | "transparent" => true,
        "mode" => action == "log",
        "http-request" => matches!(
            action,
            "return" | "deny" | "redirect" | "reject" | "tarpit" | "use-service" | "silent-drop"
        ),
        "tcp-request" => action == "reject",
        "option" => action == "transparent",
        _ => false,
    }
}

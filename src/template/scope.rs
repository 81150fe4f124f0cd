//! What names stand for at a place in a template, as far as it can be read off the text: the fields
//! of an item of the catalog, or nothing at the top. Pure. Where it is not certain, nothing is said.

use handlebars::Path;
use handlebars::template::{HelperTemplate, Parameter, TemplateElement as Element};

use super::helpers::{self, Action, Reads};
use super::rewrite::{head, raw};

/// What `this` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// An object with these fields; none at the top of a template.
    Fields(&'static [&'static str]),
    /// Something else.
    Unknown,
}

const INSTANCE: &[&str] = &[
    "Node",
    "NodeID",
    "NodeAddress",
    "NodeDatacenter",
    "NodeTaggedAddresses",
    "NodeMeta",
    "ID",
    "Name",
    "Address",
    "Port",
    "ServiceTaggedAddresses",
    "ServiceMeta",
    "Tags",
    "Status",
    "Weights",
];
const NODE: &[&str] = &[
    "Node",
    "ID",
    "Address",
    "Datacenter",
    "TaggedAddresses",
    "Meta",
];

/// What `this` is inside a block.
pub fn inside(block: &HelperTemplate, outer: Scope) -> Scope {
    match head(&block.name) {
        "if" | "unless" | "raw" | "let" => outer,
        "each" => match query(block.params.first()) {
            Some(Reads::Service | Reads::Connect) => Scope::Fields(INSTANCE),
            Some(Reads::Services) => Scope::Fields(&["Name", "Tags"]),
            Some(Reads::Nodes) => Scope::Fields(NODE),
            Some(Reads::Ls | Reads::Tree) => Scope::Fields(&["Key", "Path", "Value"]),
            _ => Scope::Unknown,
        },
        _ => Scope::Unknown,
    }
}

/// What a parameter reads from the catalog, if it is a call that does.
fn query(parameter: Option<&Parameter>) -> Option<Reads> {
    let Some(Parameter::Subexpression(sub)) = parameter else {
        return None;
    };
    let Element::Expression(call) = sub.element.as_ref() else {
        return None;
    };
    match helpers::find(head(&call.name))?.action {
        Action::Query(reads) => Some(reads),
        _ => None,
    }
}

/// The names that a block binds.
pub fn binds(block: &HelperTemplate) -> Vec<String> {
    use handlebars::template::BlockParam;
    let name = |parameter: &Parameter| match parameter {
        Parameter::Name(name) => Some(name.clone()),
        other => Some(head(other).to_owned()).filter(|name| !name.is_empty()),
    };
    match &block.block_param {
        Some(BlockParam::Single(one)) => name(one).into_iter().collect(),
        Some(BlockParam::Pair((one, two))) => name(one).into_iter().chain(name(two)).collect(),
        _ => Vec::new(),
    }
}

/// The name that a condition asks for and that is never there, and the fields that are.
pub fn never_there<'a>(
    block: &'a HelperTemplate,
    scope: Scope,
    bound: &[String],
) -> Option<(&'a str, &'static [&'static str])> {
    let (Scope::Fields(known), "if" | "unless") = (scope, head(&block.name)) else {
        return None;
    };
    let Some(Parameter::Path(path @ Path::Relative(_))) = block.params.first() else {
        return None;
    };
    let first = raw(path).split('.').next().unwrap_or_default();
    let plain = first
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let there = known.contains(&first) || bound.iter().any(|name| name == first);
    (plain && !first.is_empty() && first != "this" && !there).then_some((first, known))
}

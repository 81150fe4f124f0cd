//! What names stand for at a place in a template, as far as it can be read off the text: the fields
//! of an item of the catalog, or nothing at the top. Pure. Where it is not certain, nothing is said.

use handlebars::Path;
use handlebars::template::{HelperTemplate, Parameter, TemplateElement as Element};

use super::helpers::{self, Action, Reads};
use super::rewrite::{head, raw};
use super::shape::{Fields, INSTANCE, KEY, NODE, SERVICE};

/// What `this` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// An item with these fields.
    Fields(&'static Fields),
    /// Nothing, at the top of a template.
    Nothing,
    /// Something else.
    Unknown,
}

/// What `this` is inside a block.
pub fn inside(block: &HelperTemplate, outer: Scope) -> Scope {
    match head(&block.name) {
        "if" | "unless" | "raw" | "let" => outer,
        "each" => match query(block.params.first()) {
            Some(Reads::Service | Reads::Connect) => Scope::Fields(&INSTANCE),
            Some(Reads::Services) => Scope::Fields(&SERVICE),
            Some(Reads::Nodes) => Scope::Fields(&NODE),
            Some(Reads::Ls | Reads::Tree | Reads::SafeLs | Reads::SafeTree) => Scope::Fields(&KEY),
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

/// A name that a block binds, and what it stands for.
pub type Bound = (String, Scope);

/// The names that a block binds.
pub fn binds(block: &HelperTemplate) -> Vec<Bound> {
    use handlebars::template::BlockParam;
    let name = |parameter: &Parameter| match parameter {
        Parameter::Name(name) => Some(name.clone()),
        other => Some(head(other).to_owned()).filter(|name| !name.is_empty()),
    };
    let item = match head(&block.name) {
        "each" => inside(block, Scope::Unknown),
        _ => Scope::Unknown,
    };
    let (first, second) = match &block.block_param {
        Some(BlockParam::Single(one)) => (name(one), None),
        Some(BlockParam::Pair((one, two))) => (name(one), name(two)),
        _ => (None, None),
    };
    let first = first.map(|name| (name, item));
    first
        .into_iter()
        .chain(second.map(|name| (name, Scope::Unknown)))
        .collect()
}

/// The names of a path that begins here; an empty one where it is no plain path.
fn steps(path: &Path) -> impl Iterator<Item = &str> {
    let text = match path {
        Path::Relative(_) => raw(path),
        Path::Local(_) => "",
    };
    let text = text.strip_prefix("./").unwrap_or(text);
    let text = text.strip_prefix("this.").unwrap_or(text);
    text.split(['.', '/'])
}

/// The field that a path names and that consul-template has, but this program leaves out.
pub fn left_out<'a>(path: &'a Path, scope: Scope, bound: &[Bound]) -> Option<&'a str> {
    let mut steps = steps(path);
    let mut name = steps.next()?;
    let mut scope = scope;
    if let Some((_, inner)) = bound.iter().rev().find(|(bound, _)| bound == name) {
        scope = *inner;
        name = steps.next()?;
    }
    let Scope::Fields(known) = scope else {
        return None;
    };
    let absent = known.field(name).is_none();
    (absent && helpers::absent_field(name).is_some()).then_some(name)
}

/// The name that a condition asks for and that is never there, and the fields that are.
pub fn never_there<'a>(
    block: &'a HelperTemplate,
    scope: Scope,
    bound: &[Bound],
) -> Option<(&'a str, Vec<&'static str>)> {
    let known: Vec<&str> = match scope {
        Scope::Fields(fields) => fields.names().collect(),
        Scope::Nothing => Vec::new(),
        Scope::Unknown => return None,
    };
    if !matches!(head(&block.name), "if" | "unless") {
        return None;
    }
    let Some(Parameter::Path(path @ Path::Relative(_))) = block.params.first() else {
        return None;
    };
    let first = raw(path).split('.').next().unwrap_or_default();
    let plain = first
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let there = known.contains(&first) || bound.iter().any(|(name, _)| name == first);
    (plain && !first.is_empty() && first != "this" && !there).then_some((first, known))
}

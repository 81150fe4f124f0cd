//! Whether what a tag writes came from a secret: a key's value, a file, or metadata under a name such as
//! `password`. Read off the compiled templates. Pure. Where that is not certain, it counts as a secret.
//!
//! A value reaches a tag only by a call in the tag, or by a name or `this` of a block or include around the tag.
//! What decides a condition or a query is not written by it.

use handlebars::template::{
    DecoratorTemplate, HelperTemplate, Parameter, TemplateElement as Element,
};
use handlebars::{Path, PathSeg};

use super::helpers::{self, Action, Reads};
use super::rewrite::{head, is_path};
use super::scope;
use super::shape::KEY;
use crate::catalog::secrets::is_secret_name;

/// What of a secret a value may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Nothing.
    #[default]
    None,
    /// The secret or a part of it, as it was read.
    Whole,
    /// What a helper made of it.
    Changed,
}

/// Helpers that give one of their parameters as it is.
const CHOOSING: [&str; 3] = ["and", "default", "or"];
/// Helpers that give parts of their first parameter as they are.
const SELECTING: [&str; 8] = [
    "byKey", "byTag", "first", "last", "limit", "sortBy", "uniq", "where",
];
/// The same, by the name of a field.
const LOOKING_UP: [&str; 2] = ["index", "lookup"];

/// What the names at a place in a template may hold.
pub struct Flows<'a> {
    /// Names of metadata that is secret.
    patterns: &'a [String],
    /// What includes may pass to what they include, by an earlier walk.
    included: Flow,
    /// What `this` holds where no block is around.
    bottom: Flow,
    scopes: Vec<Scope>,
    /// What the includes of this walk pass.
    pub passed: Flow,
}

/// What a block binds.
struct Scope {
    names: Vec<String>,
    /// Whether `this` changes, too.
    this: bool,
    flow: Flow,
    /// Whether the names around it may be those of other places.
    moved: bool,
}

impl Flows<'_> {
    /// At the top of a template, or of a partial. `included` is what includes may pass.
    pub fn new(patterns: &[String], included: Flow, is_partial: bool) -> Flows<'_> {
        Flows {
            patterns,
            included,
            bottom: if is_partial { included } else { Flow::None },
            scopes: Vec::new(),
            passed: Flow::None,
        }
    }

    /// How many blocks are around.
    pub fn depth(&self) -> usize {
        self.scopes.len()
    }

    /// Goes into a block.
    pub fn enter(&mut self, block: &HelperTemplate) {
        let name = head(&block.name);
        if matches!(name, "if" | "unless" | "raw") {
            return;
        }
        let names = scope::binds(block).into_iter().map(|(name, _)| name);
        self.scopes.push(Scope {
            names: names.collect(),
            this: name != "let",
            flow: self.most(block),
            moved: false,
        });
    }

    /// Goes into a body that is rendered elsewhere.
    pub fn enter_moved(&mut self) {
        self.scopes.push(Scope {
            names: Vec::new(),
            this: true,
            flow: self.included,
            moved: true,
        });
    }

    /// Goes back to where so many blocks were around.
    pub fn leave(&mut self, depth: usize) {
        self.scopes.truncate(depth);
    }

    /// Takes note of what an include passes: its parameters, and all that is around.
    pub fn include(&mut self, partial: &DecoratorTemplate) {
        let given = partial.params.iter().chain(partial.hash.values());
        let given = given.map(|one| self.parameter(one)).max();
        self.passed = self
            .passed
            .max(self.anything())
            .max(given.unwrap_or_default());
    }

    /// What a tag writes.
    pub fn tag(&self, tag: &HelperTemplate) -> Flow {
        match is_path(tag) {
            true => self.parameter(&tag.name),
            false => self.call(tag),
        }
    }

    /// Whether a helper is given what another one has made of a secret.
    pub fn is_changed(&self, call: &HelperTemplate) -> bool {
        self.most(call) == Flow::Changed
    }

    /// What a call gives.
    fn call(&self, call: &HelperTemplate) -> Flow {
        let name = head(&call.name);
        let first = call.params.first().map(|one| self.parameter(one));
        let first = first.unwrap_or_default();
        let most = self.most(call);
        match helpers::find(name).map(|entry| &entry.action) {
            Some(Action::Query(reads)) => match reads {
                Reads::Key | Reads::Ls | Reads::Tree | Reads::SafeLs | Reads::SafeTree => {
                    Flow::Whole
                }
                Reads::KeyOrDefault => most.max(Flow::Whole),
                _ => Flow::None,
            },
            Some(Action::File) => Flow::Whole,
            Some(Action::Addresses | Action::Routes) => Flow::None,
            Some(Action::Parameter(_) | Action::Environment(_)) => most,
            Some(Action::Raw | Action::Servers | Action::Slots) => most,
            _ if LOOKING_UP.contains(&name) && self.names_a_secret(call) => first.max(Flow::Whole),
            _ if LOOKING_UP.contains(&name) || SELECTING.contains(&name) => first,
            _ if CHOOSING.contains(&name) => most,
            _ if most == Flow::None => Flow::None,
            _ => Flow::Changed,
        }
    }

    /// Whether a call looks a field up by the name of a secret.
    fn names_a_secret(&self, call: &HelperTemplate) -> bool {
        let mut texts = call.params.iter().filter_map(|one| match one {
            Parameter::Literal(value) => value.as_str(),
            _ => None,
        });
        texts.any(|name| is_secret_name(name, self.patterns))
    }

    /// The most that the parameters of a call hold.
    fn most(&self, call: &HelperTemplate) -> Flow {
        let parameters = call.params.iter().chain(call.hash.values());
        let most = parameters.map(|one| self.parameter(one)).max();
        most.unwrap_or_default()
    }

    fn parameter(&self, parameter: &Parameter) -> Flow {
        match parameter {
            Parameter::Literal(_) | Parameter::Name(_) => Flow::None,
            Parameter::Path(path) => self.path(path),
            Parameter::Subexpression(inner) => match inner.element.as_ref() {
                Element::Expression(call) => self.tag(call),
                _ => self.anything(),
            },
            _ => self.anything(),
        }
    }

    fn path(&self, path: &Path) -> Flow {
        let segments = match path {
            Path::Local((_, name, _)) => {
                return match name.as_str() {
                    "index" | "first" | "last" => Flow::None,
                    _ => self.anything(),
                };
            }
            Path::Relative((segments, _)) => segments,
        };
        let names = segments.iter().filter_map(|segment| match segment {
            PathSeg::Named(name) => Some(name),
            _ => None,
        });
        let names: Vec<&str> = names.map(String::as_str).collect();
        // The kind of a rule is private to handlebars, its name is not.
        let up = |segment: &PathSeg| matches!(segment, PathSeg::Ruled(rule) if format!("{rule:?}") == "path_up");
        let found = match segments.iter().any(up) {
            true => self.anything(),
            false => self.name(names.first().copied()),
        };
        // All metadata of an instance or a node, of which any may be one.
        let all = |name: &&str| matches!(*name, "ServiceMeta" | "NodeMeta" | "Meta");
        let is_secret = names.iter().any(|name| is_secret_name(name, self.patterns))
            || names.last().is_some_and(all);
        // Of a key that was read, only the value is secret.
        let of_key = |name: &&str| KEY.field(name).is_some() && *name != "Value";
        match (found, names.last()) {
            (found, _) if is_secret => found.max(Flow::Whole),
            (Flow::Whole, Some(name)) if of_key(name) => Flow::None,
            (found, _) => found,
        }
    }

    /// What a name stands for; `this` without one.
    fn name(&self, name: Option<&str>) -> Flow {
        let bound =
            |scope: &Scope| name.is_some_and(|name| scope.names.iter().any(|one| one == name));
        let mut others = Flow::None;
        for scope in self.scopes.iter().rev() {
            if bound(scope) {
                return others.max(scope.flow);
            }
            if scope.moved {
                others = others.max(self.included);
            }
        }
        let this = self.scopes.iter().rev().find(|scope| scope.this);
        others.max(this.map_or(self.bottom, |scope| scope.flow))
    }

    /// The most that anything around holds.
    fn anything(&self) -> Flow {
        let scopes = self.scopes.iter().map(|scope| scope.flow);
        scopes.fold(self.bottom, Flow::max)
    }
}

#[cfg(test)]
mod tests;

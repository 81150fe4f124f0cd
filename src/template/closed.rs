//! What the body of a loop reads from outside of itself, found by walking its compiled template.
//! Pure. What is not understood for certain makes the body open, and an open body is rendered anew
//! each time.
//!
//! A value in a template is found by a path. It begins at the item, or with `../` at a block
//! further out; at a name that a block around binds; or at a variable such as `@index`. So a body
//! is closed when none of its paths goes up past the item: it reads the item, the variables of the
//! loop, what is bound around it to names that occur in it, what it asks of the catalog, and
//! nothing else. (handlebars 6.4, `parse_json_visitor` and `RenderContext::get_local_var`.)

use std::collections::{BTreeMap, BTreeSet};

use handlebars::template::{
    DecoratorTemplate, HelperTemplate, Parameter, TemplateElement as Element,
};
use handlebars::{Path, PathSeg, Template};

use super::helpers::{self, Action};
use super::rewrite::head;

/// What a closed body reads besides its item and the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names at which paths begin; each may be bound outside.
    pub heads: BTreeSet<String>,
    /// `@index`, `@first`, `@last` and `@key`.
    pub index: bool,
    pub first: bool,
    pub last: bool,
    pub key: bool,
    /// Whether it asks the catalog.
    pub asks: bool,
}

/// The plan of a loop's body, if it is closed. `partials` are those that can be included by name.
pub fn plan(body: &Template, partials: &BTreeMap<&str, &Template>) -> Option<Plan> {
    let mut walk = Walk {
        partials,
        plan: Plan::default(),
        open: false,
    };
    walk.template(body, 0);
    (!walk.open).then_some(walk.plan)
}

struct Walk<'a> {
    partials: &'a BTreeMap<&'a str, &'a Template>,
    plan: Plan,
    open: bool,
}

impl Walk<'_> {
    /// `depth` counts the blocks that are surely pushed on top of the item's own.
    fn template(&mut self, template: &Template, depth: usize) {
        for element in &template.elements {
            match element {
                Element::RawString(_) | Element::Comment(_) => {}
                Element::Expression(helper) => self.call(helper, depth),
                Element::HelperBlock(helper) => self.block(helper, depth),
                Element::PartialExpression(partial) => self.partial(partial, depth),
                // Inline partials outlive the place where they stand, and the block of a partial
                // is written elsewhere.
                _ => self.open = true,
            }
        }
    }

    fn call(&mut self, helper: &HelperTemplate, depth: usize) {
        if let Some(entry) = helpers::find(head(&helper.name)) {
            self.plan.asks |= matches!(entry.action, Action::Query(_) | Action::Routes);
        }
        // A name alone may be a path.
        self.parameter(&helper.name, depth);
        self.parameters(helper.params.iter().chain(helper.hash.values()), depth);
    }

    fn block(&mut self, helper: &HelperTemplate, depth: usize) {
        self.call(helper, depth);
        let inside = match head(&helper.name) {
            "each" | "with" | "let" => depth + 1,
            "if" | "unless" | "raw" => depth,
            _ => {
                self.open = true;
                return;
            }
        };
        if let Some(template) = &helper.template {
            self.template(template, inside);
        }
        // What stands behind `else` is rendered without the block.
        if let Some(inverse) = &helper.inverse {
            self.template(inverse, depth);
        }
    }

    fn partial(&mut self, partial: &DecoratorTemplate, depth: usize) {
        self.parameters(partial.params.iter().chain(partial.hash.values()), depth);
        let name = match &partial.name {
            Parameter::Literal(name) => name.as_str().unwrap_or_default(),
            other => head(other),
        };
        match self.partials.get(name) {
            // A partial has a block of its own, with the variables of the one around it. Cycles were
            // refused before.
            Some(template) if partial.template.is_none() => self.template(template, depth + 1),
            _ => self.open = true,
        }
    }

    fn parameters<'p>(&mut self, parameters: impl Iterator<Item = &'p Parameter>, depth: usize) {
        for parameter in parameters {
            self.parameter(parameter, depth);
        }
    }

    fn parameter(&mut self, parameter: &Parameter, depth: usize) {
        match parameter {
            Parameter::Literal(_) | Parameter::Name(_) => {}
            Parameter::Path(path) => self.path(path, depth),
            Parameter::Subexpression(inner) => match inner.element.as_ref() {
                Element::Expression(helper) => self.call(helper, depth),
                _ => self.open = true,
            },
            _ => self.open = true,
        }
    }

    fn path(&mut self, path: &Path, depth: usize) {
        match path {
            Path::Local((level, name, _)) => {
                self.open |= *level > depth;
                match name.as_str() {
                    "index" => self.plan.index = true,
                    "first" => self.plan.first = true,
                    "last" => self.plan.last = true,
                    "key" => self.plan.key = true,
                    _ => self.open = true,
                }
            }
            Path::Relative((segments, _)) => {
                let mut ups = 0;
                for segment in segments {
                    match segment {
                        PathSeg::Named(name) => {
                            self.plan.heads.insert(name.clone());
                            break;
                        }
                        // The kind of a rule is private to handlebars, its name is not.
                        PathSeg::Ruled(rule) if format!("{rule:?}") == "path_up" => ups += 1,
                        _ => self.open = true,
                    }
                }
                self.open |= ups > depth;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(text: &str) -> Option<Plan> {
        let partial = Template::compile("{{../x}}{{@last}}").unwrap();
        let up = Template::compile("{{../../x}}").unwrap();
        let partials = [("one", &partial), ("two", &up)].into();
        plan(&Template::compile(text).unwrap(), &partials)
    }

    #[test]
    fn a_body_is_closed_when_no_path_leaves_it() {
        for text in [
            "a {{b.c}} {{this}} {{./d}} {{@index}}",
            "{{#each b}}{{../c}}{{@../first}}{{else}}{{c}}{{/each}}",
            "{{#if a}}{{#with b}}{{#let c as |d|}}{{../../e}}{{/let}}{{/with}}{{/if}}",
            "{{service (key a) tag=b}}",
            "{{> one}}",
        ] {
            assert!(closed(text).is_some(), "{text}");
        }
        for text in [
            "{{../b}}",
            "{{#if a}}{{../b}}{{/if}}",
            "{{#each b}}{{../../c}}{{/each}}",
            "{{#each b}}{{else}}{{../c}}{{/each}}",
            "{{#each (lookup ../b 1)}}{{/each}}",
            "{{@../index}}",
            "{{@other}}",
            "{{@root.x}}",
            "{{> two}}",
            "{{> unknown}}",
            "{{#> one}}{{/one}}",
            "{{#*inline \"x\"}}{{/inline}}",
            "{{#unknown a}}{{/unknown}}",
        ] {
            assert_eq!(closed(text), None, "{text}");
        }
        let plan = closed("{{a.b}} {{#each c as |d|}}{{d}} {{../e}} {{@key}}{{/each}}").unwrap();
        let heads: Vec<&str> = plan.heads.iter().map(String::as_str).collect();
        assert_eq!(heads, ["a", "c", "d", "e"]);
        assert!(plan.key && !plan.index && !plan.first && !plan.last && !plan.asks);
        assert!(closed("{{#each (service Name)}}{{/each}}").unwrap().asks);
    }
}

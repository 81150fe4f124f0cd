//! Changes to compiled templates. Every `{{x}}` becomes a call of our own that knows its position
//! and gives the value to the writer; queries get the number of their call; loops and tags at the top get
//! what is needed to take them again. For source maps, positions are also written before each stretch
//! of text, and nothing is taken again.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use handlebars::Template;
use handlebars::template::{
    HelperTemplate, Parameter, Subexpression, TemplateElement as Element, TemplateMapping,
};

use super::closed::{self, Plan};
use super::flow::{Flow, Flows};
use super::helpers::{self, AT};
use super::load::{EMIT, FRAGMENT, Spot, TEXT};
use super::place::{Lines, text_start};
use super::writer::{END, POSITION};

/// The name or path at the head of a call.
pub fn head(parameter: &Parameter) -> &str {
    match parameter {
        Parameter::Name(name) => name,
        Parameter::Path(path) => raw(path),
        _ => "",
    }
}

/// A path as it was written.
pub fn raw(path: &handlebars::Path) -> &str {
    match path {
        handlebars::Path::Relative((_, raw)) => raw,
        handlebars::Path::Local((_, _, raw)) => raw,
    }
}

/// Rewrites the templates of one source.
pub struct Rewriter<'a> {
    /// The source's text with its lines, and its number.
    pub text: &'a str,
    pub lines: &'a Lines,
    pub source: usize,
    /// Where positions are collected; a position's number is its index.
    pub spots: &'a mut Vec<Spot>,
    /// The number of the next query call.
    pub next_call: &'a mut u64,
    /// The calls of the blocks around.
    pub around: Vec<u64>,
    /// Whether positions are written into the text.
    pub marked: bool,
    /// Whether it is a template; partials have no top of their own.
    pub root: bool,
    /// Whether inline partials are defined anywhere: then what an include includes may depend on
    /// what was rendered before.
    pub inline: bool,
    /// The partials by name.
    pub partials: &'a BTreeMap<&'a str, &'a Template>,
    /// What of secrets the names here may hold.
    pub flows: Flows<'a>,
    /// Where what loops read is collected, by the position of the loop.
    pub plans: &'a mut BTreeMap<usize, Plan>,
}

impl Rewriter<'_> {
    /// Rewrites a template and everything inside it.
    pub fn template(&mut self, template: &mut Template) {
        let top = std::mem::take(&mut self.root) && !self.marked && !self.inline;
        let elements = std::mem::take(&mut template.elements);
        let mapping = std::mem::take(&mut template.mapping);
        for (index, mut element) in elements.into_iter().enumerate() {
            let at = mapping.get(index).cloned();
            let (line, column) = at.as_ref().map_or((1, 1), |at| (at.0, at.1));
            let (line, column) = match &element {
                Element::RawString(text) => text_start(self.text, self.lines, line, column, text),
                _ => (line, column),
            };
            let spot = self.spots.len();
            self.spots.push(Spot {
                source: self.source,
                line,
                column,
                calls: self.around.clone(),
            });
            let calls = *self.next_call;
            self.element(&mut element, spot, column);
            let includes = matches!(element, Element::PartialExpression(_));
            if top && (*self.next_call > calls || includes) {
                element = fragment(element, spot, at.clone());
            }
            let elements = if self.marked {
                mark(element, spot)
            } else {
                vec![element]
            };
            for element in elements {
                template.elements.push(element);
                template.mapping.extend(at.clone());
            }
        }
    }

    fn element(&mut self, element: &mut Element, spot: usize, column: usize) {
        match element {
            Element::Expression(helper) => {
                let path = is_path(helper);
                let name = if path { "" } else { head(&helper.name) };
                let text = matches!(name, "raw" | "servers" | "slots" | "thriftCheck");
                if text && name != "raw" {
                    let column = Parameter::Literal(column.into());
                    helper
                        .hash
                        .insert(super::helpers::COLUMN.to_owned(), column);
                }
                let is_operators = Parameter::Literal((!path && is_operators(helper)).into());
                let flow = self.flows.tag(helper);
                let inner = if path {
                    helper.name.clone()
                } else {
                    let calls = self.number(helper);
                    self.spots[spot].calls.extend(calls);
                    result_of(helper)
                };
                helper.name = Parameter::Name(if text { TEXT } else { EMIT }.to_owned());
                helper.params = vec![inner, Parameter::Literal(spot.into()), is_operators];
                if flow != Flow::None {
                    let changed = Parameter::Literal((flow == Flow::Changed).into());
                    helper.params.push(changed);
                }
                helper.hash.clear();
            }
            Element::HelperBlock(helper) => {
                self.block(helper, spot);
                let calls = self.number(helper);
                self.spots[spot].calls.extend(&calls);
                let (outer, depth) = (self.around.len(), self.flows.depth());
                self.around.extend(calls);
                self.flows.enter(helper);
                if let Some(template) = &mut helper.template {
                    self.template(template);
                }
                self.flows.leave(depth);
                if let Some(inverse) = &mut helper.inverse {
                    self.template(inverse);
                }
                self.around.truncate(outer);
            }
            Element::PartialExpression(partial)
            | Element::PartialBlock(partial)
            | Element::DecoratorExpression(partial)
            | Element::DecoratorBlock(partial) => {
                let mut calls = Vec::new();
                for parameter in partial.params.iter_mut().chain(partial.hash.values_mut()) {
                    self.number_in(parameter, &mut calls);
                }
                self.spots[spot].calls.extend(&calls);
                self.flows.include(partial);
                let depth = self.flows.depth();
                self.flows.enter_moved();
                if let Some(template) = &mut partial.template {
                    self.template(template);
                }
                self.flows.leave(depth);
            }
            _ => {}
        }
    }

    /// What a block can make of an answer without the whole list, and what a loop reads.
    fn block(&mut self, helper: &mut HelperTemplate, spot: usize) {
        let name = head(&helper.name).to_owned();
        let form = match name.as_str() {
            "each" => helpers::HANDLE,
            "if" | "unless" => helpers::TRUTH,
            _ => return,
        };
        let form = Parameter::Literal(form.into());
        if let Some(Parameter::Subexpression(Subexpression { element, .. })) =
            helper.params.first_mut()
            && let Element::Expression(call) = element.as_mut()
            && let Some(entry) = helpers::find(head(&call.name))
            && let helpers::Action::Query(reads) = entry.action
            && reads.is_list()
        {
            call.hash.insert(helpers::FORM.to_owned(), form.clone());
            if name == "each" {
                helper.hash.insert(helpers::FORM.to_owned(), form);
            }
        }
        if name == "each"
            && !self.marked
            && let Some(body) = &helper.template
            && let Some(plan) = closed::plan(body, self.partials)
        {
            self.plans.insert(spot, plan);
            let at = Parameter::Literal(spot.into());
            helper.hash.insert(helpers::SPOT.to_owned(), at);
        }
    }

    /// Numbers the query calls of a call and of its parameters.
    fn number(&mut self, helper: &mut HelperTemplate) -> Vec<u64> {
        let mut calls = Vec::new();
        self.number_one(helper, &mut calls);
        calls
    }

    fn number_one(&mut self, helper: &mut HelperTemplate, calls: &mut Vec<u64>) {
        for parameter in helper.params.iter_mut().chain(helper.hash.values_mut()) {
            self.number_in(parameter, calls);
        }
        if self.flows.is_changed(helper) {
            let pair = Parameter::Literal(true.into());
            helper.hash.insert(helpers::SECRET.to_owned(), pair);
        }
        let entry = helpers::find(head(&helper.name));
        if entry.is_some_and(|entry| matches!(entry.action, helpers::Action::Query(_))) {
            let call = *self.next_call;
            *self.next_call += 1;
            calls.push(call);
            helper
                .hash
                .insert(AT.to_owned(), Parameter::Literal(call.into()));
        }
    }

    fn number_in(&mut self, parameter: &mut Parameter, calls: &mut Vec<u64>) {
        if let Parameter::Subexpression(Subexpression { element, .. }) = parameter
            && let Element::Expression(helper) = element.as_mut()
        {
            self.number_one(helper, calls);
        }
    }
}

/// Whether a tag holds a name or path and nothing else.
pub fn is_name(helper: &HelperTemplate) -> bool {
    helper.params.is_empty() && helper.hash.is_empty()
}

/// Whether it is a path: of the names of helpers, only those that want no parameters call one.
pub fn is_path(helper: &HelperTemplate) -> bool {
    is_name(helper) && !helpers::find(head(&helper.name)).is_some_and(helpers::Entry::stands_alone)
}

/// Whether only the template and the operator decide what a call gives: text, parameters of the settings and
/// variables of the environment, and what helpers make of them.
fn is_operators(call: &HelperTemplate) -> bool {
    use helpers::Action::{Environment, Lenient, Parameter as Setting, Pure};
    let is_own = |parameter: &Parameter| match parameter {
        Parameter::Literal(_) => true,
        Parameter::Subexpression(sub) => {
            matches!(sub.element.as_ref(), Element::Expression(call) if is_operators(call))
        }
        _ => false,
    };
    let name = head(&call.name);
    // Data may choose one of the operator's values.
    if matches!(name, "lookup" | "index") {
        return call.params.first().is_some_and(is_own);
    }
    let action = helpers::find(name).map(|entry| &entry.action);
    matches!(
        action,
        Some(Environment(_) | Lenient(_) | Setting(_) | Pure(_))
    ) && call.params.iter().chain(call.hash.values()).all(is_own)
}

/// A helper's result, as a parameter.
fn result_of(helper: &HelperTemplate) -> Parameter {
    let mut made = Subexpression::new(
        helper.name.clone(),
        helper.params.clone(),
        helper.hash.clone(),
    );
    made.element = Box::new(Element::Expression(Box::new(helper.clone())));
    Parameter::Subexpression(made)
}

/// A block of ours around a template.
pub fn block(name: &str, template: Template) -> Option<HelperTemplate> {
    /// The engine makes blocks only by reading them.
    static BLOCK: LazyLock<Option<HelperTemplate>> = LazyLock::new(|| {
        let made = Template::compile("{{#if x}}{{/if}}").ok()?;
        made.elements.into_iter().find_map(|element| match element {
            Element::HelperBlock(helper) => Some(*helper),
            _ => None,
        })
    });
    let mut helper = BLOCK.clone()?;
    helper.name = Parameter::Name(name.to_owned());
    helper.params.clear();
    helper.template = Some(template);
    Some(helper)
}

/// An element at the top of a template in a block that knows its position.
fn fragment(element: Element, spot: usize, at: Option<TemplateMapping>) -> Element {
    let mut inner = Template::default();
    inner.elements.push(element.clone());
    inner.mapping.extend(at);
    match block(FRAGMENT, inner) {
        Some(mut helper) => {
            let at = Parameter::Literal(spot.into());
            helper.hash.insert(helpers::SPOT.to_owned(), at);
            Element::HelperBlock(Box::new(helper))
        }
        None => element,
    }
}

/// An element with its position before it; a partial also with where it ends.
fn mark(mut element: Element, spot: usize) -> Vec<Element> {
    let raw = Element::RawString;
    match &mut element {
        Element::RawString(text) => {
            text.insert_str(0, &format!("{POSITION}{spot}{END}"));
            vec![element]
        }
        Element::PartialExpression(_) | Element::PartialBlock(_) => vec![
            raw(format!("{POSITION}>{spot}{END}")),
            element,
            raw(format!("{POSITION}<{END}")),
        ],
        _ => vec![element],
    }
}

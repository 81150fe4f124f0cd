//! The helpers of the template language: one table says their names, how they are called and what
//! they do. Loading checks templates against it and rendering registers from it.

mod catalog;
mod differences;
mod each;
mod encode;
mod entry;
mod environment;
mod format;
mod group;
mod haproxy;
mod list;
mod math;
mod network;
pub mod reference;
mod routes;
mod table;
mod text;
mod thrift;
mod yaml;

use std::sync::Arc;

use handlebars::{
    BlockContext, BlockParams, Context, Handlebars, Helper, HelperDef, HelperResult, Output,
    RenderContext, RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::Value;

pub(super) use catalog::Reads;
pub use catalog::{AT, FORM, HANDLE, TRUTH, literal_query};
pub use differences::{DIFFERENCES, Difference, Part, absent_field, absent_function};
pub(super) use each::{EachHelper, FragmentHelper, SPOT};
pub use entry::{Entry, Example, Group};
pub use haproxy::COLUMN;
pub use network::{Interface, Interfaces};
pub use table::{PAIRS, TABLE};

use super::recorder::Recorder;
use crate::catalog::secrets::Secrets;

/// The pair that the engine adds where a parameter is what a helper made of a secret.
pub const SECRET: &str = "@secret";
/// The largest text that a helper gives. Where a result could be much larger than what it is made
/// of, the helper itself looks before it makes it.
const MAX_RESULT: usize = 16 << 20;
/// The most items that a helper makes, and the most values in a text that it reads.
const MAX_ITEMS: usize = 100_000;

/// How a pure helper is called: its parameters and its `name=value` pairs.
pub struct Call<'a> {
    name: &'a str,
    values: Vec<&'a Value>,
    pairs: Vec<(&'a str, &'a Value)>,
}

/// What a pure helper gives, or a sentence about what is wrong.
pub type Given = Result<Value, String>;

impl<'a> Call<'a> {
    /// How many parameters there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// A parameter; the table has checked that it is there.
    pub fn value(&self, index: usize) -> &'a Value {
        self.values.get(index).copied().unwrap_or(&Value::Null)
    }

    /// All parameters.
    pub fn values(&self) -> &[&'a Value] {
        &self.values
    }

    /// A `name=value` pair.
    pub fn pair(&self, name: &str) -> Option<&'a Value> {
        self.pairs
            .iter()
            .find(|(pair, _)| *pair == name)
            .map(|(_, value)| *value)
    }

    /// A parameter as text. Numbers and truth values have a text too.
    pub fn text(&self, index: usize) -> Result<String, String> {
        as_text(self.value(index)).ok_or_else(|| self.wrong(index, "a text", self.value(index)))
    }

    /// A parameter as a whole number.
    pub fn number(&self, index: usize) -> Result<i64, String> {
        let value = self.value(index);
        as_number(value).ok_or_else(|| self.wrong(index, "a whole number", value))
    }

    /// A parameter as a list.
    pub fn list(&self, index: usize) -> Result<&'a Vec<Value>, String> {
        let value = self.value(index);
        value
            .as_array()
            .ok_or_else(|| self.wrong(index, "a list", value))
    }

    /// A sentence about a parameter of the wrong kind.
    pub fn wrong(&self, index: usize, wanted: &str, value: &Value) -> String {
        format!(
            "`{}` wants {wanted} as its {} parameter and got {}.",
            self.name,
            ["first", "second", "third", "fourth"]
                .get(index)
                .unwrap_or(&"next"),
            describe(value)
        )
    }
}

/// The text of a plain value.
pub fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A number in digits, without a fraction that is none: `3`, not `3.0`.
pub fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(real) if number.is_f64() => real.to_string(),
        _ => number.to_string(),
    }
}

/// A whole number, also from a text that is one.
pub fn as_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether a value counts as true, as `#if` counts.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// A value for an error message. A text may be a secret, so only its length is told.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => format!("`{truth}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("a text of {} letters", text.chars().count()),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// What a helper does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Gives a value made from its parameters.
    Pure(fn(&Call<'_>) -> Given),
    /// The same, and takes missing values for nothing.
    Lenient(fn(&Call<'_>) -> Given),
    /// Reads the catalog.
    Query(catalog::Reads),
    /// Reads `[parameters]`.
    Parameter(environment::Missing),
    /// Reads an environment variable that the settings allow.
    Environment(environment::Missing),
    /// Reads a file below the folder that the settings name.
    File,
    /// Reads the addresses of this machine.
    Addresses,
    /// Makes the route table of tags.
    Routes,
    /// Writes server lines.
    Servers,
    /// Writes server lines that instances share in turn.
    Slots,
    /// Writes the lines of a health check that speaks Thrift.
    ThriftCheck,
    /// Writes text without escaping.
    Raw,
    /// Binds a name for a block.
    Let,
    /// A block seen from a value.
    With,
    /// Handlebars' own block or lookup.
    BuiltIn,
}

/// A helper by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name == name)
}

/// Registers every helper. `recorder` is shared with the rendering.
pub fn register(registry: &mut Handlebars<'_>, recorder: &Arc<Recorder>) {
    for name in ["log", "gte", "lte"] {
        registry.unregister_helper(name);
    }
    for entry in TABLE {
        let recorder = Arc::clone(recorder);
        match entry.action {
            Action::Pure(function) => registry.register_helper(
                entry.name,
                Box::new(PureHelper {
                    entry,
                    function,
                    lenient: false,
                }),
            ),
            Action::Lenient(function) => registry.register_helper(
                entry.name,
                Box::new(PureHelper {
                    entry,
                    function,
                    lenient: true,
                }),
            ),
            Action::Query(reads) => registry.register_helper(
                entry.name,
                Box::new(catalog::QueryHelper { reads, recorder }),
            ),
            Action::Parameter(missing) => registry.register_helper(
                entry.name,
                Box::new(environment::ParameterHelper { missing }),
            ),
            Action::Environment(missing) => registry.register_helper(
                entry.name,
                Box::new(environment::EnvironmentHelper { missing, recorder }),
            ),
            Action::File => {
                registry.register_helper(entry.name, Box::new(environment::FileHelper { recorder }))
            }
            Action::Addresses => {
                registry.register_helper(entry.name, Box::new(network::SockaddrHelper { recorder }))
            }
            Action::Routes => {
                registry.register_helper(entry.name, Box::new(routes::RoutesHelper { recorder }));
            }
            Action::Servers => {
                registry.register_helper(entry.name, Box::new(haproxy::ServersHelper { recorder }));
            }
            Action::Slots => {
                registry.register_helper(entry.name, Box::new(haproxy::SlotsHelper { recorder }));
            }
            Action::ThriftCheck => {
                registry.register_helper(entry.name, Box::new(thrift::ThriftCheckHelper));
            }
            Action::Raw => registry.register_helper(entry.name, Box::new(RawHelper)),
            Action::Let => registry.register_helper(entry.name, Box::new(LetHelper)),
            Action::With => registry.register_helper(entry.name, Box::new(WithHelper)),
            Action::BuiltIn => {}
        }
    }
}

/// A sentence as an error of a rendering.
pub fn failed(sentence: impl Into<String>) -> RenderError {
    RenderErrorReason::Other(sentence.into()).into()
}

struct PureHelper {
    entry: &'static Entry,
    function: fn(&Call<'_>) -> Given,
    lenient: bool,
}

impl HelperDef for PureHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        if !self.lenient {
            refuse_missing(helper)?;
        }
        let call = Call {
            name: self.entry.name,
            values: helper.params().iter().map(|param| param.value()).collect(),
            pairs: helper
                .hash()
                .iter()
                .map(|(name, value)| (*name, value.value()))
                .collect(),
        };
        match (self.function)(&call) {
            Ok(Value::String(text)) if text.len() > MAX_RESULT => Err(failed(format!(
                "The result of `{}` is larger than 16 MiB.",
                self.entry.name
            ))),
            Ok(value) => Ok(ScopedJson::Derived(value)),
            Err(sentence) if helper.hash_get(SECRET).is_some() => {
                let texts = call.values.iter().filter_map(|value| as_text(value));
                Err(failed(Secrets::of_texts(texts.collect()).hide(&sentence)))
            }
            Err(sentence) => Err(failed(sentence)),
        }
    }
}

/// A parameter that names nothing is an error that names it.
pub fn refuse_missing(helper: &Helper<'_>) -> Result<(), RenderError> {
    let params = helper.params().iter();
    match params
        .chain(helper.hash().values())
        .find(|param| param.is_value_missing())
    {
        Some(param) => {
            Err(RenderErrorReason::MissingVariable(param.relative_path().cloned()).into())
        }
        None => Ok(()),
    }
}

/// `{{raw x}}`; the tag itself is written by the engine, this gives the value. As a raw block it
/// writes its text.
struct RawHelper;

impl HelperDef for RawHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        match helper.template() {
            Some(template) => template.render(registry, context, state, out),
            None => {
                refuse_missing(helper)?;
                let value = helper.param(0).map(|param| param.value());
                let text = value
                    .and_then(as_text)
                    .ok_or_else(|| failed("`raw` wants a text."))?;
                out.write(&text).map_err(RenderError::from)
            }
        }
    }
}

/// `{{#let VALUE as |name|}}`: what `this` and `../` mean stays as it is outside.
struct LetHelper;

impl HelperDef for LetHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        refuse_missing(helper)?;
        let (Some(value), Some(name), Some(template)) =
            (helper.param(0), helper.block_param(), helper.template())
        else {
            return Err(failed(
                "`let` is written as {{#let VALUE as |name|}}…{{/let}}.",
            ));
        };
        let mut block = BlockContext::new();
        if let Some(outer) = state.block() {
            block.base_path_mut().clone_from(outer.base_path());
            if let Some(base) = outer.base_value() {
                block.set_base_value(base.clone());
            }
            block
                .local_variables_mut()
                .clone_from(outer.local_variables());
        }
        let mut params = BlockParams::new();
        params.add_value(name, value.value().clone())?;
        block.set_block_params(params);
        state.push_block(block);
        let result = template.render(registry, context, state, out);
        state.pop_block();
        result
    }
}

/// `{{#with VALUE}}…{{else}}…{{/with}}`. Unlike Handlebars' own, nothing without an `else` is no
/// error: it is nothing, as in consul-template.
struct WithHelper;

impl HelperDef for WithHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        refuse_missing(helper)?;
        let Some(param) = helper.param(0) else {
            return Ok(());
        };
        if !truthy(param.value()) {
            return match helper.inverse() {
                Some(inverse) => inverse.render(registry, context, state, out),
                None => Ok(()),
            };
        }
        let Some(template) = helper.template() else {
            return Ok(());
        };
        let mut block = BlockContext::new();
        match param.context_path() {
            Some(path) => block.base_path_mut().clone_from(path),
            None => block.set_base_value(param.value().clone()),
        }
        if let Some(name) = helper.block_param() {
            let mut params = BlockParams::new();
            if param.context_path().is_some() {
                params.add_path(name, Vec::new())?;
            } else {
                params.add_value(name, param.value().clone())?;
            }
            block.set_block_params(params);
        }
        state.push_block(block);
        let result = template.render(registry, context, state, out);
        state.pop_block();
        result
    }
}

#[cfg(test)]
mod tests;

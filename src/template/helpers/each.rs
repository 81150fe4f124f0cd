//! `{{#each}}`, as Handlebars has it, and parts that are not rendered again while what they were
//! made of stays the same ([`super::super::memo`]). Lists of the catalog are gone through without
//! ever being made whole.

use std::sync::Arc;

use handlebars::template::TemplateElement;
use handlebars::{
    BlockContext, BlockParams, Context, Handlebars, Helper, HelperDef, HelperResult, Output,
    RenderContext, RenderError, RenderErrorReason, Renderable, StringOutput,
};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

use super::super::answers::{SERVER_ID, Slot};
use super::super::closed::Plan;
use super::super::judge::instance_words;
use super::super::recorder::{Begun, ITEM_ENDS, LeftOut, Recorder, notes};
use super::super::source_map::Item;
use super::{describe, failed};
use crate::catalog::fitness::shorten;
use crate::catalog::{ItemName, Query};

/// The pair that the engine adds: the number of the block among all positions.
pub const SPOT: &str = "@spot";

/// Lists that are shorter are not remembered item by item, unless an item asks the catalog:
/// rendering them costs about as much as remembering.
const LONG: usize = if cfg!(test) { 2 } else { 32 };
/// How large a value in a key may be: the bytes of its texts, and [`PART`] for each of its parts.
const LARGE: usize = 1 << 20;
/// See [`LARGE`].
const PART: usize = 16;
/// Of a value that takes more bytes than this, a digest is in the key.
const WHOLE: usize = 512;

/// `{{#each}}`.
pub struct EachHelper {
    pub recorder: Arc<Recorder>,
}

/// What is gone through.
enum Items<'a> {
    Answer(Arc<Slot>),
    List(&'a [Value]),
    Fields(&'a Map<String, Value>),
}

impl Items<'_> {
    fn len(&self) -> usize {
        match self {
            Items::Answer(slot) => slot.len(),
            Items::List(list) => list.len(),
            Items::Fields(fields) => fields.len(),
        }
    }
}

impl HelperDef for EachHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (Some(param), Some(template)) = (helper.param(0), helper.template()) else {
            return Ok(());
        };
        let spot = helper.hash_get(SPOT).and_then(|spot| spot.value().as_u64());
        let items = match param.value() {
            // Only the engine's own rewriting gives a number to a loop that has the pair.
            Value::Number(edition) if helper.hash_get(super::FORM).is_some() => edition
                .as_u64()
                .and_then(|edition| self.recorder.slot(edition))
                .map(Items::Answer),
            Value::Array(list) => Some(Items::List(list)),
            Value::Object(fields) => Some(Items::Fields(fields)),
            _ => None,
        };
        let empty = items.as_ref().is_none_or(|items| items.len() == 0);
        let items = match (items, helper.inverse()) {
            (_, Some(inverse)) if empty => return inverse.render(registry, context, state, out),
            (Some(items), _) => items,
            (None, _) if param.is_value_missing() => {
                return Err(RenderError::strict_error(param.relative_path()));
            }
            (None, _) => {
                let path = param.relative_path().map_or("the value", String::as_str);
                return Err(failed(format!(
                    "`each` goes through a list or an object, and `{path}` is {}.",
                    describe(param.value())
                )));
            }
        };
        let prefix = self.prefix(spot, &items, registry, context, state, out)?;
        state.push_block(BlockContext::new());
        let path = param.context_path();
        let count = items.len();
        // Whatever an item that fails leaves behind in the engine goes with it.
        let engine = self.recorder.isolates(out).then(|| state.clone());
        let mut left_out: Vec<LeftOut> = Vec::new();
        let mut fields = match &items {
            Items::Fields(fields) => Some(fields.iter()),
            _ => None,
        };
        for index in 0..count {
            if self.recorder.is_late() {
                return Err(failed("The time is over."));
            }
            let name = fields.as_mut().and_then(Iterator::next);
            let key = prefix
                .as_ref()
                .and_then(|(plan, prefix)| key(plan, prefix, &items, index, name));
            let begun = match key {
                Some(key) => self.recorder.enter(&key, state),
                None => Begun::Unknown,
            };
            if matches!(begun, Begun::Again) {
                continue;
            }
            let (value, step) = match (&items, name) {
                (Items::List(list), _) => (list.get(index), index.to_string()),
                (_, Some((name, value))) => (Some(value), name.clone()),
                (Items::Answer(_) | Items::Fields(_), None) => (None, String::new()),
            };
            let label = name.map_or_else(|| index.into(), |(name, _)| Value::from(name.as_str()));
            let made = match &items {
                Items::Answer(slot) => Some(slot.item(index)),
                _ if path.is_none() => value.cloned(),
                _ => None,
            };
            let mut params = BlockParams::new();
            let pair = helper.block_param_pair();
            if let Some(bound) = helper.block_param().or(pair.map(|(value, _)| value)) {
                match &made {
                    Some(value) => params.add_value(bound, value.clone())?,
                    None => params.add_path(bound, Vec::new())?,
                }
            }
            if let Some((_, bound)) = pair {
                params.add_value(bound, label.clone())?;
            }
            // One block for all rounds: inline partials live in it.
            if let Some(block) = state.block_mut() {
                block.set_local_var("first", (index == 0).into());
                block.set_local_var("last", (index + 1 == count).into());
                block.set_local_var("index", index.into());
                if name.is_some() {
                    block.set_local_var("key", label);
                }
                block.set_block_params(params);
                match (made, path) {
                    (None, Some(path)) => {
                        let base = block.base_path_mut();
                        base.clone_from(path);
                        base.push(step);
                    }
                    (made, _) => block.set_base_value(made.unwrap_or_default()),
                }
            }
            let around = engine.as_ref().and_then(|engine| {
                let words = words(&items, index)?;
                Some((engine, words, self.recorder.snapshot()?))
            });
            let notes = notes(state);
            let mark = self.recorder.item_begins(|| item(&items, index));
            if !mark.is_empty() {
                out.write(&mark)?;
            }
            let mut rendered = template.render(registry, context, state, out);
            if around.is_some() {
                // What is missing at the end of an item is told while it can be left out.
                rendered = rendered.and_then(|()| self.recorder.end_word());
            }
            match (rendered, around) {
                (Ok(()), _) => {}
                (Err(error), Some((engine, words, snapshot))) => {
                    left_out.push(self.recorder.take_back(snapshot, words, error)?);
                    *state = engine.clone();
                    let [newline, content, indent] = notes;
                    state.set_trailing_newline(newline);
                    state.set_content_produced(content);
                    state.set_indent_before_write(indent);
                }
                (Err(error), None) => {
                    self.recorder.note_culprit(|| words(&items, index));
                    return Err(error);
                }
            }
            if !mark.is_empty() {
                out.write(ITEM_ENDS)?;
            }
            if matches!(begun, Begun::Fresh) {
                self.recorder.leave(state);
            }
        }
        self.note(left_out, count)?;
        state.pop_block();
        Ok(())
    }
}

impl EachHelper {
    /// Notes the items that were left out. A value that its place cannot hold is the item's own fault;
    /// what else goes wrong with every one of them is wrong with the template.
    fn note(&self, mut left_out: Vec<LeftOut>, count: usize) -> HelperResult {
        if left_out.len() == count
            && let Some(at) = left_out.iter().position(|one| one.stop.is_none())
        {
            let first = left_out.swap_remove(at);
            self.recorder.state().near = first.near;
            return Err(first.error);
        }
        self.recorder.state().left_out.extend(left_out);
        Ok(())
    }

    /// What the keys of all rounds have in common: the place, and what is bound outside to the
    /// names that the body reads. `None` when the rounds cannot be remembered.
    fn prefix<'reg: 'rc, 'rc>(
        &self,
        spot: Option<u64>,
        items: &Items<'_>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> Result<Option<(&Plan, Vec<u8>)>, RenderError> {
        let Some((spot, plan)) = spot.and_then(|spot| {
            let plan = self.recorder.plan(usize::try_from(spot).ok()?)?;
            Some((spot, plan))
        }) else {
            return Ok(None);
        };
        let worth = plan.asks || items.len() >= LONG;
        if !worth || !self.recorder.writes_straight(out) || is_indented(registry, context, state)? {
            return Ok(None);
        }
        let mut prefix = spot.to_le_bytes().to_vec();
        // Nothing is found in nothing: what is found on top of it is bound outside.
        let mut nothing = BlockContext::new();
        nothing.set_base_value(Value::Null);
        state.push_block(nothing);
        let mut small = true;
        for head in &plan.heads {
            let bound = state.evaluate(context, &format!("[{head}]"))?;
            if bound.is_missing() {
                prefix.push(0);
            } else {
                small &= write(bound.as_json(), &mut prefix);
            }
        }
        state.pop_block();
        Ok(small.then_some((plan, prefix)))
    }
}

/// An item if it is one of the catalog, for the map of where lines come from. Keys are known also in a
/// list that a helper made of them, such as those right below a folder.
fn item(items: &Items<'_>, index: usize) -> Option<Item> {
    let key = |item: &Value| {
        let path = item.get("Path").and_then(Value::as_str)?;
        item.get("Key")?;
        item.get("Value")?;
        Some(Item {
            query: None,
            what: format!("Key {}", shorten(path)),
            name: Some(ItemName::Key(path.to_owned())),
        })
    };
    let instance = |item: &Value| {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        Some(Item {
            query: None,
            what: item_words(item)?,
            name: Some(ItemName::Instance {
                node: text("Node")?.to_owned(),
                id: text("ID")?.to_owned(),
            }),
        })
    };
    match items {
        Items::Answer(slot) => {
            let (what, query) = slot.words(index)?;
            Some(Item {
                query,
                what,
                name: slot.name(index),
            })
        }
        Items::List(list) => instance(list.get(index)?).or_else(|| key(list.get(index)?)),
        Items::Fields(_) => None,
    }
}

/// How an item is called if it is one of the catalog, also in a list that a helper made.
fn words(items: &Items<'_>, index: usize) -> Option<(String, Option<Query>)> {
    match items {
        Items::Answer(slot) => slot.words(index),
        Items::List(list) => Some((item_words(list.get(index)?)?, None)),
        Items::Fields(_) => None,
    }
}

/// How an instance in a list is called, if it is one of the catalog.
pub fn item_words(item: &Value) -> Option<String> {
    item.get(SERVER_ID)?;
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    Some(instance_words(text("Node")?, text("ID")?))
}

/// The key of one round, if its item can be part of one.
fn key(
    plan: &Plan,
    prefix: &[u8],
    items: &Items<'_>,
    index: usize,
    field: Option<(&String, &Value)>,
) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(prefix.len() + 24);
    key.extend(prefix);
    if plan.index {
        key.extend((index as u64).to_le_bytes());
    }
    key.push(
        u8::from(plan.first && index == 0) | u8::from(plan.last && index + 1 == items.len()) << 1,
    );
    if plan.key {
        write(
            &field.map_or(Value::Null, |(name, _)| Value::from(name.as_str())),
            &mut key,
        );
    }
    match items {
        Items::Answer(slot) => {
            key.push(1);
            // Stamps grow along a list: most significant first, keys are looked up in order.
            key.extend(slot.stamp(index)?.to_be_bytes());
            Some(key)
        }
        Items::List(list) => write(list.get(index)?, &mut key).then_some(key),
        Items::Fields(_) => write(field?.1, &mut key).then_some(key),
    }
}

/// Writes a value so that no two values, and no value and a missing one, are written alike, whatever follows.
/// Very large ones are not worth it.
fn write(value: &Value, key: &mut Vec<u8>) -> bool {
    let mut left = LARGE;
    let begin = key.len();
    if !write_part(value, key, &mut left) {
        return false;
    }
    if key.len() > begin + WHOLE {
        let digest = digest(&SHA256, &key[begin..]);
        key.truncate(begin);
        key.push(9);
        key.extend(digest.as_ref());
    }
    true
}

fn write_part(value: &Value, key: &mut Vec<u8>, left: &mut usize) -> bool {
    let text = value.as_str().map_or(0, str::len);
    let Some(rest) = left.checked_sub(PART + text) else {
        return false;
    };
    *left = rest;
    let sized = |key: &mut Vec<u8>, kind: u8, len: usize| {
        key.push(kind);
        key.extend((len as u64).to_le_bytes());
    };
    match value {
        Value::Null => key.push(2),
        Value::Bool(truth) => key.push(3 + u8::from(*truth)),
        Value::Number(number) => {
            let text = number.to_string();
            sized(key, 5, text.len());
            key.extend(text.as_bytes());
        }
        Value::String(text) => {
            sized(key, 6, text.len());
            key.extend(text.as_bytes());
        }
        Value::Array(list) => {
            sized(key, 7, list.len());
            return list.iter().all(|item| write_part(item, key, left));
        }
        Value::Object(fields) => {
            sized(key, 8, fields.len());
            return fields.iter().all(|(name, item)| {
                sized(key, 6, name.len());
                key.extend(name.as_bytes());
                write_part(item, key, left)
            });
        }
    }
    true
}

/// Whether a partial around is indented: then the engine changes what is written on its way. It
/// does not say so, but it shows.
fn is_indented<'reg: 'rc, 'rc>(
    registry: &'reg Handlebars<'reg>,
    context: &'rc Context,
    state: &mut RenderContext<'reg, 'rc>,
) -> Result<bool, RenderError> {
    static PROBE: std::sync::LazyLock<TemplateElement> =
        std::sync::LazyLock::new(|| TemplateElement::RawString("x".to_owned()));
    let notes = (
        state.get_trailine_newline(),
        state.get_content_produced(),
        state.get_indent_before_write(),
    );
    state.set_indent_before_write(true);
    let mut out = StringOutput::new();
    let result = PROBE.render(registry, context, state, &mut out);
    state.set_trailing_newline(notes.0);
    state.set_content_produced(notes.1);
    state.set_indent_before_write(notes.2);
    result?;
    Ok(out.into_string()? != "x")
}

/// Around a tag at the top of a template: nothing is bound there, `this` is always the same, and
/// no partial is around, so its place alone is the key.
pub struct FragmentHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for FragmentHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let Some(template) = helper.template() else {
            return Err(RenderErrorReason::ParamNotFoundForIndex("fragment", 0).into());
        };
        let spot = helper.hash_get(SPOT).and_then(|spot| spot.value().as_u64());
        let begun = match spot {
            Some(spot) if self.recorder.writes_straight(out) => {
                self.recorder.enter(&spot.to_le_bytes(), state)
            }
            _ => Begun::Unknown,
        };
        match begun {
            Begun::Again => Ok(()),
            Begun::Unknown => template.render(registry, context, state, out),
            Begun::Fresh => {
                template.render(registry, context, state, out)?;
                self.recorder.leave(state);
                Ok(())
            }
        }
    }
}

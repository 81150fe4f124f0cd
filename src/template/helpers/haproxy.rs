//! Helpers that write HAProxy's own syntax.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use std::sync::Arc;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::Value;

use super::super::answers::SERVER_ID;
use super::super::names::{IDS, backend_name, server_id, server_name};
use super::super::recorder::Recorder;
use super::super::slots::{MOST, SPARE_ADDRESS};
use super::super::source_map::Item;
use super::each::item_words;
use super::{Call, Given, describe, failed, refuse_missing, truthy};
use crate::catalog::fitness::is_host_name;

pub fn name(call: &Call<'_>) -> Given {
    let (node, id) = identity(call.value(0))?;
    Ok(server_name(node, id).into())
}

pub fn backend(call: &Call<'_>) -> Given {
    let name = call.text(0)?;
    if name.is_empty() {
        return Err("`backendName` wants the name of a service, and this is empty.".to_owned());
    }
    Ok(backend_name(&name).into())
}

pub fn id(call: &Call<'_>) -> Given {
    Ok(id_of(call.value(0))?.into())
}

pub fn address(call: &Call<'_>) -> Given {
    let mut text = String::new();
    write_address(call.value(0), &mut text)?;
    Ok(text.into())
}

fn identity(instance: &Value) -> Result<(&str, &str), String> {
    let text = |name: &str| instance.get(name).and_then(Value::as_str);
    text("Node").zip(text("ID")).ok_or_else(|| {
        format!(
            "An instance of a service is wanted here, with Node and ID, and this is {}.",
            describe(instance)
        )
    })
}

/// The id that was settled among the instances of its answer; one that comes from elsewhere, such as
/// `parseJSON`, gets the id it would have alone.
fn id_of(instance: &Value) -> Result<u32, String> {
    let (node, id) = identity(instance)?;
    let settled = instance
        .get(SERVER_ID)
        .and_then(Value::as_u64)
        .and_then(|settled| u32::try_from(settled).ok())
        .filter(|settled| IDS.contains(settled));
    Ok(settled.unwrap_or_else(|| server_id(node, id)))
}

fn write_address(instance: &Value, out: &mut String) -> Result<(), String> {
    let address = instance.get("Address").and_then(Value::as_str);
    let port = instance.get("Port").and_then(Value::as_i64);
    // What comes from `parseJSON` was not judged yet; server lines are not escaped.
    let fit = |address: &str, port: i64| {
        (address.parse::<IpAddr>().is_ok() || is_host_name(address)) && (1..=65535).contains(&port)
    };
    let Some((address, port)) = address
        .zip(port)
        .filter(|(address, port)| fit(address, *port))
    else {
        return Err(format!(
            "An instance of a service is wanted here, with Address and Port, and this is {}.",
            describe(instance)
        ));
    };
    // HAProxy 2.6 configuration manual 11.2: an IPv6 address with a port is best put in brackets.
    let result = if address.parse::<Ipv6Addr>().is_ok() {
        write!(out, "[{address}]:{port}")
    } else {
        write!(out, "{address}:{port}")
    };
    result.map_err(|error| error.to_string())
}

/// What `servers` and `slots` share: a list of instances, and options that the template writes out.
fn list_of<'a>(helper: &'a Helper<'_>, name: &str) -> Result<&'a Vec<Value>, RenderError> {
    refuse_missing(helper)?;
    helper
        .param(0)
        .and_then(|param| param.value().as_array())
        .ok_or_else(|| failed(format!("`{name}` wants a list of instances.")))
}

fn options_of<'a>(helper: &'a Helper<'_>) -> Result<&'a str, RenderError> {
    match helper.hash_get("options") {
        None => Ok(""),
        Some(options) => options
            .try_get_constant_value()
            .and_then(Value::as_str)
            .ok_or_else(|| {
                failed("`options` must be a text written in the template: it may hold several keywords, and data may add none.")
            }),
    }
}

/// The pair that the engine adds: the column of the tag.
pub const COLUMN: &str = "@column";

/// What stands between two lines: a line end, and as many blanks as stand before the tag.
pub(super) fn line_break(helper: &Helper<'_>) -> String {
    let column = helper
        .hash_get(COLUMN)
        .and_then(|column| column.value().as_u64())
        .and_then(|column| usize::try_from(column).ok())
        .unwrap_or(1);
    format!("\n{}", " ".repeat(column.saturating_sub(1).min(64)))
}

/// `{{servers LIST options="…" weight=true id=false}}`: all lines at once, indented like the tag.
pub struct ServersHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for ServersHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let list = list_of(helper, "servers")?;
        let options = options_of(helper)?;
        let wants = |pair: &str, otherwise: bool| {
            helper
                .hash_get(pair)
                .map_or(otherwise, |value| truthy(value.value()))
        };
        let (weight, with_id) = (wants("weight", false), wants("id", true));
        let line_break = line_break(helper);
        let mut text = String::with_capacity(list.len() * 64);
        for (index, instance) in list.iter().enumerate() {
            if index > 0 {
                text.push_str(&line_break);
            }
            let (node, id) = identity(instance).map_err(failed)?;
            text.push_str("server ");
            text.push_str(&server_name(node, id));
            text.push(' ');
            write_address(instance, &mut text).map_err(failed)?;
            if with_id {
                let _ = write!(text, " id {}", id_of(instance).map_err(failed)?);
            }
            if !options.is_empty() {
                text.push(' ');
                text.push_str(options);
            }
            if weight {
                let weight = instance["Weights"]["Passing"]
                    .as_i64()
                    .filter(|weight| (0..=256).contains(weight))
                    .ok_or_else(|| failed("`servers` wants Weights.Passing between 0 and 256."))?;
                let _ = write!(text, " weight {weight}");
            }
        }
        if self.recorder.is_marked() {
            note_lines(&self.recorder, list.iter().map(Some));
        }
        Ok(ScopedJson::Derived(text.into()))
    }
}

/// Notes which instance each line is about, for source maps.
fn note_lines<'a>(recorder: &Recorder, list: impl Iterator<Item = Option<&'a Value>>) {
    let lines = list
        .map(|one| {
            recorder.number_item(|| {
                Some(Item {
                    query: None,
                    what: item_words(one?)?,
                    name: None,
                })
            })
        })
        .collect();
    recorder.state().lines = lines;
}

/// How many spare slots there are unless the template says.
const SPARE: u64 = 4;

/// `{{slots LIST name="…" spare=4 options="…"}}`: one line for each slot, indented like the tag.
pub struct SlotsHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for SlotsHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let list = list_of(helper, "slots")?;
        let options = options_of(helper)?;
        let name = helper
            .hash_get("name")
            .and_then(|name| name.value().as_str())
            .filter(|name| is_slot_name(name))
            .ok_or_else(|| {
                failed("`slots` wants name=\"…\": up to 64 letters, digits and `_ . : -`; slot 1 is then the server NAME-1.")
            })?;
        let spare = helper
            .hash_get("spare")
            .map_or(Some(SPARE), |spare| spare.value().as_u64())
            .and_then(|spare| usize::try_from(spare).ok())
            .filter(|spare| (1..=MOST).contains(spare))
            .ok_or_else(|| {
                failed(format!(
                    "`slots` wants spare= as a whole number from 1 to {MOST}."
                ))
            })?;
        let mut addresses = Vec::with_capacity(list.len());
        for instance in list {
            let mut address = String::new();
            write_address(instance, &mut address).map_err(failed)?;
            addresses.push(address);
        }
        let unique: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
        if unique.len() < addresses.len() {
            return Err(failed(
                "Two instances in the list of `slots` have the same address, which is what tells them apart. Use {{uniq}} or mend the list.",
            ));
        }
        let mut group = self.recorder.slots_before(name);
        group.assign(&unique, spare);
        let mut text = String::with_capacity(64 * list.len());
        let line_break = line_break(helper);
        for (index, address) in group.iter().enumerate() {
            if index > 0 {
                text.push_str(&line_break);
            }
            let number = index + 1;
            let (address, disabled) = match address {
                Some(address) => (address, ""),
                None => (SPARE_ADDRESS, " disabled"),
            };
            let _ = write!(
                text,
                "server {name}-{number} {address} id {number}{disabled}"
            );
            if !options.is_empty() {
                text.push(' ');
                text.push_str(options);
            }
        }
        if self.recorder.is_marked() {
            let instances: BTreeMap<&str, &Value> =
                addresses.iter().map(String::as_str).zip(list).collect();
            let of_slot = |address: Option<&str>| instances.get(address?).copied();
            note_lines(&self.recorder, group.iter().map(of_slot));
        }
        if !self.recorder.assign_slots(name, spare, group) {
            return Err(failed(format!(
                "The name `{name}` is used by two `slots`. Give each its own: it says whose slots are whose."
            )));
        }
        Ok(ScopedJson::Derived(text.into()))
    }
}

fn is_slot_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

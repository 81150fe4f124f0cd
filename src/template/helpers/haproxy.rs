//! Helpers that write HAProxy's own syntax.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::Value;

use super::super::answers::is_host_name;
use super::super::names::server_name;
use super::{Call, Given, describe, failed, refuse_missing, truthy};

pub fn name(call: &Call<'_>) -> Given {
    let (node, id) = identity(call.value(0))?;
    Ok(server_name(node, id).into())
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

/// `{{servers LIST options="…" weight=true}}`: all lines at once, indented like the tag.
pub struct ServersHelper;

/// The pair that the engine adds: the column of the tag.
pub const COLUMN: &str = "@column";

impl HelperDef for ServersHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let list = helper
            .param(0)
            .and_then(|param| param.value().as_array())
            .ok_or_else(|| failed("`servers` wants a list of instances."))?;
        let options = match helper.hash_get("options") {
            None => "",
            Some(options) => options
                .try_get_constant_value()
                .and_then(Value::as_str)
                .ok_or_else(|| {
                    failed("`options` must be a text written in the template: it may hold several keywords, and data may add none.")
                })?,
        };
        let weight = helper
            .hash_get("weight")
            .is_some_and(|weight| truthy(weight.value()));
        let column = helper
            .hash_get(COLUMN)
            .and_then(|column| column.value().as_u64())
            .unwrap_or(1);
        let indent = " ".repeat(
            usize::try_from(column)
                .unwrap_or(1)
                .saturating_sub(1)
                .min(64),
        );
        let mut text = String::with_capacity(list.len() * 64);
        for (index, instance) in list.iter().enumerate() {
            if index > 0 {
                text.push('\n');
                text.push_str(&indent);
            }
            let (node, id) = identity(instance).map_err(failed)?;
            text.push_str("server ");
            text.push_str(&server_name(node, id));
            text.push(' ');
            write_address(instance, &mut text).map_err(failed)?;
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
        Ok(ScopedJson::Derived(text.into()))
    }
}

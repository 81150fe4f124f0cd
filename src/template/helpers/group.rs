//! Helpers that make groups of lists, and trees of keys.

use serde_json::{Map, Value};

use super::{Call, Given, as_text, describe};
use crate::catalog::fitness::shorten;

/// How deep a tree may become that a helper makes.
const MAX_DEPTH: usize = 64;

/// Items by a text, in the order of the texts.
fn group(groups: &mut Map<String, Value>, key: String, item: &Value) {
    let entry = groups
        .entry(key)
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = entry {
        list.push(item.clone());
    }
}

pub fn by_tag(call: &Call<'_>) -> Given {
    let mut groups = Map::new();
    for item in call.list(0)? {
        for tag in item
            .get("Tags")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(tag) = as_text(tag) {
                group(&mut groups, tag, item);
            }
        }
    }
    Ok(groups.into())
}

pub fn by_port(call: &Call<'_>) -> Given {
    let mut groups = Map::new();
    for item in call.list(0)? {
        let Some(port) = item.get("Port").and_then(Value::as_i64) else {
            return Err("`byPort` wants instances, with a Port each.".to_owned());
        };
        group(&mut groups, port.to_string(), item);
    }
    Ok(groups.into())
}

/// The names come first; they may also come last.
pub fn by_meta(call: &Call<'_>) -> Given {
    let (names, list) = match (call.value(0), call.value(1)) {
        (Value::Array(_), _) => (call.text(1)?, call.list(0)?),
        _ => (call.text(0)?, call.list(1)?),
    };
    let mut groups = Map::new();
    for item in list {
        let parts: Result<Vec<String>, String> = names
            .split(',')
            .map(|name| meta_part(item, name.trim()))
            .collect();
        group(&mut groups, parts?.join("_"), item);
    }
    Ok(groups.into())
}

/// What one name adds to the key of an instance's group, in letters that can stand in a file name.
fn meta_part(item: &Value, name: &str) -> Result<String, String> {
    let (name, is_number) = match name.split_once('|') {
        None => (name, false),
        Some((name, "int")) => (name, true),
        Some((_, other)) => {
            return Err(format!(
                "`byMeta` knows only `|int`, not `|{}`.",
                shorten(other)
            ));
        }
    };
    let meta = item.get("ServiceMeta").and_then(|meta| meta.get(name));
    let text = meta.and_then(as_text).filter(|text| !text.is_empty());
    let text = match (text, is_number) {
        (None, false) => format!("_no_{name}_"),
        (None, true) => "00000".to_owned(),
        (Some(text), false) => text,
        (Some(text), true) => match text.trim().parse::<i64>() {
            Ok(number) => format!("{number:05}"),
            Err(_) => {
                return Err(format!(
                    "The metadata `{}` of an instance is a text of {} letters that is no whole number, so that `|int` cannot sort by it.",
                    shorten(name),
                    text.chars().count()
                ));
            }
        },
    };
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    Ok(text.replace(|letter| !legal(letter), "_"))
}

pub fn by_key(call: &Call<'_>) -> Given {
    let mut groups: Map<String, Value> = Map::new();
    for item in call.list(0)? {
        let Some(key) = item.get("Key").and_then(Value::as_str) else {
            return Err("`byKey` wants what `tree` or `ls` give.".to_owned());
        };
        let Some((folder, rest)) = key.split_once('/').filter(|(_, rest)| !rest.is_empty()) else {
            continue;
        };
        let mut inner = item.clone();
        if let Value::Object(fields) = &mut inner {
            fields.insert("Key".to_owned(), rest.into());
        }
        let folder = groups
            .entry(folder.to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(keys) = folder {
            keys.insert(rest.to_owned(), inner);
        }
    }
    Ok(groups.into())
}

pub fn explode(call: &Call<'_>) -> Given {
    let mut tree = Map::new();
    for item in call.list(0)? {
        let (Some(key), Some(value)) = (item.get("Key").and_then(Value::as_str), item.get("Value"))
        else {
            return Err("`explode` wants what `tree` or `ls` give.".to_owned());
        };
        put(&mut tree, key, value)?;
    }
    Ok(tree.into())
}

pub fn explode_map(call: &Call<'_>) -> Given {
    let mut tree = Map::new();
    for (key, value) in object(call, 0)? {
        put(&mut tree, key, value)?;
    }
    Ok(tree.into())
}

/// Puts a value into a tree at a path.
fn put(tree: &mut Map<String, Value>, path: &str, value: &Value) -> Result<(), String> {
    let mut folder = tree;
    let mut steps = path.split('/');
    let name = steps.next_back().unwrap_or_default();
    for (depth, step) in steps.enumerate() {
        if depth >= MAX_DEPTH {
            return Err(format!(
                "The key `{}` is more than {MAX_DEPTH} folders deep.",
                shorten(path)
            ));
        }
        let inner = folder
            .entry(step.to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        match inner {
            Value::Object(inner) => folder = inner,
            _ => {
                return Err(format!(
                    "The key `{}` lies in what is no folder but has a value itself.",
                    shorten(path)
                ));
            }
        }
    }
    if !name.is_empty() {
        folder.insert(name.to_owned(), value.clone());
    }
    Ok(())
}

pub fn merge_map(call: &Call<'_>) -> Given {
    let mut merged = object(call, 0)?.clone();
    merge(&mut merged, object(call, 1)?, false);
    Ok(merged.into())
}

pub fn merge_map_with_override(call: &Call<'_>) -> Given {
    let mut merged = object(call, 0)?.clone();
    merge(&mut merged, object(call, 1)?, true);
    Ok(merged.into())
}

/// Adds what is missing or empty; with `over` also replaces what is there. Objects in both are
/// merged in turn.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>, over: bool) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value, over),
            (Some(there), value) => {
                if !super::truthy(there) || (over && super::truthy(value)) {
                    there.clone_from(value);
                }
            }
            (None, value) => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

fn object<'a>(call: &Call<'a>, index: usize) -> Result<&'a Map<String, Value>, String> {
    let value = call.value(index);
    value.as_object().ok_or_else(|| {
        format!(
            "`{}` wants an object, such as parseJSON and explode give, and got {}.",
            call.name,
            describe(value)
        )
    })
}

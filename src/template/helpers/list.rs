//! Helpers on lists.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::math::equal;
use super::{Call, Given, as_number, as_text, describe};

/// The value at a path such as `ServiceMeta.zone`; nothing where the path ends early.
fn field<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .try_fold(item, |value, step| value.get(step))
        .unwrap_or(&Value::Null)
}

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

pub fn by_meta(call: &Call<'_>) -> Given {
    let names = call.text(1)?;
    let mut groups = Map::new();
    for item in call.list(0)? {
        let mut parts = Vec::new();
        for name in names.split(',') {
            let (name, number) = match name.trim().split_once('|') {
                Some((name, "int")) => (name, true),
                Some((_, other)) => {
                    return Err(format!("`byMeta` knows only `|int`, not `|{other}`."));
                }
                None => (name.trim(), false),
            };
            let value = item.get("ServiceMeta").map(|meta| field(meta, name));
            let text = value.and_then(as_text).unwrap_or_default();
            parts.push(if number {
                let number = as_number(&Value::String(text.clone())).unwrap_or_default();
                format!("{number:05}")
            } else {
                text
            });
        }
        group(&mut groups, parts.join("_"), item);
    }
    Ok(groups.into())
}

pub fn by_key(call: &Call<'_>) -> Given {
    let mut groups: Map<String, Value> = Map::new();
    for item in call.list(0)? {
        let Some(key) = item.get("Key").and_then(Value::as_str) else {
            return Err("`byKey` wants what `tree` or `ls` give.".to_owned());
        };
        if let Some((folder, rest)) = key.split_once('/') {
            let mut inner = item.clone();
            if let Value::Object(fields) = &mut inner {
                fields.insert("Key".to_owned(), rest.into());
            }
            group(&mut groups, folder.to_owned(), &inner);
        }
    }
    Ok(groups.into())
}

pub fn filter(call: &Call<'_>) -> Given {
    let path = call.text(1)?;
    let wanted = call.value(2);
    let found: Vec<Value> = call
        .list(0)?
        .iter()
        .filter(|item| equal(field(item, &path), wanted))
        .cloned()
        .collect();
    Ok(found.into())
}

pub fn sort_by(call: &Call<'_>) -> Given {
    let path = call.text(1)?;
    let mut items = call.list(0)?.clone();
    items.sort_by(|one, two| compare(field(one, &path), field(two, &path)));
    if call.count() > 2 {
        match call.text(2)?.as_str() {
            "asc" => {}
            "desc" => items.reverse(),
            other => {
                return Err(format!(
                    "`sortBy` knows \"asc\" and \"desc\", not \"{other}\"."
                ));
            }
        }
    }
    Ok(items.into())
}

/// Numbers before texts, each in its own order; everything else stays where it was.
fn compare(one: &Value, two: &Value) -> Ordering {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one
            .as_f64()
            .partial_cmp(&two.as_f64())
            .unwrap_or(Ordering::Equal),
        (Value::String(one), Value::String(two)) => one.cmp(two),
        (Value::Number(_), Value::String(_)) => Ordering::Less,
        (Value::String(_), Value::Number(_)) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

pub fn uniq(call: &Call<'_>) -> Given {
    let path = if call.count() > 1 {
        Some(call.text(1)?)
    } else {
        None
    };
    let mut seen = std::collections::BTreeSet::new();
    let kept: Vec<Value> = call
        .list(0)?
        .iter()
        .filter(|item| {
            let value = path.as_ref().map_or(*item, |path| field(item, path));
            seen.insert(value.to_string())
        })
        .cloned()
        .collect();
    Ok(kept.into())
}

pub fn first(call: &Call<'_>) -> Given {
    Ok(call.list(0)?.first().cloned().unwrap_or_default())
}

pub fn last(call: &Call<'_>) -> Given {
    Ok(call.list(0)?.last().cloned().unwrap_or_default())
}

pub fn limit(call: &Call<'_>) -> Given {
    let most = usize::try_from(call.number(1)?)
        .map_err(|_| "`limit` wants a number that is not negative.".to_owned())?;
    let kept: Vec<Value> = call.list(0)?.iter().take(most).cloned().collect();
    Ok(kept.into())
}

pub fn contains(call: &Call<'_>) -> Given {
    holds(call.value(1), call.value(0))
}

pub fn within(call: &Call<'_>) -> Given {
    holds(call.value(0), call.value(1))
}

fn holds(list: &Value, item: &Value) -> Given {
    match list {
        Value::Array(items) => Ok(items.iter().any(|found| equal(found, item)).into()),
        Value::Object(fields) => Ok(as_text(item)
            .is_some_and(|name| fields.contains_key(&name))
            .into()),
        Value::String(text) => Ok(as_text(item)
            .is_some_and(|part| text.contains(&part))
            .into()),
        other => Err(format!("{} holds no items.", describe(other))),
    }
}

pub fn join(call: &Call<'_>) -> Given {
    // consul-template writes the separator first when it pipes, last when it calls.
    let (list, separator) = match (call.value(0), call.value(1)) {
        (Value::Array(list), _) => (list, call.text(1)?),
        (_, Value::Array(list)) => (list, call.text(0)?),
        (other, _) => return Err(format!("`join` wants a list and got {}.", describe(other))),
    };
    let parts: Option<Vec<String>> = list.iter().map(as_text).collect();
    let parts = parts.ok_or("`join` wants a list of texts or numbers.")?;
    Ok(parts.join(&separator).into())
}

pub fn len(call: &Call<'_>) -> Given {
    let count = match call.value(0) {
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        Value::String(text) => text.chars().count(),
        other => return Err(format!("{} has no length.", describe(other))),
    };
    Ok(count.into())
}

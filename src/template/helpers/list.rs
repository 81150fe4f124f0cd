//! Helpers on lists.

use std::cmp::Ordering;

use serde_json::Value;

use super::math::equal;
use super::{Call, Given, as_text, describe};
use crate::catalog::fitness::shorten;

/// The value at a path such as `ServiceMeta.zone`; nothing where the path ends early.
fn field<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .try_fold(item, |value, step| value.get(step))
        .unwrap_or(&Value::Null)
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
                    "`sortBy` knows \"asc\" and \"desc\", not \"{}\".",
                    shorten(other)
                ));
            }
        }
    }
    Ok(items.into())
}

/// Numbers before texts before everything else, each in its own order.
fn compare(one: &Value, two: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        _ => 2,
    };
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one
            .as_f64()
            .partial_cmp(&two.as_f64())
            .unwrap_or(Ordering::Equal),
        (Value::String(one), Value::String(two)) => one.cmp(two),
        _ => rank(one).cmp(&rank(two)),
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

/// Step by step into a value, as Go's `index`.
pub fn index(call: &Call<'_>) -> Given {
    let mut value = call.value(0);
    for (place, step) in call.values().iter().enumerate().skip(1) {
        value = match value {
            Value::Array(list) => {
                let number = call.number(place)?;
                usize::try_from(number)
                    .ok()
                    .and_then(|number| list.get(number))
                    .ok_or_else(|| {
                        format!(
                            "There is no item {number} in a list of {}; the first is item 0.",
                            list.len()
                        )
                    })?
            }
            Value::Object(fields) => {
                let name = as_text(step).ok_or_else(|| {
                    format!(
                        "`index` wants the name of a field and got {}.",
                        describe(step)
                    )
                })?;
                fields.get(&name).unwrap_or(&Value::Null)
            }
            other => return Err(format!("{} has no items or fields.", describe(other))),
        };
    }
    Ok(value.clone())
}

/// From one place up to but not including another, of a list or a text.
pub fn slice(call: &Call<'_>) -> Given {
    let bounds = |length: usize| -> Result<(usize, usize), String> {
        let mut ends = (0, length);
        if call.count() > 1 {
            ends.0 = usize::try_from(call.number(1)?).unwrap_or(usize::MAX);
        }
        if call.count() > 2 {
            ends.1 = usize::try_from(call.number(2)?).unwrap_or(usize::MAX);
        }
        if ends.0 > ends.1 || ends.1 > length {
            return Err(format!(
                "`slice` wants a beginning and an end from 0 to {length}, in this order."
            ));
        }
        Ok(ends)
    };
    match call.value(0) {
        Value::Array(list) => {
            let (from, to) = bounds(list.len())?;
            let kept: Vec<Value> = list[from..to].to_vec();
            Ok(kept.into())
        }
        Value::String(text) => {
            let (from, to) = bounds(text.chars().count())?;
            let kept: String = text.chars().skip(from).take(to - from).collect();
            Ok(kept.into())
        }
        other => Err(format!(
            "`slice` wants a list or a text and got {}.",
            describe(other)
        )),
    }
}

pub fn contains(call: &Call<'_>) -> Given {
    holds(call.value(1), call.value(0)).map(Value::from)
}

pub fn within(call: &Call<'_>) -> Given {
    holds(call.value(0), call.value(1)).map(Value::from)
}

pub fn contains_all(call: &Call<'_>) -> Given {
    Ok(all_of(call, true)?.into())
}

pub fn contains_any(call: &Call<'_>) -> Given {
    Ok((!all_of(call, false)?).into())
}

pub fn contains_none(call: &Call<'_>) -> Given {
    Ok(all_of(call, false)?.into())
}

pub fn contains_not_all(call: &Call<'_>) -> Given {
    Ok((!all_of(call, true)?).into())
}

/// Whether each of the wanted items, which come first, is in the list, or each is not.
fn all_of(call: &Call<'_>, wanted: bool) -> Result<bool, String> {
    for item in call.list(0)? {
        if holds(call.value(1), item)? != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(list: &Value, item: &Value) -> Result<bool, String> {
    match list {
        Value::Array(items) => Ok(items.iter().any(|found| equal(found, item))),
        Value::Object(fields) => Ok(as_text(item).is_some_and(|name| fields.contains_key(&name))),
        Value::String(text) => Ok(as_text(item).is_some_and(|part| text.contains(&part))),
        Value::Null => Ok(false),
        other => Err(format!("{} holds no items.", describe(other))),
    }
}

pub fn join(call: &Call<'_>) -> Given {
    let (list, separator) = match (call.value(0), call.value(1)) {
        (Value::Array(list), _) => (list, call.text(1)?),
        (_, Value::Array(list)) => (list, call.text(0)?),
        (other, _) => return Err(format!("`join` wants a list and got {}.", describe(other))),
    };
    if separator.len().saturating_mul(list.len()) > super::MAX_RESULT {
        return Err("The result of `join` would be larger than 16 MiB.".to_owned());
    }
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

/// Numbers from the first, or 0, up to but not including the last.
pub fn numbers(call: &Call<'_>) -> Given {
    let (from, to) = match call.count() {
        1 => (0, call.number(0)?),
        _ => (call.number(0)?, call.number(1)?),
    };
    let count = to.saturating_sub(from);
    if usize::try_from(count).is_ok_and(|count| count > super::MAX_ITEMS) {
        return Err(format!(
            "`loop` makes at most {} numbers and was asked for {count}.",
            super::MAX_ITEMS
        ));
    }
    Ok((from..to).map(Value::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_unlike_kinds_have_an_order_too() {
        let list = serde_json::json!([{ "a": "x" }, {}, { "a": 2 }, { "a": 1 }, { "a": "b" }]);
        let call = Call {
            name: "sortBy",
            values: vec![&list, &Value::Null],
            pairs: Vec::new(),
        };
        assert!(sort_by(&call).is_err());
        let path = Value::from("a");
        let call = Call {
            values: vec![&list, &path],
            ..call
        };
        assert_eq!(
            sort_by(&call).unwrap(),
            serde_json::json!([{ "a": 1 }, { "a": 2 }, { "a": "b" }, { "a": "x" }, {}])
        );
    }
}

//! Helpers that compare and count.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Call, Given, as_number, describe, truthy};

pub fn eq(call: &Call<'_>) -> Given {
    Ok(equal(call.value(0), call.value(1)).into())
}

pub fn ne(call: &Call<'_>) -> Given {
    Ok((!equal(call.value(0), call.value(1))).into())
}

/// Numbers are equal by value, everything else by kind and value.
pub fn equal(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one.as_f64() == two.as_f64(),
        _ => one == two,
    }
}

pub fn lt(call: &Call<'_>) -> Given {
    order(call).map(|order| order.is_lt().into())
}

pub fn le(call: &Call<'_>) -> Given {
    order(call).map(|order| order.is_le().into())
}

pub fn gt(call: &Call<'_>) -> Given {
    order(call).map(|order| order.is_gt().into())
}

pub fn ge(call: &Call<'_>) -> Given {
    order(call).map(|order| order.is_ge().into())
}

/// Numbers by value, texts by their letters; a number and a text that is one compare as numbers.
fn order(call: &Call<'_>) -> Result<Ordering, String> {
    let (one, two) = (call.value(0), call.value(1));
    let comparable = match (one, two) {
        (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
        _ => as_number(one)
            .zip(as_number(two))
            .map(|(one, two)| one.cmp(&two)),
    };
    comparable.ok_or_else(|| {
        format!(
            "{} and {} cannot be compared.",
            describe(one),
            describe(two)
        )
    })
}

pub fn and(call: &Call<'_>) -> Given {
    pick(call, |value| !truthy(value))
}

pub fn or(call: &Call<'_>) -> Given {
    pick(call, truthy)
}

/// The first parameter of a kind, else the last one: the meaning Go's templates give these words.
fn pick(call: &Call<'_>, wanted: fn(&Value) -> bool) -> Given {
    let values = call.values();
    let chosen = values.iter().find(|value| wanted(value));
    Ok(chosen
        .or(values.last())
        .map_or(Value::Null, |value| (*value).clone()))
}

pub fn not(call: &Call<'_>) -> Given {
    Ok((!truthy(call.value(0))).into())
}

pub fn add(call: &Call<'_>) -> Given {
    whole(call, i64::checked_add)
}

pub fn subtract(call: &Call<'_>) -> Given {
    whole(call, |one, two| two.checked_sub(one))
}

pub fn multiply(call: &Call<'_>) -> Given {
    whole(call, i64::checked_mul)
}

pub fn divide(call: &Call<'_>) -> Given {
    refuse_zero(call)?;
    whole(call, |one, two| two.checked_div(one))
}

pub fn modulo(call: &Call<'_>) -> Given {
    refuse_zero(call)?;
    whole(call, |one, two| two.checked_rem(one))
}

fn refuse_zero(call: &Call<'_>) -> Result<(), String> {
    if call.number(0)? == 0 {
        return Err("A number cannot be divided by 0.".to_owned());
    }
    Ok(())
}

fn whole(call: &Call<'_>, operation: impl Fn(i64, i64) -> Option<i64>) -> Given {
    operation(call.number(0)?, call.number(1)?)
        .map(Value::from)
        .ok_or_else(|| "The result is too large for a 64-bit number.".to_owned())
}

pub fn parse_int(call: &Call<'_>) -> Given {
    call.number(0).map(Value::from)
}

pub fn parse_bool(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    match text.as_str() {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true.into()),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false.into()),
        _ => Err(format!(
            "`parseBool` wants true or false and got {}.",
            describe(call.value(0))
        )),
    }
}

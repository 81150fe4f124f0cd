//! Helpers that compare and count.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{Call, Given, describe, truthy};

pub fn eq(call: &Call<'_>) -> Given {
    let first = call.value(0);
    let others = call.values().iter().skip(1);
    Ok(others.copied().any(|other| equal(first, other)).into())
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
        _ => Amount::of(one)
            .zip(Amount::of(two))
            .and_then(|(one, two)| one.compare(two)),
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

/// A number: whole as long as it can be.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// Of 64 bits, with or without a sign.
    Whole(i128),
    Real(f64),
}

impl Amount {
    /// A number, also from a text that is one.
    fn of(value: &Value) -> Option<Amount> {
        match value {
            Value::Number(number) => {
                let whole = number.as_i64().map(i128::from);
                whole
                    .or_else(|| number.as_u64().map(i128::from))
                    .map(Amount::Whole)
                    .or_else(|| number.as_f64().map(Amount::Real))
            }
            Value::String(text) => {
                let text = text.trim();
                let whole = text.parse::<i64>().map(i128::from);
                whole
                    .or_else(|_| text.parse::<u64>().map(i128::from))
                    .ok()
                    .map(Amount::Whole)
                    .or_else(|| real(text).map(Amount::Real))
            }
            _ => None,
        }
    }

    fn real(self) -> f64 {
        match self {
            Amount::Whole(number) => number as f64,
            Amount::Real(number) => number,
        }
    }

    fn compare(self, other: Amount) -> Option<Ordering> {
        match (self, other) {
            (Amount::Whole(one), Amount::Whole(two)) => Some(one.cmp(&two)),
            (one, two) => one.real().partial_cmp(&two.real()),
        }
    }

    fn value(self) -> Option<Value> {
        match self {
            Amount::Whole(number) => match i64::try_from(number) {
                Ok(number) => Some(number.into()),
                Err(_) => u64::try_from(number).ok().map(Value::from),
            },
            Amount::Real(number) => Number::from_f64(number).map(Value::Number),
        }
    }
}

/// A finite number in digits.
fn real(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn amount(call: &Call<'_>, index: usize) -> Result<Amount, String> {
    let value = call.value(index);
    Amount::of(value).ok_or_else(|| call.wrong(index, "a number", value))
}

pub fn add(call: &Call<'_>) -> Given {
    calculate(call, i128::checked_add, |one, two| one + two)
}

pub fn subtract(call: &Call<'_>) -> Given {
    calculate(call, |one, two| two.checked_sub(one), |one, two| two - one)
}

pub fn multiply(call: &Call<'_>) -> Given {
    calculate(call, i128::checked_mul, |one, two| one * two)
}

pub fn divide(call: &Call<'_>) -> Given {
    refuse_zero(call)?;
    calculate(call, |one, two| two.checked_div(one), |one, two| two / one)
}

pub fn modulo(call: &Call<'_>) -> Given {
    refuse_zero(call)?;
    for index in [0, 1] {
        if matches!(amount(call, index)?, Amount::Real(_)) {
            return Err(call.wrong(index, "a whole number", call.value(index)));
        }
    }
    calculate(call, |one, two| two.checked_rem(one), |one, two| two % one)
}

fn refuse_zero(call: &Call<'_>) -> Result<(), String> {
    if amount(call, 0)?.real() == 0.0 {
        return Err("A number cannot be divided by 0.".to_owned());
    }
    Ok(())
}

fn calculate(
    call: &Call<'_>,
    whole: impl Fn(i128, i128) -> Option<i128>,
    real: impl Fn(f64, f64) -> f64,
) -> Given {
    let result = match (amount(call, 0)?, amount(call, 1)?) {
        (Amount::Whole(one), Amount::Whole(two)) => whole(one, two).map(Amount::Whole),
        (one, two) => Some(Amount::Real(real(one.real(), two.real()))),
    };
    result
        .and_then(Amount::value)
        .ok_or_else(|| "The result is too large for a 64-bit number.".to_owned())
}

pub fn minimum(call: &Call<'_>) -> Given {
    extreme(call, Ordering::is_le)
}

pub fn maximum(call: &Call<'_>) -> Given {
    extreme(call, Ordering::is_ge)
}

fn extreme(call: &Call<'_>, first: fn(Ordering) -> bool) -> Given {
    let (one, two) = (amount(call, 0)?, amount(call, 1)?);
    let chosen = match one.compare(two) {
        Some(order) if !first(order) => two,
        _ => one,
    };
    chosen
        .value()
        .ok_or_else(|| "The result is too large for a 64-bit number.".to_owned())
}

// From texts. An empty text is 0 or false, as in consul-template: so is the value of an empty key.

pub fn parse_int(call: &Call<'_>) -> Given {
    if call.value(0) == "" {
        return Ok(0.into());
    }
    call.number(0).map(Value::from)
}

pub fn parse_uint(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    match text.trim() {
        "" => Ok(0.into()),
        text => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| call.wrong(0, "a whole number that is not negative", call.value(0))),
    }
}

pub fn parse_float(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    let number = match text.trim() {
        "" => Some(0.0),
        text => real(text),
    };
    number
        .and_then(Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| call.wrong(0, "a number", call.value(0)))
}

pub fn parse_bool(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    match text.as_str() {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true.into()),
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false.into()),
        _ => Err(format!(
            "`parseBool` wants true or false and got {}.",
            describe(call.value(0))
        )),
    }
}

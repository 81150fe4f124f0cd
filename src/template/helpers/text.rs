//! Helpers on texts.

use serde_json::Value;

use super::{Call, Given, truthy};

/// The largest text that a replacement makes: chains of them grow fast, and no limit on the time of a
/// rendering ends one that has begun.
const MAX_VALUE: usize = 1 << 20;

pub fn split(call: &Call<'_>) -> Given {
    let (separator, text) = (call.text(0)?, call.text(1)?);
    let parts: Vec<Value> = if text.is_empty() {
        Vec::new()
    } else if separator.is_empty() {
        return Err("`split` wants a separator that is not empty.".to_owned());
    } else {
        text.split(&separator).map(Value::from).collect()
    };
    Ok(parts.into())
}

pub fn lower(call: &Call<'_>) -> Given {
    Ok(call.text(0)?.to_lowercase().into())
}

pub fn upper(call: &Call<'_>) -> Given {
    Ok(call.text(0)?.to_uppercase().into())
}

pub fn trim(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    if call.count() < 2 {
        return Ok(text.trim().into());
    }
    let set = call.text(1)?;
    Ok(text.trim_matches(|letter| set.contains(letter)).into())
}

pub fn replace_all(call: &Call<'_>) -> Given {
    let (from, to, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
    if from.is_empty() {
        return Err("`replaceAll` wants a text to replace that is not empty.".to_owned());
    }
    let grown = text.matches(&from).count().saturating_mul(to.len());
    if grown > MAX_VALUE {
        return Err("The result of `replaceAll` would be larger than 1 MiB.".to_owned());
    }
    Ok(text.replace(&from, &to).into())
}

pub fn regex_match(call: &Call<'_>) -> Given {
    Ok(regex(&call.text(0)?)?.is_match(&call.text(1)?).into())
}

pub fn regex_replace(call: &Call<'_>) -> Given {
    let (pattern, replacement, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let regex = regex(&pattern)?;
    // A reference such as `$0` may stand for the whole text.
    let each = replacement
        .len()
        .saturating_add(replacement.matches('$').count().saturating_mul(text.len()));
    if regex.find_iter(&text).count().saturating_mul(each) > MAX_VALUE {
        return Err("The result of `regexReplace` could be larger than 1 MiB.".to_owned());
    }
    Ok(regex
        .replace_all(&text, replacement.as_str())
        .as_ref()
        .into())
}

fn regex(pattern: &str) -> Result<regex_lite::Regex, String> {
    regex_lite::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| format!("The pattern is no regular expression: {error}."))
}

pub fn default(call: &Call<'_>) -> Given {
    let first = call.value(0);
    let taken = if truthy(first) { first } else { call.value(1) };
    Ok(taken.clone())
}

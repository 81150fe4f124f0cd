//! Helpers on texts.

use serde_json::{Map, Value};

use super::{Call, Given, MAX_ITEMS, truthy};

/// The largest text that a replacement makes: chains of them grow fast, and no limit on the time of a
/// rendering ends one that has begun.
const MAX_VALUE: usize = 1 << 20;

pub fn split(call: &Call<'_>) -> Given {
    let (separator, text) = (call.text(0)?, call.text(1)?);
    Ok(parts(call, &separator, text.trim())?.into())
}

/// The parts of a text; its letters where nothing separates them.
fn parts(call: &Call<'_>, separator: &str, text: &str) -> Result<Vec<Value>, String> {
    let parts: Vec<Value> = if text.is_empty() {
        Vec::new()
    } else if separator.is_empty() {
        let letters = text.chars().take(MAX_ITEMS + 1);
        letters.map(|letter| letter.to_string().into()).collect()
    } else {
        let parts = text.split(separator).take(MAX_ITEMS + 1);
        parts.map(Value::from).collect()
    };
    if parts.len() > MAX_ITEMS {
        return Err(format!(
            "`{}` makes at most {MAX_ITEMS} parts of a text.",
            call.name
        ));
    }
    Ok(parts)
}

pub fn split_to_map(call: &Call<'_>) -> Given {
    let (separator, inner, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let mut fields = Map::new();
    for part in parts(call, &separator, text.trim())? {
        if let Some((name, value)) = part.as_str().and_then(|part| part.split_once(&inner)) {
            fields.insert(name.to_owned(), value.into());
        }
    }
    Ok(fields.into())
}

pub fn lower(call: &Call<'_>) -> Given {
    Ok(call.text(0)?.to_lowercase().into())
}

pub fn upper(call: &Call<'_>) -> Given {
    Ok(call.text(0)?.to_uppercase().into())
}

/// The first letter of each word in capitals, the others as they are.
pub fn title(call: &Call<'_>) -> Given {
    let mut made = String::new();
    let mut begun = false;
    for letter in call.text(0)?.chars() {
        if letter.is_alphabetic() && !begun {
            made.extend(letter.to_uppercase());
            begun = true;
        } else {
            made.push(letter);
            begun &= letter.is_alphanumeric() || matches!(letter, '_' | '.' | '\'' | '’');
        }
    }
    Ok(made.into())
}

/// With one parameter the blanks go, with two the letters of the first.
pub fn trim(call: &Call<'_>) -> Given {
    let first = call.text(0)?;
    if call.count() < 2 {
        return Ok(first.trim().into());
    }
    let text = call.text(1)?;
    Ok(text.trim_matches(|letter| first.contains(letter)).into())
}

pub fn trim_prefix(call: &Call<'_>) -> Given {
    let (prefix, text) = (call.text(0)?, call.text(1)?);
    Ok(text.strip_prefix(&prefix).unwrap_or(&text).into())
}

pub fn trim_suffix(call: &Call<'_>) -> Given {
    let (suffix, text) = (call.text(0)?, call.text(1)?);
    Ok(text.strip_suffix(&suffix).unwrap_or(&text).into())
}

pub fn indent(call: &Call<'_>) -> Given {
    let text = call.text(1)?;
    let lines = text.split('\n').filter(|line| !line.is_empty()).count();
    let blanks = usize::try_from(call.number(0)?)
        .map_err(|_| "`indent` wants a number that is not negative.".to_owned())?;
    if blanks.saturating_mul(lines) > MAX_VALUE {
        return Err("The result of `indent` would be larger than 1 MiB.".to_owned());
    }
    // Without any line to indent, the number may be of any size.
    let blanks = if lines == 0 { 0 } else { blanks };
    let blanks = " ".repeat(blanks);
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| match line {
            "" => String::new(),
            line => format!("{blanks}{line}"),
        })
        .collect();
    Ok(lines.join("\n").into())
}

pub fn replace_all(call: &Call<'_>) -> Given {
    let (from, to, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
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

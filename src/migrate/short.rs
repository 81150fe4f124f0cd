//! consul-template's short form, `tag.name?ns=x@dc~near|states`, where it is worked out while rendering:
//! there, a name is a name, so its parts become pairs. Where it is written out it stays. Pure.

use super::functions::Trouble;
use super::known::{Known, SEPARATORS};
use super::value::Value;

/// The parameters and pairs of a helper that reads the catalog.
type Query = (Vec<Value>, Pairs);

type Pairs = Vec<(&'static str, Value)>;

/// Stand for a value in a text, one after the other: a private area of Unicode.
const FIRST_VALUE: u32 = 0xf_0000;

/// Parameters of a function that reads the catalog, as its helper takes them.
pub fn query(name: &str, mut given: Vec<Value>) -> Result<Query, Trouble> {
    let services = matches!(name, "service" | "connect");
    // Further parameters of `service` are its states.
    if services && given.len() > 2 {
        let known: Option<Vec<&str>> = given[1..].iter().map(Value::known_text).collect();
        if let Some(texts) = known {
            let states = Value::Text(texts.join(","));
            given.truncate(1);
            given.push(states);
        }
    }
    let Some(first) = given.first() else {
        return Ok((given, Vec::new()));
    };
    let rest: Vec<Value> = given[1..].to_vec();
    let parts = match (first, first.known()) {
        (Value::Text(text), _) => vec![Value::Text(text.clone())],
        (Value::Joined(parts), _) => parts.clone(),
        (_, Some(Known::Text(text))) if text.contains(SEPARATORS) => vec![Value::Text(text)],
        (_, Some(Known::Joined(parts))) if parts.iter().any(separates) => parts,
        (other, _) => {
            if matches!(name, "services" | "nodes") {
                return Err(Trouble::new(
                    format!("What `{name}` is asked is not known before it is rendered."),
                    format!(
                        "Name the datacenter: {{{{#each ({name} dc={})}}}}.",
                        other.parameter()
                    ),
                ));
            }
            return Ok((given, Vec::new()));
        }
    };
    let (first, pairs) = split(name, &parts)?;
    let first = first.into_iter();
    Ok((first.chain(rest).collect(), pairs))
}

/// Whether a constant ends a part of the short form.
fn separates(part: &Value) -> bool {
    matches!(part, Value::Text(text) if text.contains(SEPARATORS))
}

fn split(name: &str, parts: &[Value]) -> Result<(Option<Value>, Pairs), Trouble> {
    let mut values = Vec::new();
    let mut text = String::new();
    for part in parts {
        match part {
            Value::Text(part) => text.push_str(part),
            Value::Path(path) if matches!(&path.known, Some(Known::Text(part)) if part.contains(SEPARATORS)) =>
            {
                text.push_str(part.known_text().unwrap_or_default());
            }
            other => {
                let stands = u32::try_from(values.len())
                    .ok()
                    .and_then(|at| char::from_u32(FIRST_VALUE + at));
                text.push(stands.unwrap_or('?'));
                values.push(other.clone());
            }
        }
    }
    let mut pairs = Vec::new();
    let asked = asked(&text, &values, &mut pairs)?;
    if values.is_empty() {
        // Written out, so that the short form is understood.
        return Ok((Some(Value::Text(text)), Vec::new()));
    }
    let text = asked;
    let mut rest = text.as_str();
    let services = matches!(name, "service" | "connect");
    let mut take = |separator: char, pair: &'static str, wanted: bool| -> Result<(), Trouble> {
        if wanted && let Some((left, right)) = rest.rsplit_once(separator) {
            pairs.push((pair, whole(right, &values)?));
            rest = left;
        }
        Ok(())
    };
    take('|', "status", services)?;
    take('~', "near", services || name == "nodes")?;
    take('@', "dc", true)?;
    if services && let Some((tag, name)) = rest.rsplit_once('.') {
        pairs.push(("tag", whole(tag, &values)?));
        rest = name;
    }
    pairs.reverse();
    match rest {
        "" => Ok((None, pairs)),
        rest => Ok((Some(whole(rest, &values)?), pairs)),
    }
}

/// Takes the part after `?` out, up to what follows it.
fn asked(text: &str, values: &[Value], pairs: &mut Pairs) -> Result<String, Trouble> {
    let Some((before, after)) = text.split_once('?') else {
        return Ok(text.to_owned());
    };
    let end = after.find(['@', '~', '|']).unwrap_or(after.len());
    for pair in after[..end].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = match name {
            "ns" => "ns",
            "partition" => "partition",
            other => {
                return Err(Trouble::new(
                    format!("Consul is not asked for a `{other}`."),
                    "Leave it out, or ask for what is in this cluster.",
                ));
            }
        };
        pairs.push((name, whole(value, values)?));
    }
    Ok(format!("{before}{}", &after[end..]))
}

/// A part of the text as a value.
fn whole(text: &str, values: &[Value]) -> Result<Value, Trouble> {
    let mut parts: Vec<Value> = Vec::new();
    let mut plain = String::new();
    for letter in text.chars() {
        let value = u32::from(letter)
            .checked_sub(FIRST_VALUE)
            .and_then(|at| values.get(at as usize));
        match value {
            Some(value) => {
                if !plain.is_empty() {
                    parts.push(Value::Text(std::mem::take(&mut plain)));
                }
                parts.push(value.clone());
            }
            None => plain.push(letter),
        }
    }
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Value::Text(plain));
    }
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(Value::Joined(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(name: &str, given: Vec<Value>) -> String {
        match query(name, given) {
            Ok((given, pairs)) => Value::Call {
                name: name.to_owned(),
                given,
                pairs,
            }
            .parameter(),
            Err(trouble) => trouble.why,
        }
    }

    #[test]
    fn a_short_form_that_is_written_out_stays() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (given, wanted) in [
            (
                vec![text("a.web@dc~n|any")],
                r#"(service "a.web@dc~n|any")"#,
            ),
            (
                vec![text("web"), text("passing,warning")],
                r#"(service "web" "passing,warning")"#,
            ),
            (
                vec![text("web?ns=a&partition=b@dc")],
                r#"(service "web?ns=a&partition=b@dc")"#,
            ),
            (
                vec![text("web?peer=a")],
                "Consul is not asked for a `peer`.",
            ),
        ] {
            assert_eq!(asked_for("service", given), wanted);
        }
    }

    #[test]
    fn one_that_is_put_together_becomes_pairs() {
        let text = |text: &str| Value::Text(text.to_owned());
        let joined = |parts: &[Value]| vec![Value::Joined(parts.to_vec())];
        let x = Value::path("x");
        for (name, given, wanted) in [
            ("service", vec![x.clone()], "(service x)"),
            (
                "service",
                vec![x.clone(), text("any")],
                r#"(service x "any")"#,
            ),
            (
                "service",
                joined(&[x.clone(), text(".web")]),
                r#"(service "web" tag=x)"#,
            ),
            (
                "service",
                joined(&[text("web@"), x.clone(), text("|any")]),
                r#"(service "web" dc=x status="any")"#,
            ),
            (
                "key",
                joined(&[x.clone(), text("@"), x.clone()]),
                "(key x dc=x)",
            ),
            (
                "services",
                joined(&[text("@"), x.clone()]),
                "(services dc=x)",
            ),
            (
                "services",
                vec![x.clone()],
                "What `services` is asked is not known before it is rendered.",
            ),
        ] {
            assert_eq!(asked_for(name, given), wanted);
        }
        let known = super::super::value::Path {
            text: "s".to_owned(),
            known: Some(Known::Text("prod.web".to_owned())),
            ..super::super::value::Path::default()
        };
        assert_eq!(
            asked_for("service", vec![Value::Path(known)]),
            r#"(service "prod.web")"#
        );
    }
}

//! Helpers that read and write formats, and digests.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value};

use super::super::answers::SERVER_ID;
use super::{Call, Given, yaml};

/// The largest text that is read as JSON or YAML.
const MAX_INPUT: usize = 1 << 20;

pub fn to_json(call: &Call<'_>) -> Given {
    Ok(escaped(&shown(call.value(0)).to_string()).into())
}

pub fn to_json_pretty(call: &Call<'_>) -> Given {
    Ok(escaped(&pretty(call)?).into())
}

pub fn to_unescaped_json(call: &Call<'_>) -> Given {
    Ok(shown(call.value(0)).to_string().into())
}

pub fn to_unescaped_json_pretty(call: &Call<'_>) -> Given {
    Ok(pretty(call)?.into())
}

fn pretty(call: &Call<'_>) -> Result<String, String> {
    serde_json::to_string_pretty(&shown(call.value(0)))
        .map_err(|error| format!("The value cannot be written as JSON: {error}."))
}

/// As Go's encoder writes JSON unless told otherwise: nothing in it is markup. These letters stand
/// only inside of texts.
fn escaped(json: &str) -> String {
    let mut made = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                made.push_str(&format!("\\u{:04x}", letter as u32));
            }
            letter => made.push(letter),
        }
    }
    made
}

/// A value without what only helpers read.
fn shown(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(shown).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != SERVER_ID)
            .map(|(name, value)| (name.clone(), shown(value)))
            .collect::<Map<_, _>>()
            .into(),
        // Go writes 1.0 as 1, up to 21 digits; these are those that have a whole number here.
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(real) if real.fract() == 0.0 && real.abs() < 1e18 => (real as i64).into(),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

pub fn parse_json(call: &Call<'_>) -> Given {
    match input(call)?.as_str() {
        "" => Ok(Map::new().into()),
        text => {
            serde_json::from_str(text).map_err(|error| format!("The text is no JSON: {error}."))
        }
    }
}

pub fn to_yaml(call: &Call<'_>) -> Given {
    Ok(yaml::write(&shown(call.value(0))).into())
}

pub fn parse_yaml(call: &Call<'_>) -> Given {
    match input(call)?.as_str() {
        "" => Ok(Map::new().into()),
        text => yaml::read(text),
    }
}

fn input(call: &Call<'_>) -> Result<String, String> {
    let text = call.text(0)?;
    if text.len() > MAX_INPUT {
        return Err("A text that is read may have 1 MiB, and this one is larger.".to_owned());
    }
    Ok(text)
}

pub fn base64_encode(call: &Call<'_>) -> Given {
    Ok(STANDARD.encode(call.text(0)?).into())
}

pub fn base64_url_encode(call: &Call<'_>) -> Given {
    Ok(URL_SAFE.encode(call.text(0)?).into())
}

pub fn base64_decode(call: &Call<'_>) -> Given {
    decoded(STANDARD.decode(call.text(0)?.trim()))
}

pub fn base64_url_decode(call: &Call<'_>) -> Given {
    decoded(URL_SAFE.decode(call.text(0)?.trim()))
}

fn decoded(bytes: Result<Vec<u8>, base64::DecodeError>) -> Given {
    let bytes =
        bytes.map_err(|error| format!("The text is no base64: {}.", base64_fault(&error)))?;
    String::from_utf8(bytes)
        .map(Into::into)
        .map_err(|_| "The decoded bytes are no UTF-8 text.".to_owned())
}

/// What is wrong, without the letter: it may be one of a secret.
fn base64_fault(error: &base64::DecodeError) -> String {
    match error {
        base64::DecodeError::InvalidByte(at, _)
        | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => {
            format!("the letter at {} does not belong there", at + 1)
        }
        base64::DecodeError::InvalidLength(length) => {
            format!("{length} letters are no whole number of bytes")
        }
        base64::DecodeError::InvalidPadding => "its end is not filled up by `=`".to_owned(),
    }
}

pub fn sha256_hex(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    Ok(hex(digest.as_ref()).into())
}

pub fn md5_sum(call: &Call<'_>) -> Given {
    Ok(hex(&md5::compute(call.text(0)?).0).into())
}

/// The message comes first and the key last.
pub fn hmac_sha256_hex(call: &Call<'_>) -> Given {
    let (message, key) = (call.text(0)?, call.text(1)?);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    Ok(hex(ring::hmac::sign(&key, message.as_bytes()).as_ref()).into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

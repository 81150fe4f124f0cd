//! Helpers that read and write formats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Call, Given};

pub fn to_json(call: &Call<'_>) -> Given {
    Ok(call.value(0).to_string().into())
}

pub fn parse_json(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    serde_json::from_str(&text).map_err(|error| format!("The text is no JSON: {error}."))
}

pub fn base64_encode(call: &Call<'_>) -> Given {
    Ok(STANDARD.encode(call.text(0)?).into())
}

pub fn base64_decode(call: &Call<'_>) -> Given {
    let text = call.text(0)?;
    let bytes = STANDARD
        .decode(text.trim())
        .map_err(|error| format!("The text is no base64: {}.", base64_fault(&error)))?;
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

//! Go's literals: what quoted texts, characters and numbers stand for. Pure.

/// The text of `"…"`, `` `…` `` or `'x'`, quotes included; nothing when it is none in Go, or no UTF-8.
pub fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        // Go takes carriage returns out of such texts.
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter == '\n' || letter == quote {
            return None;
        }
        if letter == '\\' {
            escape(&mut letters, quote, &mut bytes)?;
        } else {
            bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

/// What follows a backslash.
fn escape(letters: &mut std::str::Chars<'_>, quote: char, bytes: &mut Vec<u8>) -> Option<()> {
    let letter = letters.next()?;
    let plain = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        letter if letter == quote => u8::try_from(letter).ok()?,
        'x' => u8::try_from(digits(letters, 16, 2)?).ok()?,
        '0'..='7' => {
            let rest = digits(letters, 8, 2)?;
            u8::try_from(letter.to_digit(8)? * 64 + rest).ok()?
        }
        'u' | 'U' => {
            let code = digits(letters, 16, if letter == 'u' { 4 } else { 8 })?;
            let letter = char::from_u32(code)?;
            bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
            return Some(());
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(())
}

fn digits(letters: &mut std::str::Chars<'_>, radix: u32, count: usize) -> Option<u32> {
    (0..count).try_fold(0u32, |sum, _| {
        let digit = letters.next()?.to_digit(radix)?;
        sum.checked_mul(radix)?.checked_add(digit)
    })
}

/// The code of `'x'`.
pub fn character(text: &str) -> Option<String> {
    let text = unquote(text)?;
    let mut letters = text.chars();
    let letter = letters.next()?;
    letters
        .next()
        .is_none()
        .then(|| u32::from(letter).to_string())
}

/// A number as Handlebars writes it: in decimal digits.
pub fn number(text: &str) -> Option<String> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) => ("-", body),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = body.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let whole = if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = lower.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok()
    } else if let Some(binary) = lower.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit())
    {
        u64::from_str_radix(&lower[1..], 8).ok()
    } else {
        lower.parse().ok()
    };
    if let Some(whole) = whole {
        return Some(format!("{sign}{whole}"));
    }
    let plain = |byte: u8| byte.is_ascii_digit() || b".e+-".contains(&byte);
    if !lower.bytes().all(plain) || !lower.contains(['.', 'e']) {
        return None;
    }
    let value: f64 = lower.parse().ok()?;
    value.is_finite().then(|| format!("{sign}{value}"))
}

/// A text as Handlebars writes it, in double quotes.
pub fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_as_go_reads_them() {
        for (text, meaning) in [
            (r#""a\tb\"\\""#, Some("a\tb\"\\")),
            (r#""\x41\101é\U0001F600""#, Some("AAé😀")),
            (r#"`a\n""`"#, Some("a\\n\"\"")),
            (r#""\xff""#, None),
            (r#""\q""#, None),
            (r#""\'""#, None),
        ] {
            assert_eq!(unquote(text).as_deref(), meaning, "{text}");
        }
        assert_eq!(character(r"'\n'").as_deref(), Some("10"));
        assert_eq!(character("'ab'"), None);
    }

    #[test]
    fn numbers_become_decimal() {
        for (text, meaning) in [
            ("1_000", Some("1000")),
            ("-0x1F", Some("-31")),
            ("0o17", Some("15")),
            ("017", Some("15")),
            ("0b101", Some("5")),
            ("1e3", Some("1000")),
            ("+1.50", Some("1.5")),
            ("089", None),
            ("1i", None),
            ("infinity", None),
        ] {
            assert_eq!(number(text).as_deref(), meaning, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_quoted_so_that_it_is_read_again(text in "(?s).*") {
            prop_assert_eq!(serde_json::from_str::<String>(&quote(&text)).unwrap(), text);
        }

        #[test]
        fn no_literal_makes_them_panic(text in "[\"'`]?(?s).{0,12}[\"'`]?") {
            unquote(&text);
            character(&text);
            number(&text);
        }
    }
}

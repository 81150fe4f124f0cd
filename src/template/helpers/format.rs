//! `printf` and `print`, with the verbs of Go that a configuration needs. What does not fit is an
//! error; Go would write `%!d(string=x)` into the file.

use serde_json::Value;

use super::{Call, Given, as_number, as_text, describe};
use crate::catalog::fitness::shorten;

/// The largest width and precision.
const MAX_WIDTH: usize = 1024;

pub fn print(call: &Call<'_>) -> Given {
    let mut text = String::new();
    for (index, value) in call.values().iter().enumerate() {
        // Go puts a blank between two parameters of which neither is a text.
        let before = index.checked_sub(1).map(|before| call.value(before));
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            text.push(' ');
        }
        text.push_str(&call.text(index)?);
    }
    Ok(text.into())
}

pub fn printf(call: &Call<'_>) -> Given {
    let format = call.text(0)?;
    let mut text = String::new();
    let mut values = call.values().iter().skip(1);
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let verb = Verb::read(&mut rest)?;
        if verb.letter == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| {
            format!(
                "`printf` has fewer values than verbs in \"{}\".",
                shorten(&format)
            )
        })?;
        text.push_str(&verb.write(value)?);
        if text.len() > super::MAX_RESULT {
            return Err("The result of `printf` would be larger than 16 MiB.".to_owned());
        }
    }
    match values.count() {
        0 => Ok(text.into()),
        more => Err(format!(
            "`printf` has {more} more values than verbs in \"{}\".",
            shorten(&format)
        )),
    }
}

/// A verb with its flags: `%-05.2f`.
struct Verb {
    left: bool,
    plus: bool,
    blank: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

impl Verb {
    /// Reads what follows `%`.
    fn read(rest: &mut std::str::Chars<'_>) -> Result<Verb, String> {
        let mut verb = Verb {
            left: false,
            plus: false,
            blank: false,
            zero: false,
            sharp: false,
            width: 0,
            precision: None,
            letter: '%',
        };
        loop {
            let Some(letter) = rest.next() else {
                return Err("The format of `printf` ends with `%`; `%%` writes one.".to_owned());
            };
            match letter {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                ' ' => verb.blank = true,
                '#' => verb.sharp = true,
                '0' if verb.width == 0 && verb.precision.is_none() => verb.zero = true,
                '.' => verb.precision = Some(0),
                '0'..='9' => {
                    let number = verb.precision.as_mut().unwrap_or(&mut verb.width);
                    *number = *number * 10 + letter as usize - '0' as usize;
                    if *number > MAX_WIDTH {
                        return Err(format!("`printf` writes at most {MAX_WIDTH} letters wide."));
                    }
                }
                _ => {
                    verb.letter = letter;
                    return Ok(verb);
                }
            }
        }
    }

    fn write(&self, value: &Value) -> Result<String, String> {
        let (sign, body) = match self.letter {
            'v' | 's' => ("", self.cut(text(value, self.letter)?)),
            'q' => ("", quoted(&self.cut(text(value, 'q')?))),
            't' => match value {
                Value::Bool(truth) => ("", truth.to_string()),
                other => return Err(wrong('t', "true or false", other)),
            },
            'd' => self.whole(value, |number| number.to_string())?,
            'b' => self.whole(value, |number| format!("{number:b}"))?,
            'o' => self.whole(value, |number| format!("{number:o}"))?,
            'x' | 'X' => match value {
                Value::String(text) => ("", self.bytes(text)),
                number => self.whole(number, |number| match self.letter {
                    'x' => format!("{}{number:x}", if self.sharp { "0x" } else { "" }),
                    _ => format!("{}{number:X}", if self.sharp { "0X" } else { "" }),
                })?,
            },
            'f' | 'F' => {
                let text = as_text(value).unwrap_or_default();
                let number: f64 = text
                    .trim()
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite())
                    .ok_or_else(|| wrong('f', "a number", value))?;
                let body = format!("{:.*}", self.precision.unwrap_or(6), number.abs());
                (self.sign(number.is_sign_negative()), body)
            }
            other => {
                return Err(format!(
                    "`printf` knows the verbs %v %s %q %d %x %X %o %b %f %t and %%, not `%{}`.",
                    shorten(&other.to_string())
                ));
            }
        };
        let missing = self.width.saturating_sub(sign.len() + body.chars().count());
        Ok(match (self.left, self.zero) {
            (true, _) => format!("{sign}{body}{}", " ".repeat(missing)),
            (_, true) => format!("{sign}{}{body}", "0".repeat(missing)),
            _ => format!("{}{sign}{body}", " ".repeat(missing)),
        })
    }

    fn whole(
        &self,
        value: &Value,
        digits: impl Fn(u64) -> String,
    ) -> Result<(&'static str, String), String> {
        let unsigned = value.as_u64();
        let number = as_number(value).ok_or_else(|| wrong(self.letter, "a whole number", value));
        let (negative, size) = match (unsigned, number) {
            (Some(size), _) => (false, size),
            (None, Ok(number)) => (number < 0, number.unsigned_abs()),
            (None, Err(error)) => return Err(error),
        };
        let mut body = digits(size);
        let wanted = self.precision.unwrap_or(0);
        if body.len() < wanted {
            body.insert_str(0, &"0".repeat(wanted - body.len()));
        }
        Ok((self.sign(negative), body))
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.blank) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// With a precision, at most so many letters.
    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    fn bytes(&self, text: &str) -> String {
        let bytes = text.bytes();
        if self.letter == 'x' {
            bytes.map(|byte| format!("{byte:02x}")).collect()
        } else {
            bytes.map(|byte| format!("{byte:02X}")).collect()
        }
    }
}

fn text(value: &Value, letter: char) -> Result<String, String> {
    as_text(value).ok_or_else(|| wrong(letter, "a text, a number or a truth value", value))
}

fn wrong(letter: char, wanted: &str, value: &Value) -> String {
    format!(
        "`%{letter}` of `printf` wants {wanted} and got {}.",
        describe(value)
    )
}

/// In double quotes, as Go's `%q`.
fn quoted(text: &str) -> String {
    let mut made = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => made.extend(['\\', letter]),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            letter if letter.is_ascii_control() => {
                made.push_str(&format!("\\x{:02x}", letter as u32));
            }
            letter if letter.is_control() => made.push_str(&format!("\\u{:04x}", letter as u32)),
            letter => made.push(letter),
        }
    }
    made.push('"');
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(values: &[Value]) -> Given {
        printf(&Call {
            name: "printf",
            values: values.iter().collect(),
            pairs: Vec::new(),
        })
    }

    /// As consul-template 0.42 wrote it.
    #[test]
    fn verbs_write_what_go_writes() {
        for (format, value, expected) in [
            ("%d", json!(7), "7"),
            ("%05d|", json!(-42), "-0042|"),
            ("%-5d|", json!(42), "42   |"),
            ("%5d|", json!("42"), "   42|"),
            ("%+d", json!(42), "+42"),
            ("% d", json!(42), " 42"),
            ("%.3d", json!(7), "007"),
            ("%x %%", json!(255), "ff %"),
            ("%#X", json!(255), "0XFF"),
            ("%x", json!("az"), "617a"),
            ("%o", json!(8), "10"),
            ("%b", json!(5), "101"),
            ("%d", json!(u64::MAX), "18446744073709551615"),
            ("%d", json!(i64::MIN), "-9223372036854775808"),
            ("%v", json!(true), "true"),
            ("%t", json!(false), "false"),
            ("%s", json!("é"), "é"),
            ("%-10s|", json!("web"), "web       |"),
            ("%.2s", json!("web"), "we"),
            ("%q", json!("a\"b\\c\n\u{1}"), "\"a\\\"b\\\\c\\n\\x01\""),
            ("%.2f", json!(1.005), "1.00"),
            ("%8.2f|", json!(-2.71), "   -2.71|"),
            ("%f", json!(2), "2.000000"),
        ] {
            assert_eq!(
                printed(&[format.into(), value.clone()]),
                Ok(expected.into()),
                "{format} {value}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for (values, expected) in [
            (
                vec![json!("%d"), json!("x")],
                "`%d` of `printf` wants a whole number and got a text of 1 letters.",
            ),
            (
                vec![json!("%s")],
                "`printf` has fewer values than verbs in \"%s\".",
            ),
            (
                vec![json!("a"), json!(1)],
                "`printf` has 1 more values than verbs in \"a\".",
            ),
            (
                vec![json!("100%")],
                "The format of `printf` ends with `%`; `%%` writes one.",
            ),
            (
                vec![json!("%T"), json!(1)],
                "`printf` knows the verbs %v %s %q %d %x %X %o %b %f %t and %%, not `%T`.",
            ),
            (
                vec![json!("%99999d"), json!(1)],
                "`printf` writes at most 1024 letters wide.",
            ),
            (
                vec![json!("%s"), json!([1])],
                "`%s` of `printf` wants a text, a number or a truth value and got a list of 1.",
            ),
        ] {
            assert_eq!(printed(&values), Err(expected.to_owned()));
        }
    }
}

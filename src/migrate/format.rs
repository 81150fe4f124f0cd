//! Go's formats of `printf`: which of its verbs the helper writes to the same bytes, and which value
//! each of them takes. Pure.

use super::functions::Trouble;

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// A verb that writes the value of this place as it is.
    Plain(usize),
    /// Another verb, without the place of its value.
    Verb(String, usize),
}

/// The parts of a format that is given so many values.
pub fn read(format: &str, count: usize) -> Result<Vec<Part>, Trouble> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut next = 0;
    let mut placed = false;
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (verb, after) = Verb::read(after).ok_or_else(|| unknown(after))?;
        if let Some(place) = verb.place {
            next = place;
            placed = true;
        }
        if next >= count {
            return Err(miscounted());
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(match verb.code.as_str() {
            "s" | "d" | "v" => Part::Plain(next),
            code => Part::Verb(code.to_owned(), next),
        });
        next += 1;
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    // Where places are written, Go says nothing of values that are left.
    match placed || next == count {
        true => Ok(parts),
        false => Err(miscounted()),
    }
}

struct Verb {
    /// Its flags, width, precision and letter.
    code: String,
    /// The place of its value, from 0.
    place: Option<usize>,
}

impl Verb {
    /// Reads what follows `%`, and what is left then; nothing where the helper writes something else.
    fn read(text: &str) -> Option<(Verb, &str)> {
        let end = |text: &str, taken: fn(char) -> bool| {
            text.find(|letter| !taken(letter)).unwrap_or(text.len())
        };
        let (flags, rest) = text.split_at(end(text, |letter| "+-# 0".contains(letter)));
        let (width, rest) = rest.split_at(end(rest, |letter| letter.is_ascii_digit()));
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(after) => {
                let (digits, rest) = after.split_at(end(after, |letter| letter.is_ascii_digit()));
                (Some(digits), rest)
            }
            None => (None, rest),
        };
        let (place, rest) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (place, rest) = inner.split_once(']')?;
                (Some(place.parse::<usize>().ok()?.checked_sub(1)?), rest)
            }
            None => (None, rest),
        };
        let letter = rest.chars().next()?;
        let fits = match letter {
            's' | 'q' => !flags.contains(['+', '#', ' ', '0']),
            'v' | 't' => precision.is_none() && !flags.contains(['+', '#', ' ', '0']),
            'd' | 'b' | 'o' => {
                !flags.contains('#') && (precision.is_none() || !flags.contains('0'))
            }
            'f' | 'F' => !flags.contains('#'),
            // Whether it is a text or a number is not known.
            'x' | 'X' => flags.is_empty() && precision.is_none(),
            _ => false,
        };
        let precision = precision.map_or(String::new(), |digits| format!(".{digits}"));
        fits.then(|| {
            let code = format!("{flags}{width}{precision}{letter}");
            (Verb { code, place }, &rest[letter.len_utf8()..])
        })
    }
}

fn unknown(after: &str) -> Trouble {
    let shown: String = after.chars().take(8).collect();
    Trouble::new(
        format!("`printf` here does not write `%{shown}` as Go does."),
        "Use %v %s %q %d %b %o %x %X %f or %t, with a width or a precision.",
    )
}

fn miscounted() -> Trouble {
    Trouble::new(
        "`printf` has another number of values than its format has verbs.",
        "Give each verb its value.",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn verb(code: &str, place: usize) -> Part {
        Part::Verb(code.to_owned(), place)
    }

    #[test]
    fn formats_are_taken_apart_and_each_verb_has_its_value() {
        for (format, count, parts) in [
            (
                "a%s:%d%%",
                2,
                vec![
                    text("a"),
                    Part::Plain(0),
                    text(":"),
                    Part::Plain(1),
                    text("%"),
                ],
            ),
            (
                "%[2]s %[1]s",
                2,
                vec![Part::Plain(1), text(" "), Part::Plain(0)],
            ),
            (
                "%[2]s%[1]v%s",
                3,
                vec![Part::Plain(1), Part::Plain(0), Part::Plain(1)],
            ),
            ("%[1]s%[1]05d", 1, vec![Part::Plain(0)]),
            (
                "%05d|%-6.2f",
                2,
                vec![verb("05d", 0), text("|"), verb("-6.2f", 1)],
            ),
            ("%6[2]d", 2, vec![verb("6d", 1)]),
        ] {
            match read(format, count) {
                Ok(found) => assert_eq!(found, parts, "{format}"),
                // A place is written right before the letter.
                Err(_) => assert_eq!(format, "%[1]s%[1]05d"),
            }
        }
    }

    #[test]
    fn what_the_helper_would_write_otherwise_is_told() {
        for format in [
            "%e", "%g", "%T", "%c", "%U", "%O", "%*d", "%#v", "%+v", "%#x", "%x %", "%[0]s",
            "%[x]s", "%[2]6d", "%.2v", "%05s", "%05.2d", "%!", "%é",
        ] {
            assert!(read(format, 1).is_err(), "{format}");
        }
        assert_eq!(read("%s", 0), Err(miscounted()));
        assert_eq!(read("a", 1), Err(miscounted()));
        assert_eq!(read("%[3]s", 2), Err(miscounted()));
    }

    proptest! {
        #[test]
        fn no_format_makes_it_panic(format in "[%a-z0-9\\[\\].+# é-]{0,20}", count in 0usize..4) {
            for part in read(&format, count).unwrap_or_default() {
                if let Part::Plain(place) | Part::Verb(_, place) = part {
                    prop_assert!(place < count);
                }
            }
        }
    }
}

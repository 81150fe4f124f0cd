//! The values that settings are written in: durations, sizes, permission bits, secrets. Each
//! refuses an impossible text itself, so that the error points at the value.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::catalog::Network;
use crate::diagnostic::nearest;
use crate::haproxy::process::is_handed_on;

/// A length of time, written as `250ms`, `30s`, `1m30s` or `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    /// Milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Time {
        Time(Duration::from_millis(milliseconds))
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let wrong = || {
            format!(
                "`{text}` is no length of time. Write a number with a unit: `250ms`, `30s`, `1m30s` or `2h`."
            )
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest
                .find(|letter: char| !letter.is_ascii_digit())
                .ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit_end = rest[digits..]
                .find(|letter: char| letter.is_ascii_digit())
                .map_or(rest.len(), |at| digits + at);
            let milliseconds = match rest[digits..unit_end].trim() {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(milliseconds).ok_or_else(wrong)?;
            total = total
                .checked_add(Duration::from_millis(part))
                .filter(|total| total.as_secs() <= 366 * 86_400)
                .ok_or_else(|| format!("`{text}` is longer than a year."))?;
            rest = &rest[unit_end..];
        }
        Ok(Time(total))
    }
}

/// Written as the largest units that give it exactly, so that it reads back the same.
impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return out.write_str("0s");
        }
        for (unit, size) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ] {
            if rest >= size {
                write!(out, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A number of bytes, written as `4096`, `64KiB` or `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

impl Size {
    /// Mebibytes.
    pub const fn mebibytes(mebibytes: usize) -> Size {
        Size(mebibytes << 20)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong =
            || format!("`{text}` is no size. Write bytes with a unit: `64KiB`, `64MiB` or `1GiB`.");
        let text = text.trim();
        let digits = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let number: usize = text[..digits].parse().map_err(|_| wrong())?;
        let shift = match text[digits..].trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(1 << shift)
            .filter(|bytes| *bytes <= 16 << 30)
            .map(Size)
            .ok_or_else(|| format!("`{text}` is more than 16 GiB."))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A length of time, or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// So long.
    For(Time),
    /// Without an end.
    Forever,
}

impl Lasting {
    /// The time, if it has an end.
    pub fn time(self) -> Option<Duration> {
        match self {
            Lasting::For(time) => Some(time.0),
            Lasting::Forever => None,
        }
    }
}

impl std::str::FromStr for Lasting {
    type Err = String;

    fn from_str(text: &str) -> Result<Lasting, String> {
        match text.trim() {
            "forever" => Ok(Lasting::Forever),
            text => text.parse().map(Lasting::For).map_err(|wrong: String| {
                let near = nearest(text, ["forever"]).is_some() || text == "for ever";
                match near {
                    true => format!("`{text}` is no length of time. Did you mean `forever`?"),
                    false => format!("{wrong} Or write `forever`."),
                }
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Lasting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Lasting, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A share of a whole, written as `30%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub usize);

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let number = text.trim().strip_suffix('%').map(str::trim_end);
        if let Some(Ok(percent)) = number.map(str::parse::<usize>) {
            return match percent {
                0..=100 => Ok(Share(percent)),
                _ => Err(format!(
                    "`{text}` is more than the whole. Choose from 0% to 100%."
                )),
            };
        }
        Err(match text.trim().parse::<f64>() {
            Ok(part) if (0.0..1.0).contains(&part) && part > 0.0 => {
                format!("`{text}` is no share. Did you mean `{:.0}%`?", part * 100.0)
            }
            Ok(part) if (0.0..=100.0).contains(&part) => {
                format!("`{text}` is no share. Did you mean `{part:.0}%`?")
            }
            _ => format!("`{text}` is no share. Write whole percents: `30%`."),
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}%", self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Share, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Network, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Permission bits of a file, written in octal as text: `"0640"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FileMode, D::Error> {
        let text = String::deserialize(from)?;
        u32::from_str_radix(text.trim_start_matches("0o"), 8)
            .ok()
            .filter(|bits| *bits <= 0o777 && bits & 0o400 != 0)
            .map(FileMode)
            .ok_or_else(|| {
                de::Error::custom(format!(
                    "`{text}` is no file mode. Write octal permission bits that let the owner read, such as \"0640\"."
                ))
            })
    }
}

/// An address and port to listen on, written as `127.0.0.1:9877` or `[::1]:9877`. Port 0 is a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl std::str::FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        text.trim().parse().map(ListenAddress).map_err(|_| {
            format!(
                "`{text}` is no address to listen on. Write an IP address and a port: `127.0.0.1:9877` or `[::1]:9877`."
            )
        })
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ListenAddress, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A variable of HAProxy's environment, written as `NAME` for the value in our own, or as `NAME=VALUE`.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `None` for the value in our own environment.
    pub value: Option<String>,
}

impl std::str::FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Variable, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty()
            || name.starts_with(|first: char| first.is_ascii_digit())
            || !name.bytes().all(part)
        {
            return Err(format!(
                "`{name}` is not the name of an environment variable. Write \"NAME\" to pass on Gatewright's own value, or \"NAME=VALUE\"."
            ));
        }
        if is_handed_on(name) {
            return Err(format!("HAProxy sets {name} itself. Remove it."));
        }
        if text.contains('\0') {
            return Err(format!(
                "The value of {name} holds a NUL byte. Remove that byte."
            ));
        }
        Ok(Variable {
            name: name.to_owned(),
            value,
        })
    }
}

/// Without the value, which may be a secret.
impl fmt::Debug for Variable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Variable, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A text that is never shown: a token or a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    pub fn new(text: String) -> SecretText {
        SecretText(text)
    }

    /// The text itself; only for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Time(Duration::from_millis(milliseconds))),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "5 parsecs",
            "-1s",
            "99999999999999999999s",
            "1e9d",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!("64MiB".parse(), Ok(Size::mebibytes(64)));
        assert_eq!("12".parse(), Ok(Size(12)));
        for text in ["", "MiB", "64MB", "99999999999GiB", "-1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_and_times_without_an_end_are_read() {
        assert_eq!("30%".parse(), Ok(Share(30)));
        assert_eq!("0 %".parse(), Ok(Share(0)));
        for (text, error) in [
            ("0.3", "`0.3` is no share. Did you mean `30%`?"),
            ("30", "`30` is no share. Did you mean `30%`?"),
            (
                "130%",
                "`130%` is more than the whole. Choose from 0% to 100%.",
            ),
            ("some", "`some` is no share. Write whole percents: `30%`."),
        ] {
            assert_eq!(text.parse::<Share>(), Err(error.to_owned()));
        }
        assert_eq!("forever".parse(), Ok(Lasting::Forever));
        assert_eq!("60s".parse(), Ok(Lasting::For(Time::seconds(60))));
        for text in ["for ever", "forevr"] {
            assert_eq!(
                text.parse::<Lasting>(),
                Err(format!(
                    "`{text}` is no length of time. Did you mean `forever`?"
                ))
            );
        }
        assert!("60".parse::<Lasting>().is_err());
    }

    #[test]
    fn variables_are_read_with_and_without_a_value() {
        let variable = |name: &str, value: Option<&str>| {
            Ok(Variable {
                name: name.to_owned(),
                value: value.map(str::to_owned),
            })
        };
        assert_eq!("LB_ADDR".parse(), variable("LB_ADDR", None));
        assert_eq!("A=b=c d".parse(), variable("A", Some("b=c d")));
        assert_eq!("_E=".parse(), variable("_E", Some("")));
        for (text, part) in [
            ("", "`` is not the name"),
            ("=x", "`` is not the name"),
            ("LB-ADDR", "`LB-ADDR` is not the name"),
            ("1A=secret", "`1A` is not the name"),
            ("A=x\0", "holds a NUL byte"),
            (
                "HAPROXY_PROCESSES=x",
                "HAProxy sets HAPROXY_PROCESSES itself",
            ),
        ] {
            let error = text.parse::<Variable>().unwrap_err();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
        let shown = format!("{:?}", "A=secret".parse::<Variable>());
        assert!(!shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn a_time_reads_back_as_it_was_written(milliseconds in 0u64..30_000_000_000) {
            let time = Time::milliseconds(milliseconds);
            prop_assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,20}") {
            let _ = text.parse::<Time>();
            let _ = text.parse::<Size>();
            let _ = text.parse::<Share>();
            let _ = text.parse::<Lasting>();
            let _ = text.parse::<Variable>();
        }
    }
}

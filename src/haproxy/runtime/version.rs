//! HAProxy's version number, as far as the tables of this folder depend on it.
//!
//! Never looks at the packager's suffix.

use std::fmt;

/// The three numbers of a release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// 3 of 3.0.11.
    pub major: u16,
    /// 0 of 3.0.11.
    pub minor: u16,
    /// 11 of 3.0.11; 0 for a development version such as `3.3-dev1`.
    pub patch: u16,
}

/// The newest branch that the tables of this program know. A newer HAProxy is treated as one of this branch.
const NEWEST_KNOWN: (u16, u16) = (3, 2);

impl Version {
    /// For a version of a newer branch than any known one: the branch that it is treated as.
    pub fn treated_as(&self) -> Option<String> {
        let (major, minor) = NEWEST_KNOWN;
        ((self.major, self.minor) > NEWEST_KNOWN).then(|| format!("{major}.{minor}"))
    }

    /// A version by its numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Version {
        Version {
            major,
            minor,
            patch,
        }
    }

    /// Reads `2.6.12-1+deb12u3` (`Version` of `show info`), or the first line that `haproxy -v`
    /// prints. `None` when no version number begins there.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim_start();
        let text = text
            .strip_prefix("HAProxy version ")
            .or_else(|| text.strip_prefix("HA-Proxy version "))
            .unwrap_or(text);
        let end = text
            .find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
            .unwrap_or(text.len());
        let mut numbers = text[..end].split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let patch = match numbers.next() {
            Some(number) => number.parse().ok()?,
            None => 0,
        };
        Some(Version::new(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_newer_branch_is_treated_as_the_newest_known_one() {
        let as_what = |text: &str| Version::parse(text).unwrap().treated_as();
        assert_eq!(as_what("2.6.12-1+deb12u3"), None);
        assert_eq!(as_what("3.2.99"), None);
        assert_eq!(as_what("3.3-dev1").as_deref(), Some("3.2"));
        assert_eq!(as_what("3.4.0").as_deref(), Some("3.2"));
        assert_eq!(as_what("4.0.1").as_deref(), Some("3.2"));
    }

    #[test]
    fn versions_are_read_as_every_release_writes_them() {
        for (text, wanted) in [
            ("2.6.12-1+deb12u3", Version::new(2, 6, 12)),
            ("2.8.25-5cf5d0683", Version::new(2, 8, 25)),
            ("3.3-dev1-ab12", Version::new(3, 3, 0)),
            (
                "HAProxy version 3.2.26-1 2026/10/14 - https://haproxy.org/\nStatus: x",
                Version::new(3, 2, 26),
            ),
            ("HA-Proxy version 2.2.9-2 2021/01/01", Version::new(2, 2, 9)),
        ] {
            assert_eq!(Version::parse(text), Some(wanted), "{text}");
        }
        for text in ["", "3", "x.y", "3.", "70000.1.1", "HAProxy"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version::new(2, 10, 0) > Version::new(2, 9, 9));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".*") {
            let _ = Version::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(major: u16, minor: u16, patch: u16) {
            let version = Version::new(major, minor, patch);
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
    }
}

//! The environment that HAProxy loads a set with, and what the set reads of it that HAProxy does not have. Pure; the
//! sentences are made here, because the log, the status and `check` show the same ones.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::config::{Form, VariableUse};
use crate::haproxy::process::Values;

/// The code of a variable that HAProxy does not have.
pub const CODE: &str = "missing-variable";

/// Whose values a set is validated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of the settings: Gatewright starts HAProxy with them, or knows no running HAProxy.
    Settings,
    /// Those of the running master.
    Master {
        /// Its process id.
        pid: i32,
        /// Whether Gatewright has started it.
        supervised: bool,
    },
    /// Those of the settings in place of a running master's, which may not be read.
    Hidden {
        /// Its process id.
        pid: i32,
    },
}

/// Why a variable has not the value that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// HAProxy does not have it.
    Missing {
        /// Who lacks it.
        whose: Whose,
        /// Whether `haproxy.environment` gives it.
        given: bool,
        /// Whether Gatewright's own environment has it.
        own: bool,
    },
    /// Gatewright's own environment has it and does not pass it on; HAProxy could do without.
    Withheld,
    /// `haproxy.environment` gives another value than the running master has.
    Differs {
        /// The master.
        pid: i32,
        /// Whether Gatewright has started it.
        supervised: bool,
    },
}

/// A variable of the configuration that HAProxy does not have, or has with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Where the configuration reads it.
    pub used: VariableUse,
    /// Why that is wrong.
    pub reason: Reason,
}

/// The environments that there are.
#[derive(Clone, Copy)]
pub struct Environments<'a> {
    /// What HAProxy loads the set with.
    pub values: &'a Values,
    /// Whose they are.
    pub whose: Whose,
    /// What the settings give.
    pub given: &'a Values,
    /// Names of `given` that `haproxy.environment` names.
    pub named: &'a BTreeSet<String>,
    /// Whether Gatewright's own environment has a variable.
    pub own: &'a dyn Fn(&str) -> bool,
}

impl Environments<'_> {
    /// What is wrong with each place.
    pub fn lacks(&self, uses: &[VariableUse]) -> Vec<Lack> {
        let reasons = uses.iter().map(|used| (used, self.reason(used)));
        let found = reasons.filter_map(|(used, reason)| {
            let reason = reason?;
            let used = used.clone();
            Some(Lack { used, reason })
        });
        found.collect()
    }

    fn reason(&self, used: &VariableUse) -> Option<Reason> {
        let name = OsStr::new(&used.name);
        let own = (self.own)(&used.name);
        let given = self.given.get(name);
        let Some(value) = self.values.get(name) else {
            let (whose, given) = (self.whose, given.is_some());
            return match (used.form, whose) {
                // The running HAProxy is meant to do without it.
                (
                    Form::Optional,
                    Whose::Master {
                        supervised: false, ..
                    }
                    | Whose::Hidden { .. },
                ) => None,
                (Form::Optional, _) => own.then_some(Reason::Withheld),
                _ => Some(Reason::Missing { whose, given, own }),
            };
        };
        match (self.whose, given) {
            (Whose::Master { pid, supervised }, Some(given))
                if given != value && (supervised || self.named.contains(&used.name)) =>
            {
                Some(Reason::Differs { pid, supervised })
            }
            _ => None,
        }
    }
}

/// One of each name: the one that stands where HAProxy finds an error, else the first that HAProxy cannot do without.
pub fn one_of_each(lacks: Vec<Lack>, is_wrong_there: impl Fn(&Lack) -> bool) -> Vec<Lack> {
    let rank = |lack: &Lack| (is_wrong_there(lack), lack.reason != Reason::Withheld);
    let mut kept: Vec<Lack> = Vec::new();
    for lack in lacks {
        let known = kept.iter_mut().find(|one| one.used.name == lack.used.name);
        match known {
            None => kept.push(lack),
            Some(one) if rank(one) < rank(&lack) => *one = lack,
            Some(_) => {}
        }
    }
    kept
}

impl Lack {
    /// What is wrong. It names no value: one may be a secret.
    pub fn message(&self) -> String {
        let name = &self.used.name;
        match self.reason {
            Reason::Missing { whose, .. } => {
                let who = match whose {
                    Whose::Settings => {
                        format!("The environment that Gatewright gives HAProxy lacks {name}")
                    }
                    Whose::Master { pid, .. } => format!(
                        "The running HAProxy (process {pid}) does not have the environment variable {name}"
                    ),
                    Whose::Hidden { pid } => format!(
                        "The environment of the running HAProxy (process {pid}) cannot be read, and haproxy.environment does not give {name}"
                    ),
                };
                format!("{who}, which this line reads. {}", self.consequence())
            }
            Reason::Withheld => format!(
                "This line reads the environment variable {name}. Gatewright's own environment has it, and HAProxy does not get it."
            ),
            Reason::Differs { pid, .. } => format!(
                "haproxy.environment gives {name} another value than the running HAProxy (process {pid}) has. HAProxy's own value counts."
            ),
        }
    }

    fn consequence(&self) -> String {
        let name = &self.used.name;
        match self.used.form {
            Form::Word => {
                "An unset variable in quotes is an empty word: HAProxy 2.6 ends the line there, 2.8 and later leave the word out.".to_owned()
            }
            Form::Part => "HAProxy reads the rest of the word without it.".to_owned(),
            Form::BindAddress => {
                "HAProxy reads the word without it, so that this line listens on every address.".to_owned()
            }
            Form::Fetch => format!("`env({name})` returns nothing."),
            Form::Optional => String::new(),
        }
    }

    /// What to do.
    pub fn help(&self) -> String {
        let name = &self.used.name;
        match self.reason {
            Reason::Missing {
                whose: Whose::Settings,
                own,
                ..
            } => match own {
                true => format!(
                    "Add \"{name}\" to haproxy.environment in the settings: Gatewright's own environment has it."
                ),
                false => format!("Add \"{name}=VALUE\" to haproxy.environment in the settings."),
            },
            Reason::Missing {
                whose: Whose::Master {
                    supervised: true, ..
                },
                given,
                own,
            } => {
                let first = match (given, own) {
                    (true, _) => String::new(),
                    (false, true) => {
                        format!("Add \"{name}\" to haproxy.environment in the settings. ")
                    }
                    (false, false) => {
                        format!("Add \"{name}=VALUE\" to haproxy.environment in the settings. ")
                    }
                };
                format!(
                    "{first}Restart Gatewright: HAProxy gets haproxy.environment when Gatewright starts it."
                )
            }
            Reason::Missing {
                whose: Whose::Master { .. },
                ..
            } => format!(
                "Set {name} where HAProxy is started (systemd: `Environment={name}=VALUE` in HAProxy's unit), and restart HAProxy. haproxy.environment does not reach a HAProxy that Gatewright does not start."
            ),
            Reason::Missing {
                whose: Whose::Hidden { .. },
                ..
            } => format!(
                "Add \"{name}=VALUE\", with the value that HAProxy has, to haproxy.environment in the settings, or run Gatewright as HAProxy's user."
            ),
            Reason::Withheld => format!(
                "Add \"{name}\" to haproxy.environment in the settings if HAProxy is meant to have it."
            ),
            Reason::Differs {
                supervised: true, ..
            } => "Restart Gatewright: HAProxy gets haproxy.environment when Gatewright starts it."
                .to_owned(),
            Reason::Differs { .. } => format!(
                "Give {name} the same value in both, or remove it from haproxy.environment."
            ),
        }
    }

    /// As a warning about a file.
    pub fn finding(&self, file: PathBuf) -> Finding {
        Finding {
            severity: Severity::Warning,
            code: CODE,
            message: self.message(),
            file: Some(file),
            line: self.used.line,
            column: self.used.column,
            help: Some(self.help()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::variable_uses;

    const TEXT: &str =
        "frontend f\n bind \"${ADDR}:80\"\n bind \"$BIND\"\n log \"${LOG-local0}\"\n";

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn lacks(theirs: &[(&str, &str)], given: &[(&str, &str)], whose: Whose) -> Vec<Lack> {
        let environments = Environments {
            values: &values(theirs),
            whose,
            given: &values(given),
            named: &given.iter().map(|(name, _)| (*name).to_owned()).collect(),
            own: &|name| name == "LOG",
        };
        environments.lacks(&variable_uses([TEXT]))
    }

    #[test]
    fn a_variable_that_nobody_gives_is_missing_and_a_default_is_enough() {
        let found = lacks(&[], &[], Whose::Settings);
        let names: Vec<_> = found.iter().map(|lack| lack.used.name.as_str()).collect();
        assert_eq!(names, ["ADDR", "BIND", "LOG"]);
        assert_eq!(
            found[0].message(),
            "The environment that Gatewright gives HAProxy lacks ADDR, which this line reads. HAProxy reads the word without it, so that this line listens on every address."
        );
        assert_eq!(
            found[0].help(),
            "Add \"ADDR=VALUE\" to haproxy.environment in the settings."
        );
        assert!(found[1].message().contains("an empty word"), "{found:?}");
        assert_eq!(found[2].reason, Reason::Withheld);
        let all = [("ADDR", "127.0.0.1"), ("BIND", ":81"), ("LOG", "local1")];
        assert!(lacks(&all, &[], Whose::Settings).is_empty());
    }

    #[test]
    fn a_running_haproxy_is_named_and_its_values_count() {
        let master = |supervised| Whose::Master {
            pid: 42,
            supervised,
        };
        let found = lacks(&[("BIND", ":81")], &[("ADDR", "127.0.0.1")], master(false));
        assert_eq!(found.len(), 1, "its own unit leaves LOG out: {found:?}");
        assert!(found[0].message().contains("process 42"));
        assert!(found[0].help().contains("where HAProxy is started"));
        let given = [("ADDR", "127.0.0.1"), ("BIND", ":82")];
        let found = lacks(&[("BIND", ":81")], &given, master(true));
        let help: Vec<_> = found.iter().map(Lack::help).collect();
        assert!(help[0].starts_with("Restart Gatewright"), "{help:?}");
        assert_eq!(
            found[1].reason,
            Reason::Differs {
                pid: 42,
                supervised: true
            }
        );
        assert!(!found[1].message().contains(":8"), "values stay unsaid");
        let found = lacks(&[], &[], Whose::Hidden { pid: 42 });
        assert!(found[0].message().contains("cannot be read"));
    }

    #[test]
    fn one_of_each_name_is_told_where_haproxy_finds_the_error() {
        let twice = "frontend f\n bind \"$A\"\n bind \"$A\"\n";
        let environments = Environments {
            values: &values(&[]),
            whose: Whose::Settings,
            given: &values(&[]),
            named: &BTreeSet::new(),
            own: &|_| false,
        };
        let found = environments.lacks(&variable_uses([twice]));
        let lines = |wrong: usize| -> Vec<usize> {
            let kept = one_of_each(found.clone(), |lack| lack.used.line == wrong);
            kept.iter().map(|lack| lack.used.line).collect()
        };
        assert_eq!((lines(0), lines(3)), (vec![2], vec![3]));
    }
}

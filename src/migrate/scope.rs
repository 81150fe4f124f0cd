//! What names mean at a place of a Go template, and its pipelines turned into values. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::functions::{self, Made, Trouble};
use super::known::Known;
use super::tree::{self, Command, Node, Operand, Pipe, Term};
use super::value::{Path, Value};
use crate::template::helpers;

/// The names of variables in the result.
#[derive(Debug, Default)]
pub struct Names {
    /// By their names in Go, with `$`.
    names: BTreeMap<String, String>,
    /// The name for what `$` is in a named template.
    pub root: String,
}

impl Names {
    /// For all variables of a template. A helper that wants no parameters would be called by its name,
    /// and a name that a block binds would hide a field.
    pub fn of(nodes: &[Node]) -> Names {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        tree::each_pipe(nodes, 0, &mut |pipe, _| {
            wanted.extend(pipe.names.iter().map(String::as_str));
            let operands = pipe.commands.iter().flat_map(|command| &command.operands);
            taken.extend(
                operands
                    .filter(|operand| operand.term == Term::Dot)
                    .filter_map(|operand| operand.fields.first().cloned()),
            );
        });
        let plain = |name: &str| -> String { name.trim_start_matches('$').to_owned() };
        let (good, bad): (Vec<&str>, Vec<&str>) = wanted
            .into_iter()
            .partition(|name| is_usable(&plain(name)) && !taken.contains(&plain(name)));
        let mut made = Names::default();
        taken.extend(good.iter().map(|name| plain(name)));
        for name in good {
            made.names.insert(name.to_owned(), plain(name));
        }
        let mut free = |mut name: String| {
            while !taken.insert(name.clone()) {
                name.push('2');
            }
            name
        };
        for name in bad {
            let plain = plain(name);
            let mut letters = plain.chars();
            let first = letters
                .next()
                .map(|letter| letter.to_uppercase().to_string());
            let chosen = format!("the{}{}", first.unwrap_or_default(), letters.as_str());
            made.names.insert(name.to_owned(), free(chosen));
        }
        made.root = free("root".to_owned());
        made
    }

    /// The name of a variable.
    pub fn name(&self, variable: &str) -> String {
        self.names.get(variable).cloned().unwrap_or_default()
    }

    /// The variable that has a name.
    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.names.iter().find(|(_, one)| *one == name);
        found.map(|(variable, _)| variable.as_str())
    }
}

/// Whether a name stands for itself wherever it stands.
fn is_usable(name: &str) -> bool {
    let called = helpers::find(name).is_some_and(|entry| entry.stands_alone());
    !is_keyword(name)
        && !called
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && !name.is_empty()
}

fn is_keyword(name: &str) -> bool {
    matches!(name, "this" | "else" | "as" | "true" | "false" | "null")
}

/// What is set at a place.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Vec<Variable>,
    /// What `.` is: nothing at the top of a template.
    pub dot: Option<Dot>,
    /// How many different things `.` was so far.
    dots: usize,
    /// What `$` is.
    pub root: Option<String>,
    root_known: Option<Known>,
}

/// What `.` is at a place.
#[derive(Debug, Clone)]
pub struct Dot {
    known: Option<Known>,
    seen: Seen,
    /// Tells it from what `.` is elsewhere.
    number: usize,
}

/// What the parts of a value meant where it was set.
#[derive(Debug, Clone, Copy)]
struct Seen {
    dot: Option<usize>,
    variables: usize,
}

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    known: Option<Known>,
    seen: Seen,
    /// The line where it is left as it was.
    left: Option<usize>,
}

impl Scope {
    /// Inside of a named template: `.` is what it is given, and so is `$`, by this name.
    pub fn of_part(root: String, known: Option<Known>) -> Scope {
        let mut scope = Scope {
            root: Some(root),
            root_known: known.clone(),
            ..Scope::default()
        };
        scope.enter(known, 0);
        scope
    }

    /// `.` is something else from here on, which was written where so many variables were set.
    pub fn enter(&mut self, known: Option<Known>, variables: usize) {
        let seen = Seen {
            variables,
            ..self.seen()
        };
        self.dots += 1;
        self.dot = Some(Dot {
            known,
            seen,
            number: self.dots,
        });
    }

    fn seen(&self) -> Seen {
        Seen {
            dot: self.dot.as_ref().map(|dot| dot.number),
            variables: self.variables.len(),
        }
    }

    /// How many variables are set.
    pub fn count(&self) -> usize {
        self.variables.len()
    }

    /// Forgets those that were set since.
    pub fn truncate(&mut self, count: usize) {
        self.variables.truncate(count);
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, known: Option<Known>) {
        self.variables.push(Variable {
            name: name.to_owned(),
            known,
            seen: self.seen(),
            left: None,
        });
    }

    /// Sets one whose value could not be converted.
    pub fn set_left(&mut self, name: &str, line: usize) {
        self.variables.push(Variable {
            name: name.to_owned(),
            known: None,
            seen: self.seen(),
            left: Some(line),
        });
    }

    /// A variable gets another value, which is not known.
    pub fn changes(&mut self, name: &str) {
        for variable in &mut self.variables {
            if variable.name == name {
                variable.known = None;
            }
        }
    }

    fn variable(&self, name: &str) -> Result<&Variable, Trouble> {
        let found = self.variables.iter().rfind(|one| one.name == name);
        let Some(found) = found else {
            return Err(Trouble::new(
                format!("`{name}` is not set at this place when the template is rendered."),
                "Set it before, in the same block or one around.",
            ));
        };
        match found.left {
            Some(line) => Err(Trouble::new(
                format!("`{name}` is set on line {line}, which is left as it was."),
                "Convert that line first.",
            )),
            None => Ok(found),
        }
    }
}

/// Turns pipelines into values.
pub struct Reader<'a> {
    pub names: &'a Names,
    pub scope: &'a Scope,
}

impl Reader<'_> {
    /// The value of a pipeline: what is piped into a function is its last parameter.
    pub fn pipe(&self, pipe: &Pipe) -> Made {
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value)?);
        }
        value.ok_or_else(|| Trouble::new("There is no value.", "Write one."))
    }

    fn command(&self, command: &Command, piped: Option<Value>) -> Made {
        let Some((first, rest)) = command.operands.split_first() else {
            return Err(Trouble::new("There is no value.", "Write one."));
        };
        let given = || -> Result<Vec<Value>, Trouble> {
            let values: Result<Vec<Value>, Trouble> =
                rest.iter().map(|operand| self.operand(operand)).collect();
            let mut values = values?;
            values.extend(piped.clone());
            Ok(values)
        };
        match &first.term {
            Term::Function(name) if first.fields.is_empty() => functions::call(name, given()?),
            _ if rest.is_empty() && piped.is_none() => self.operand(first),
            // The only method of what the catalog holds.
            _ if first.fields.last().is_some_and(|name| name == "Contains") => {
                let mut given = given()?;
                let mut list = first.clone();
                list.fields.pop();
                given.push(self.operand(&list)?);
                functions::call("contains", given)
            }
            Term::Function(name) => functions::call(name, Vec::new()).and(Err(method())),
            _ => Err(method()),
        }
    }

    /// What is known of a value that was set elsewhere and has the name `text` here.
    fn known(&self, known: &Option<Known>, seen: Seen, text: &str) -> Option<Known> {
        let Some(Known::Joined(parts)) = known else {
            return known.clone();
        };
        if parts.iter().all(|part| self.means_the_same(part, seen)) {
            return known.clone();
        }
        // The only part that is no constant is what remains without the constants around it.
        let (mut before, mut inner, mut after) = (String::new(), 0, String::new());
        for part in parts {
            match part {
                Value::Text(text) if inner == 0 => before.push_str(text),
                Value::Text(text) => after.push_str(text),
                _ => inner += 1,
            }
        }
        if inner != 1 {
            return None;
        }
        let constant = |text: &str| (!text.is_empty()).then(|| Value::Text(text.to_owned()));
        let mut rest = Value::path(text);
        for (helper, around) in [("trimPrefix", &before), ("trimSuffix", &after)] {
            if let Some(around) = constant(around) {
                rest = Value::call(helper, vec![around, rest]);
            }
        }
        let parts = [constant(&before), Some(rest), constant(&after)];
        Some(Known::Joined(parts.into_iter().flatten().collect()))
    }

    /// Whether a value that was written elsewhere is the same here.
    fn means_the_same(&self, value: &Value, seen: Seen) -> bool {
        let mut same = true;
        value.each(&mut |value| {
            let Value::Path(path) = value else { return };
            let first = path.text.split('.').next().unwrap_or_default();
            same &= if first == self.names.root {
                true
            } else if let Some(variable) = self.names.variable(first) {
                let last = self
                    .scope
                    .variables
                    .iter()
                    .rposition(|one| one.name == variable);
                last.is_some_and(|at| at < seen.variables)
            } else {
                seen.dot == self.scope.dot.as_ref().map(|dot| dot.number)
            };
        });
        same
    }

    fn operand(&self, operand: &Operand) -> Made {
        let value = match &operand.term {
            Term::Function(name) => functions::call(name, Vec::new())?,
            Term::Dot => match &self.scope.dot {
                Some(dot) => Value::Path(Path {
                    known: self.known(&dot.known, dot.seen, "this"),
                    ..Path::new("this")
                }),
                None => return Err(nothing(".")),
            },
            Term::Variable(name) if name == "$" => match &self.scope.root {
                Some(root) => Value::Path(Path {
                    known: self.scope.root_known.clone(),
                    ..Path::new(root)
                }),
                None => return Err(nothing("$")),
            },
            Term::Variable(name) => {
                let variable = self.scope.variable(name)?;
                let text = self.names.name(name);
                Value::Path(Path {
                    known: self.known(&variable.known, variable.seen, &text),
                    ..Path::new(text)
                })
            }
            Term::Group(pipe) if pipe.names.is_empty() => self.pipe(pipe)?,
            Term::Group(_) => {
                return Err(Trouble::new(
                    "A variable is set in parentheses.",
                    "Set it in a tag of its own before.",
                ));
            }
            Term::Text(text) => Value::Text(text.clone()),
            Term::Number(number) => Value::Number(number.clone()),
            Term::Bool(truth) => Value::Bool(*truth),
            Term::Nil => Value::Null,
        };
        operand
            .fields
            .iter()
            .try_fold(value, |value, field| self.field(value, field))
    }

    fn field(&self, value: Value, field: &str) -> Made {
        if let Some(told) = helpers::absent_field(field) {
            return Err(Trouble::new(format!("There is no `{field}` here."), told));
        }
        let unwritable = || {
            Trouble::new(
                format!("The field `{field}` cannot be written as a path."),
                "Use {{lookup VALUE \"name\"}}.",
            )
        };
        match value {
            Value::Path(path) => path
                .field(field, |name| {
                    is_keyword(name) || helpers::find(name).is_some()
                })
                .map(Value::Path)
                .ok_or_else(unwritable),
            Value::Call { .. } => Ok(Value::call(
                "lookup",
                vec![value, Value::Text(field.to_owned())],
            )),
            _ => Err(unwritable()),
        }
    }
}

fn method() -> Trouble {
    Trouble::new(
        "A value is called like a function here.",
        "Use a helper; `gatewright helpers` lists them all.",
    )
}

fn nothing(name: &str) -> Trouble {
    Trouble::new(
        format!("`{name}` is nothing at the top of a template."),
        "Name what is meant, or go through a list first.",
    )
}

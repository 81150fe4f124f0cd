//! What names mean at a place of a Go template, and its pipelines turned into values. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::functions::{self, Made, Trouble};
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
    /// Whether `.` is anything: at the top of a template it is nothing.
    pub dot: bool,
    /// What `$` is.
    pub root: Option<String>,
}

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    known: Option<String>,
    /// The line where it is left as it was.
    left: Option<usize>,
}

impl Scope {
    /// Inside of a named template: `.` is what it is given, and so is `$`, by this name.
    pub fn of_part(root: String) -> Scope {
        Scope {
            variables: Vec::new(),
            dot: true,
            root: Some(root),
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
    pub fn set(&mut self, name: &str, value: &Value) {
        let known = match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.variables.push(Variable {
            name: name.to_owned(),
            known,
            left: None,
        });
    }

    /// Sets one whose value could not be converted.
    pub fn set_left(&mut self, name: &str, line: usize) {
        self.variables.push(Variable {
            name: name.to_owned(),
            known: None,
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

    fn operand(&self, operand: &Operand) -> Made {
        let value = match &operand.term {
            Term::Function(name) => functions::call(name, Vec::new())?,
            Term::Dot if self.scope.dot => Value::path("this"),
            Term::Dot => return Err(nothing(".")),
            Term::Variable(name) if name == "$" => match &self.scope.root {
                Some(root) => Value::path(root),
                None => return Err(nothing("$")),
            },
            Term::Variable(name) => {
                let variable = self.scope.variable(name)?;
                Value::Path(Path {
                    text: self.names.name(name),
                    optional: false,
                    known: variable.known.clone(),
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

//! Fields that are not there, values that cannot be written, comparisons that are always the same.

use serde_json::Value;

use super::super::shape::{self, Shape};
use super::Walk;
use crate::diagnostic::nearest;
use crate::template::outline::{At, Call, Expression, PathName};

impl Walk<'_> {
    /// `{{x}}`.
    pub(super) fn print(&mut self, at: At, expression: &Expression) {
        let shape = self.shape(at, expression);
        self.flow_prints(at, expression);
        let (is, help) = match &shape {
            Shape::List { .. } => (
                "a list",
                format!(
                    "Go through it: {{{{#each {0}}}}}…{{{{/each}}}}; or write its items as one text: {{{{join \",\" {0}}}}}.",
                    written(expression)
                ),
            ),
            Shape::ByName(_) => (
                "several values by their names",
                match expression {
                    Expression::Path(path) => {
                        format!("Name one of them: {{{{{}.NAME}}}}.", path.text)
                    }
                    _ => "Go through them with {{#each …}}; {{@key}} is the name.".to_owned(),
                },
            ),
            Shape::Item(fields) => (
                "an item with several fields",
                format!(
                    "Name one of its fields: {}.",
                    fields.names().collect::<Vec<_>>().join(", ")
                ),
            ),
            _ => return,
        };
        let what = match expression {
            Expression::Call(call) => format!("What `{}` gives", call.name),
            other => format!("`{}`", written(other)),
        };
        self.warn(
            "prints-list",
            self.outlines.tag(at),
            format!("{what} is {is}, which cannot be written as text."),
            help,
        );
    }

    /// What a value is; fields that are not there are told.
    pub(super) fn shape(&mut self, at: At, expression: &Expression) -> Shape {
        match expression {
            Expression::Literal(value) => Shape::of_literal(value),
            Expression::Variable(name) => Shape::of_variable(name),
            Expression::Path(path) => self.path(at, path),
            Expression::Call(call) => {
                let parameters = self.parameters(at, call);
                shape::of_call(call, &parameters)
            }
        }
    }

    /// What the parameters of a call are.
    pub(super) fn parameters(&mut self, at: At, call: &Call) -> Vec<Shape> {
        let shapes: Vec<Shape> = call
            .parameters
            .iter()
            .map(|one| self.shape(at, one))
            .collect();
        for one in call.pairs.values() {
            self.shape(at, one);
        }
        self.compared(at, call, &shapes);
        self.field_by_name(at, call, &shapes);
        shapes
    }

    /// The same for `if` and `unless`, where a path alone is looked at elsewhere.
    pub(super) fn condition(&mut self, at: At, call: &Call) -> Vec<Shape> {
        match call.parameters.first() {
            Some(Expression::Path(path)) => {
                let shape = self.find(path).unwrap_or(Shape::Unknown);
                vec![shape]
            }
            _ => self.parameters(at, call),
        }
    }

    fn path(&mut self, at: At, path: &PathName) -> Shape {
        let (owner, name) = match self.find(path) {
            Ok(shape) => return shape,
            Err(missing) => missing,
        };
        let place = self.outlines.word(at, &path.text, "");
        let bound: Vec<String> = self.bound.iter().map(|bound| bound.name.clone()).collect();
        let (message, known) = match &owner {
            Shape::Item(fields) => (
                format!("{} has no field `{name}`.", fields.what),
                fields.names().collect(),
            ),
            _ => (
                format!(
                    "There is no `{name}` here: at the top of a template only helpers and names that blocks bind give values."
                ),
                Vec::new(),
            ),
        };
        let near = nearest(
            &name,
            known
                .iter()
                .copied()
                .chain(bound.iter().map(String::as_str)),
        );
        let help = match (near, known.is_empty()) {
            (Some(near), _) => format!("Did you mean `{near}`?"),
            (None, false) => format!("Its fields are {}.", known.join(", ")),
            (None, true) => {
                "Read the catalog by a helper, such as (service \"web\"), or a value of the settings by (parameter \"name\").".to_owned()
            }
        };
        self.warn("unknown-field", place, message, help);
        Shape::Unknown
    }

    /// What a path leads to, or where it ends early and at which name.
    fn find(&mut self, path: &PathName) -> Result<Shape, (Shape, String)> {
        let mut names = path.names.iter();
        let mut shape = match path.names.first() {
            Some(first) if path.up == 0 => {
                let bound = self
                    .bound
                    .iter_mut()
                    .rev()
                    .find(|bound| bound.name == *first);
                match bound {
                    Some(bound) => {
                        bound.used = true;
                        names.next();
                        bound.shape.clone()
                    }
                    None => self.outer(0),
                }
            }
            Some(first) => {
                // A name may be bound where the path begins.
                let bound = self.bound.iter_mut().find(|bound| bound.name == *first);
                if let Some(bound) = bound {
                    bound.used = true;
                    return Ok(Shape::Unknown);
                }
                self.outer(path.up)
            }
            None => self.outer(path.up),
        };
        for name in names {
            shape = match shape.field(name) {
                Ok(next) => next,
                Err(owner) => return Err((owner.clone(), name.clone())),
            };
        }
        Ok(shape)
    }

    /// What `this` is so many blocks further out.
    fn outer(&self, up: usize) -> Shape {
        let inner = self.stack.iter().rev();
        inner.clone().nth(up).cloned().unwrap_or(Shape::Unknown)
    }

    /// `eq` and `ne` of two kinds.
    fn compared(&mut self, at: At, call: &Call, shapes: &[Shape]) {
        let (same, [one, two], [left, right]) = (
            match call.name.as_str() {
                "eq" => "never",
                "ne" => "always",
                _ => return,
            },
            &call.parameters[..],
            shapes,
        ) else {
            return;
        };
        self.never_equal(at, (one, left), (two, right), |words| match same {
            "never" => format!("{words}, so they are never equal."),
            _ => format!("{words}, so they always differ."),
        });
    }

    /// `where LIST "FIELD" VALUE`, `sortBy LIST "FIELD"` and `uniq LIST "FIELD"`.
    fn field_by_name(&mut self, at: At, call: &Call, shapes: &[Shape]) {
        if !matches!(call.name.as_str(), "where" | "sortBy" | "uniq") {
            return;
        }
        let (Some(list), Some(Expression::Literal(Value::String(field)))) =
            (shapes.first(), call.parameters.get(1))
        else {
            return;
        };
        let mut shape = list.element();
        for name in field.split('.') {
            shape = match shape.field(name) {
                Ok(next) => next,
                Err(owner) => {
                    let fields = owner.fields();
                    let known: Vec<&str> = fields
                        .into_iter()
                        .flat_map(|fields| fields.names())
                        .collect();
                    let what = shape::what(owner).unwrap_or("An item");
                    let help = match nearest(name, known.iter().copied()) {
                        Some(near) => format!("Did you mean \"{near}\"?"),
                        None => format!("Its fields are {}.", known.join(", ")),
                    };
                    let place = self.outlines.word(at, field, "");
                    let message = format!("{what} has no field `{name}`.");
                    return self.warn("unknown-field", place, message, help);
                }
            };
        }
        if let ("where", Some(value), Some(kind)) =
            (call.name.as_str(), call.parameters.get(2), shapes.get(2))
        {
            let path = Expression::Literal(Value::String(field.clone()));
            let field = (&path, &shape);
            self.never_equal(at, field, (value, kind), |words| {
                format!("{words}, so no item is ever found.")
            });
        }
    }

    fn never_equal(
        &mut self,
        at: At,
        one: (&Expression, &Shape),
        two: (&Expression, &Shape),
        message: impl Fn(String) -> String,
    ) {
        let (Some(left), Some(right)) = (one.1.plain_word(), two.1.plain_word()) else {
            return;
        };
        if one.1 == two.1 {
            return;
        }
        let words = format!(
            "`{}` is {left} and `{}` is {right}",
            name_of(one.0),
            name_of(two.0)
        );
        // What is written out is the one to change.
        let (literal, other) = match (one.0, two.0) {
            (_, Expression::Literal(_)) => (two, one),
            (Expression::Literal(_), _) => (one, two),
            _ => (two, one),
        };
        let help = match (literal.0, other.1) {
            (Expression::Literal(Value::String(text)), Shape::Number)
                if text.parse::<f64>().is_ok() =>
            {
                format!("Write {text} without quotes.")
            }
            (Expression::Literal(Value::Number(number)), Shape::Text) => {
                format!(
                    "Write \"{number}\" in quotes, or make a number of the other: (parseInt …)."
                )
            }
            (_, Shape::Truth) => "Use the other alone: it is true or false already.".to_owned(),
            _ => "Compare values of one kind.".to_owned(),
        };
        let place = self.path_place(at, literal.0);
        self.warn("never-equal", place, message(words), help);
    }
}

fn name_of(expression: &Expression) -> String {
    match expression {
        Expression::Literal(Value::String(text)) => text.clone(),
        other => written(other),
    }
}

/// A value as a template writes it.
fn written(expression: &Expression) -> String {
    match expression {
        Expression::Literal(value) => value.to_string(),
        Expression::Variable(name) => format!("@{name}"),
        Expression::Path(path) if path.text.is_empty() => "this".to_owned(),
        Expression::Path(path) => path.text.clone(),
        Expression::Call(call) => {
            let mut words = vec![call.name.clone()];
            words.extend(call.parameters.iter().map(written));
            let pairs = call.pairs.iter();
            words.extend(pairs.map(|(name, value)| format!("{name}={}", written(value))));
            format!("({})", words.join(" "))
        }
    }
}

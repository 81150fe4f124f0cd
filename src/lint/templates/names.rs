//! Names that blocks bind: those that hide something, and those that nothing reads.

use super::{Bound, Walk};
use crate::template::helpers::{self, Entry};
use crate::template::outline::At;

use super::super::shape::Shape;

impl Walk<'_> {
    /// A name that is bound here.
    pub(super) fn binds(&mut self, at: At, name: &str) {
        // Of the others, the name alone is what is bound.
        if helpers::find(name).is_some_and(Entry::stands_alone) {
            let place = self.outlines.word(at, name, "|");
            let place = match place.length == name.chars().count() {
                true => place,
                false => self.outlines.word(at, name, ""),
            };
            self.warn(
                "shadows-helper",
                place,
                format!(
                    "The name `{name}` is that of a helper, and {{{{{name}}}}} calls the helper."
                ),
                "Choose another name.".to_owned(),
            );
        }
    }

    /// Names that hide a field of what `this` is now. Those from `new` on are bound here.
    pub(super) fn shadowed_fields(&mut self, new: usize) {
        let Some(Shape::Item(fields)) = self.stack.last() else {
            return;
        };
        let fields = *fields;
        let hiding: Vec<(At, String)> = self
            .bound
            .iter()
            .enumerate()
            // A partial may not see what is bound around it.
            .filter(|(index, bound)| {
                *index >= new || bound.shape != Shape::Unknown || self.includes.is_empty()
            })
            .filter(|(_, bound)| fields.field(&bound.name).is_some())
            .map(|(_, bound)| (bound.at, bound.name.clone()))
            .collect();
        for (at, name) in hiding {
            let first = self.outlines.word(at, &name, "|");
            let place = match first.length == name.chars().count() {
                true => first,
                false => self.outlines.word(at, &name, " "),
            };
            self.warn(
                "shadows-field",
                place,
                format!(
                    "{} has a field `{name}`, which this name hides.",
                    fields.what
                ),
                format!("Choose another name, or write {{{{this.{name}}}}} for the field."),
            );
        }
    }

    /// A name that nothing reads.
    pub(super) fn unused_name(&mut self, bound: &Bound) {
        let place = self.outlines.word(bound.at, &bound.name, "|");
        self.warn(
            "unused-name",
            place,
            format!("Nothing reads the name `{}`.", bound.name),
            "Take the {{#let}} away, or correct the name where it was meant to be read.".to_owned(),
        );
    }
}

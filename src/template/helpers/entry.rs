//! What the table says of a helper: how it is called, what it does, and examples that a test renders.

use super::Action;

/// What helpers have to do with, in the order of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// They read the catalog.
    Catalog,
    /// They write HAProxy's own syntax.
    Haproxy,
    /// They read settings, environment variables, files and this machine's addresses.
    Settings,
    /// Lists and groups of items.
    Lists,
    /// Texts.
    Text,
    /// Comparison and logic.
    Comparison,
    /// Numbers.
    Numbers,
    /// JSON, YAML, base64 and digests.
    Formats,
    /// Blocks.
    Blocks,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 9] = [
        Group::Catalog,
        Group::Haproxy,
        Group::Settings,
        Group::Lists,
        Group::Text,
        Group::Comparison,
        Group::Numbers,
        Group::Formats,
        Group::Blocks,
    ];

    /// The heading in the reference.
    pub fn title(self) -> &'static str {
        match self {
            Group::Catalog => "The catalog",
            Group::Haproxy => "HAProxy",
            Group::Settings => "Settings, environment, files, addresses",
            Group::Lists => "Lists and groups",
            Group::Text => "Text",
            Group::Comparison => "Comparison and logic",
            Group::Numbers => "Numbers",
            Group::Formats => "Formats and digests",
            Group::Blocks => "Blocks",
        }
    }
}

/// A template and what it renders to, from the catalog of the reference.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The template.
    pub template: &'static str,
    /// Its output, exactly.
    pub output: &'static str,
}

/// One helper.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As it is called.
    pub name: &'static str,
    /// What it has to do with.
    pub group: Group,
    /// The fewest and the most parameters.
    pub parameters: (usize, usize),
    /// The parameters by name and kind: `[CUTSET:text] TEXT:text`. Those in brackets may be left
    /// out; a last one with `…` may be repeated.
    pub signature: &'static str,
    /// The names of `name=value` pairs it takes.
    pub pairs: &'static [&'static str],
    /// What it does, for people.
    pub what: &'static str,
    /// What else is good to know, such as where it differs from consul-template's; may be empty.
    pub notes: &'static str,
    /// How it is called, in short.
    pub example: &'static str,
    /// Examples with their output.
    pub examples: &'static [Example],
    /// What it does, for the machine.
    pub action: Action,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Entry").field(&self.name).finish()
    }
}

impl Entry {
    /// One of a group, for the table to fill.
    pub(super) const fn of(group: Group) -> Entry {
        Entry {
            name: "",
            group,
            parameters: (1, 1),
            signature: "",
            pairs: &[],
            what: "",
            notes: "",
            example: "",
            examples: &[],
            action: Action::BuiltIn,
        }
    }

    /// Whether it is used as `{{#name}}…{{/name}}`.
    pub fn is_block(&self) -> bool {
        matches!(self.name, "let" | "if" | "unless" | "each" | "with")
    }

    /// Whether it may stand alone in a tag. The name of any other may be a field or a name that a
    /// block binds.
    pub fn stands_alone(&self) -> bool {
        self.parameters.0 == 0
    }
}

//! Which fields the items of the catalog have in templates, and of which kind each is. A test holds the tables to
//! real values.

/// The fields of an item.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields {
    /// What the item is, at the beginning of a sentence: `An instance`.
    pub what: &'static str,
    /// Each field by its name.
    pub fields: &'static [(&'static str, Field)],
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A list of texts.
    Texts,
    /// Text, or nothing.
    Optional,
    /// Texts by names that are data themselves, such as `ServiceMeta`.
    Values,
    /// Items by such names.
    ItemsByName(&'static Fields),
    /// An item.
    Item(&'static Fields),
    /// A list of items.
    Items(&'static Fields),
}

impl Fields {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fields.iter().map(|(name, _)| *name)
    }

    /// One of them.
    pub fn field(&self, name: &str) -> Option<Field> {
        let found = self.fields.iter().find(|(known, _)| *known == name);
        found.map(|(_, field)| *field)
    }
}

/// Of `service` and `connect`.
pub static INSTANCE: Fields = Fields {
    what: "An instance",
    fields: &[
        ("Node", Field::Text),
        ("NodeID", Field::Text),
        ("NodeAddress", Field::Text),
        ("NodeDatacenter", Field::Text),
        ("NodeTaggedAddresses", Field::Values),
        ("NodeMeta", Field::Values),
        ("ID", Field::Text),
        ("Name", Field::Text),
        ("Address", Field::Text),
        ("Port", Field::Number),
        (
            "ServiceTaggedAddresses",
            Field::ItemsByName(&TAGGED_ADDRESS),
        ),
        ("ServiceMeta", Field::Values),
        ("Tags", Field::Texts),
        ("Status", Field::Text),
        ("Weights", Field::Item(&WEIGHTS)),
    ],
};

/// Of `services`.
pub static SERVICE: Fields = Fields {
    what: "An item of `services`",
    fields: &[("Name", Field::Text), ("Tags", Field::Texts)],
};

/// Of `nodes`.
pub static NODE: Fields = Fields {
    what: "A node",
    fields: &[
        ("Node", Field::Text),
        ("ID", Field::Text),
        ("Address", Field::Text),
        ("Datacenter", Field::Text),
        ("TaggedAddresses", Field::Values),
        ("Meta", Field::Values),
    ],
};

/// What `node` gives.
pub static NODE_DETAIL: Fields = Fields {
    what: "The answer to `node`",
    fields: &[
        ("Node", Field::Item(&NODE)),
        ("Services", Field::Items(&NODE_SERVICE)),
    ],
};

/// Of the services of a node.
pub static NODE_SERVICE: Fields = Fields {
    what: "A service of a node",
    fields: &[
        ("ID", Field::Text),
        ("Service", Field::Text),
        ("Name", Field::Text),
        ("Tags", Field::Texts),
        ("Meta", Field::Values),
        ("Address", Field::Text),
        ("Port", Field::Number),
    ],
};

/// Of `ls` and `tree`.
pub static KEY: Fields = Fields {
    what: "An item of `ls` and `tree`",
    fields: &[
        ("Key", Field::Text),
        ("Path", Field::Text),
        ("Value", Field::Optional),
    ],
};

/// Of an instance.
pub static WEIGHTS: Fields = Fields {
    what: "`Weights`",
    fields: &[("Passing", Field::Number), ("Warning", Field::Number)],
};

/// Of an instance, by the address's name.
pub static TAGGED_ADDRESS: Fields = Fields {
    what: "A tagged address",
    fields: &[("Address", Field::Text), ("Port", Field::Number)],
};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::{complete, load};
    use super::*;

    const CATALOG: &str = r#"{
        "services": { "web": [ { "Address": "10.0.0.1", "Port": 80, "Node": "n1",
            "ServiceTaggedAddresses": { "lan": { "Address": "10.0.0.9", "Port": 81 } } } ] },
        "nodes": [ { "Node": "n1", "Address": "10.0.0.1" } ],
        "keys": { "a/b": "1" }
    }"#;

    fn same(fields: &Fields, value: &Value) {
        let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
        // Names that no template can write are our own.
        let mut real: Vec<&str> = object.keys().map(String::as_str).collect();
        real.retain(|name| !name.starts_with('@'));
        let mut told: Vec<&str> = fields.names().collect();
        told.sort_unstable();
        real.sort_unstable();
        assert_eq!(told, real, "{}", fields.what);
        for (name, field) in fields.fields {
            let value = &object[*name];
            match field {
                Field::Text => assert!(value.is_string(), "{name}"),
                Field::Number => assert!(value.is_number(), "{name}"),
                Field::Texts => assert!(value.is_array(), "{name}"),
                Field::Optional => {}
                Field::Values => assert!(value.is_object(), "{name}"),
                Field::Item(inner) => same(inner, value),
                Field::Items(inner) => same(inner, &value[0]),
                Field::ItemsByName(inner) => {
                    same(inner, value.as_object().unwrap().values().next().unwrap());
                }
            }
        }
    }

    #[test]
    fn the_tables_are_what_templates_really_see() {
        for (call, fields) in [
            ("(first (service \"web\"))", &INSTANCE),
            ("(first (services))", &SERVICE),
            ("(first (nodes))", &NODE),
            ("(node \"n1\")", &NODE_DETAIL),
            ("(first (ls \"a\"))", &KEY),
        ] {
            let text = format!("{{{{#with {call}}}}}{{{{raw (toJSON this)}}}}{{{{/with}}}}");
            let mut set = load(&text, &[]).unwrap();
            let rendered = complete(&mut set, CATALOG).unwrap().files.remove(0);
            same(fields, &serde_json::from_str(&rendered).unwrap());
        }
    }
}

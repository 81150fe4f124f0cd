//! Of which kind a value is, as far as a template tells. Where it is not certain, it is unknown, and nothing is said.

use serde_json::Value;

use crate::template::outline::{Call, Expression};
use crate::template::shape::{Field, Fields, INSTANCE, KEY, NODE, NODE_DETAIL, SERVICE};

/// The kind of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// It may be anything.
    Unknown,
    /// What `this` is at the top of a template: nothing, without a field.
    Nothing,
    /// Text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Truth,
    /// An item of the catalog.
    Item(&'static Fields),
    /// Values of one kind by names that are data.
    ByName(Box<Shape>),
    /// A list. One that comes of the catalog may be empty at any time.
    List {
        /// Of what.
        of: Box<Shape>,
        /// Whether it is empty when the catalog shows nothing.
        may_be_empty: bool,
    },
}

impl Shape {
    /// A list that the catalog may empty.
    fn list(of: Shape) -> Shape {
        Shape::List {
            of: Box::new(of),
            may_be_empty: true,
        }
    }

    /// A list that is as long as the template or the settings make it.
    fn fixed_list(of: Shape) -> Shape {
        Shape::List {
            of: Box::new(of),
            may_be_empty: false,
        }
    }

    /// Of a value that is written out.
    pub fn of_literal(value: &Value) -> Shape {
        match value {
            Value::String(_) => Shape::Text,
            Value::Number(_) => Shape::Number,
            Value::Bool(_) => Shape::Truth,
            _ => Shape::Unknown,
        }
    }

    /// Of a variable of a loop.
    pub fn of_variable(name: &str) -> Shape {
        match name {
            "index" => Shape::Number,
            "first" | "last" => Shape::Truth,
            "key" => Shape::Text,
            _ => Shape::Unknown,
        }
    }

    /// Of what a name leads to. An error means that there is no such field.
    pub fn field(&self, name: &str) -> Result<Shape, &Shape> {
        match self {
            Shape::Nothing => Err(self),
            Shape::Item(fields) => fields.field(name).map(Shape::of_field).ok_or(self),
            Shape::ByName(of) => Ok(of.as_ref().clone()),
            Shape::List { of, .. } if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(of.as_ref().clone())
            }
            _ => Ok(Shape::Unknown),
        }
    }

    fn of_field(field: Field) -> Shape {
        match field {
            Field::Text => Shape::Text,
            Field::Number => Shape::Number,
            Field::Texts => Shape::fixed_list(Shape::Text),
            Field::Optional => Shape::Unknown,
            Field::Values => Shape::ByName(Box::new(Shape::Text)),
            Field::ItemsByName(fields) => Shape::ByName(Box::new(Shape::Item(fields))),
            Field::Item(fields) => Shape::Item(fields),
            Field::Items(fields) => Shape::list(Shape::Item(fields)),
        }
    }

    /// Of the rounds of a loop over it.
    pub fn element(&self) -> Shape {
        match self {
            Shape::List { of, .. } | Shape::ByName(of) => of.as_ref().clone(),
            _ => Shape::Unknown,
        }
    }

    /// Of the second name of a loop over it.
    pub fn label(&self) -> Shape {
        match self {
            Shape::List { .. } => Shape::Number,
            Shape::ByName(_) => Shape::Text,
            _ => Shape::Unknown,
        }
    }

    /// Whether it is a list that the catalog may empty.
    pub fn may_be_empty(&self) -> bool {
        matches!(
            self,
            Shape::List {
                may_be_empty: true,
                ..
            }
        )
    }

    /// The fields of an item, or of the items of a list.
    pub fn fields(&self) -> Option<&'static Fields> {
        match self {
            Shape::Item(fields) => Some(fields),
            Shape::List { of, .. } => of.fields(),
            _ => None,
        }
    }

    /// A plain value's kind in words.
    pub fn plain_word(&self) -> Option<&'static str> {
        match self {
            Shape::Text => Some("text"),
            Shape::Number => Some("a number"),
            Shape::Truth => Some("true or false"),
            _ => None,
        }
    }
}

/// Of what a helper gives, when its parameters are of these kinds.
pub fn of_call(call: &Call, parameters: &[Shape]) -> Shape {
    // Some take what else they are given before the list.
    let list = || {
        let mut lists = parameters.iter();
        let found = lists.find(|shape| matches!(shape, Shape::List { .. }));
        found.cloned().unwrap_or(Shape::Unknown)
    };
    match call.name.as_str() {
        "service" | "connect" => Shape::list(Shape::Item(&INSTANCE)),
        "services" => Shape::list(Shape::Item(&SERVICE)),
        "nodes" => Shape::list(Shape::Item(&NODE)),
        "node" => Shape::Item(&NODE_DETAIL),
        "ls" | "tree" => Shape::list(Shape::Item(&KEY)),
        // They wait until there is something.
        "safeLs" | "safeTree" => Shape::fixed_list(Shape::Item(&KEY)),
        "datacenters" => Shape::list(Shape::Text),
        "key"
        | "env"
        | "mustEnv"
        | "file"
        | "backendName"
        | "serverName"
        | "serverAddress"
        | "join"
        | "toLower"
        | "toUpper"
        | "toTitle"
        | "trim"
        | "trimSpace"
        | "trimPrefix"
        | "trimSuffix"
        | "indent"
        | "printf"
        | "print"
        | "replaceAll"
        | "regexReplace"
        | "regexReplaceAll"
        | "toJSON"
        | "toJSONPretty"
        | "toUnescapedJSON"
        | "toUnescapedJSONPretty"
        | "toYAML"
        | "base64Encode"
        | "base64Decode"
        | "base64URLEncode"
        | "base64URLDecode"
        | "sha256Hex"
        | "md5sum"
        | "hmacSHA256Hex"
        | "sockaddr" => Shape::Text,
        "keyOrDefault" | "envOrDefault" => match call.parameters.get(1) {
            Some(Expression::Literal(Value::String(_))) => Shape::Text,
            _ => Shape::Unknown,
        },
        "len" | "add" | "subtract" | "multiply" | "divide" | "modulo" | "minimum" | "maximum"
        | "parseInt" | "parseUint" | "parseFloat" => Shape::Number,
        "keyExists" | "contains" | "containsAll" | "containsAny" | "containsNone"
        | "containsNotAll" | "in" | "regexMatch" | "parseBool" | "not" | "eq" | "ne" | "lt"
        | "le" | "gt" | "ge" => Shape::Truth,
        // Groups are there because somebody is in them.
        "byTag" | "byMeta" | "byPort" => {
            Shape::ByName(Box::new(Shape::fixed_list(list().element())))
        }
        "where" | "sortBy" | "uniq" | "limit" | "slice" => list(),
        "first" | "last" => list().element(),
        "split" => Shape::fixed_list(Shape::Text),
        "splitToMap" => Shape::ByName(Box::new(Shape::Text)),
        "parameters" => Shape::fixed_list(Shape::Unknown),
        "loop" => Shape::fixed_list(Shape::Number),
        _ => Shape::Unknown,
    }
}

/// What an item of a kind is called at the beginning of a sentence.
pub fn what(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Item(fields) => Some(fields.what),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::helpers::TABLE;
    use crate::template::shape::TAGGED_ADDRESS;

    #[test]
    fn helpers_that_are_named_here_are_there() {
        let text = include_str!("shape.rs");
        let body = &text[text.find("match call.name.as_str()").unwrap()..];
        let body = &body[..body.find("_ => Shape::Unknown,\n    }\n}").unwrap()];
        let named = body.split('"').skip(1).step_by(2);
        for name in named {
            assert!(TABLE.iter().any(|entry| entry.name == name), "{name}");
        }
    }

    #[test]
    fn what_is_not_certain_is_unknown() {
        let instance = Shape::Item(&INSTANCE);
        assert_eq!(instance.field("Port"), Ok(Shape::Number));
        assert_eq!(instance.field("Prot"), Err(&instance));
        assert_eq!(
            instance.field("ServiceMeta").unwrap().field("zone"),
            Ok(Shape::Text)
        );
        let tagged = instance.field("ServiceTaggedAddresses").unwrap();
        assert_eq!(tagged.field("lan"), Ok(Shape::Item(&TAGGED_ADDRESS)));
        assert_eq!(Shape::Unknown.field("x"), Ok(Shape::Unknown));
        assert_eq!(Shape::Text.field("x"), Ok(Shape::Unknown));
        assert_eq!(instance.field("Tags").unwrap().field("0"), Ok(Shape::Text));
        assert!(Shape::list(Shape::Text).may_be_empty());
        assert!(!Shape::fixed_list(Shape::Text).may_be_empty());
    }
}

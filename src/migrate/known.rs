//! What is known of values before anything is rendered: the texts that they can be, and whether their
//! fields may be missing. It decides where a conversion writes the same as Go for certain. Pure.

use super::functions::Trouble;
use super::value::{Path, Value};

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    Text(String),
    /// Texts and values one after the other.
    Joined(Vec<Value>),
    /// One of these texts.
    OneOf(Vec<String>),
    /// A list of these texts.
    List(Vec<String>),
    /// Names that are not the same for all, as of JSON, on so many levels.
    Free(usize),
    /// A text or a number.
    Scalar,
}

/// JSON and folders have as many levels as somebody writes.
const ALL_LEVELS: usize = usize::MAX;

impl Known {
    /// What is known of each item of a list or map.
    pub fn item(&self) -> Option<Known> {
        match self {
            Known::List(texts) => Some(match texts.as_slice() {
                [text] => Known::Text(text.clone()),
                texts => Known::OneOf(texts.to_vec()),
            }),
            Known::Free(levels) => (*levels > 1).then(|| Known::Free(levels - 1)),
            _ => None,
        }
    }
}

/// Functions that give a text or a number made of their parameters and of nothing else.
const MADE_OF_PARAMETERS: &[&str] = &[
    "toLower",
    "toUpper",
    "toTitle",
    "trim",
    "trimSpace",
    "trimPrefix",
    "trimSuffix",
    "replaceAll",
    "print",
    "printf",
    "join",
    "index",
    "or",
    "and",
    "default",
];

/// Other functions that give a text, a number or a truth value.
const SCALARS: &[&str] = &[
    "key",
    "keyExists",
    "keyOrDefault",
    "env",
    "mustEnv",
    "envOrDefault",
    "file",
    "indent",
    "regexMatch",
    "regexReplaceAll",
    "len",
    "add",
    "subtract",
    "multiply",
    "divide",
    "modulo",
    "minimum",
    "maximum",
    "parseInt",
    "parseUint",
    "parseFloat",
    "parseBool",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "not",
    "contains",
    "in",
    "base64Encode",
    "base64Decode",
    "base64URLEncode",
    "base64URLDecode",
    "sha256Hex",
    "md5sum",
    "hmacSHA256Hex",
    "sockaddr",
    "toJSON",
    "toJSONPretty",
    "toUnescapedJSON",
    "toUnescapedJSONPretty",
    "toYAML",
];

/// Functions that give a list or a map.
const LISTS: &[&str] = &[
    "service",
    "connect",
    "services",
    "nodes",
    "node",
    "datacenters",
    "ls",
    "tree",
    "safeLs",
    "safeTree",
    "split",
    "splitToMap",
    "byTag",
    "byMeta",
    "byPort",
    "byKey",
    "explode",
    "explodeMap",
    "mergeMap",
    "mergeMapWithOverride",
    "loop",
];

impl Value {
    /// What is known of it.
    pub fn known(&self) -> Option<Known> {
        let (name, given) = match self {
            Value::Text(text) => return Some(Known::Text(text.clone())),
            Value::Joined(parts) => return Some(Known::Joined(parts.clone())),
            Value::Number(_) | Value::Bool(_) => return Some(Known::Scalar),
            Value::Null => return None,
            Value::Path(path) => return path.known.clone(),
            Value::Call { name, given, .. } => (name.as_str(), given.as_slice()),
        };
        match (name, given) {
            ("split", [separator, text]) => {
                let (separator, text) = (separator.known_text()?, text.known_text()?.trim());
                // An empty separator cuts between letters, and an empty text has no parts.
                let cut = !separator.is_empty() && !text.is_empty();
                cut.then(|| Known::List(text.split(separator).map(str::to_owned).collect()))
            }
            (
                "parseJSON"
                | "parseYAML"
                | "explode"
                | "explodeMap"
                | "mergeMap"
                | "mergeMapWithOverride",
                _,
            ) => Some(Known::Free(ALL_LEVELS)),
            // Folders, and in each the keys.
            ("byKey", _) => Some(Known::Free(2)),
            ("byTag" | "byMeta" | "byPort" | "splitToMap", _) => Some(Known::Free(1)),
            ("lookup" | "index", [from, step]) => match (from.known()?, step) {
                (Known::List(texts), Value::Number(at)) => {
                    let text = at.parse::<usize>().ok().and_then(|at| texts.get(at))?;
                    Some(Known::Text(text.clone()))
                }
                (known, _) => known.item(),
            },
            _ if SCALARS.contains(&name) => Some(Known::Scalar),
            _ if MADE_OF_PARAMETERS.contains(&name) && name != "index" => {
                let plain = given
                    .iter()
                    .all(|one| one.known().is_some_and(|it| it.is_text()));
                (plain || name == "join").then_some(Known::Scalar)
            }
            _ => None,
        }
    }

    /// Whether it is a field that may be missing, where Go has nothing.
    pub fn is_lacking(&self) -> bool {
        match self {
            Value::Path(path) => path.lacking,
            Value::Call { name, given, .. } if name == "lookup" || name == "index" => {
                matches!(given.first().and_then(Value::known), Some(Known::Free(_)))
            }
            _ => false,
        }
    }

    /// Whether Go writes it in brackets.
    pub fn is_list(&self) -> bool {
        match self {
            Value::Path(path) => {
                path.is_map() || path.last() == "Tags" || matches!(path.known, Some(Known::List(_)))
            }
            Value::Call { name, .. } => LISTS.contains(&name.as_str()),
            _ => false,
        }
    }
}

impl Known {
    fn is_text(&self) -> bool {
        !matches!(self, Known::List(_) | Known::Free(_))
    }
}

/// What in a value may differ from what consul-template makes of it, though it is converted.
pub fn doubts(value: &Value) -> Vec<Trouble> {
    let mut found = Vec::new();
    value.each(&mut |value| {
        let Value::Call { name, given, pairs } = value else {
            return;
        };
        let Some(first) = given.first() else {
            return;
        };
        let shown = first.parameter();
        match name.as_str() {
            "service" | "connect" => {
                let tagged = pairs.iter().any(|(name, _)| *name == "tag");
                if !tagged && !matches!(first, Value::Text(_)) && !is_name(first) {
                    found.push(Trouble::new(
                        format!("The name `{shown}` is taken whole: a tag, a datacenter or states in it are not split off."),
                        format!("Where it holds a name alone, take the comment out. Else write its parts: {{{{{name} NAME tag=TAG dc=DATACENTER status=STATES}}}}."),
                    ));
                }
            }
            "key" | "keyExists" | "keyOrDefault" | "ls" | "tree" | "safeLs" | "safeTree" | "node"
                if may_be(first, &['@', '?']) =>
            {
                found.push(Trouble::new(
                    format!("`{shown}` is taken whole: a datacenter or namespace in it is not split off."),
                    format!("Write its parts: {{{{{name} PATH dc=DATACENTER}}}}."),
                ));
            }
            "toYAML" => found.push(Trouble::new(
                "consul-template puts texts of YAML into other quotes, and writes large numbers otherwise.",
                "Where only its meaning counts, take the comment out.",
            )),
            "toJSON" | "toJSONPretty" | "toUnescapedJSON" | "toUnescapedJSONPretty"
                if !has_sorted_fields(first) =>
            {
                found.push(Trouble::new(
                    format!("The fields of `{shown}` may be others than consul-template's, and in another order."),
                    "Where only names that are in both count, take the comment out.",
                ));
            }
            _ => {}
        }
    });
    found
}

/// Whether one of the texts that it can be holds one of the letters.
fn may_be(value: &Value, letters: &[char]) -> bool {
    match value.known() {
        Some(Known::OneOf(texts)) => texts.iter().any(|text| text.contains(letters)),
        _ => false,
    }
}

/// What ends a name in consul-template's short form of a service.
pub const SEPARATORS: [char; 5] = ['.', '?', '@', '~', '|'];

/// Whether a value is surely the name of a service and nothing else.
fn is_name(value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Number(text) => !text.contains(SEPARATORS),
        Value::Bool(_) | Value::Null => true,
        Value::Joined(parts) => parts.iter().all(is_name),
        Value::Path(path) => match &path.known {
            Some(Known::Text(text)) => !text.contains(SEPARATORS),
            Some(Known::OneOf(texts)) => !texts.iter().any(|text| text.contains(SEPARATORS)),
            Some(Known::Joined(parts)) => parts.iter().all(is_name),
            _ => is_catalog_name(path),
        },
        Value::Call { name, given, .. } => {
            let text = value.known();
            match text {
                Some(Known::Text(text)) => !text.contains(SEPARATORS),
                _ => MADE_OF_PARAMETERS.contains(&name.as_str()) && given.iter().all(is_name),
            }
        }
    }
}

/// Whether the catalog gives it as the name of a service.
fn is_catalog_name(path: &Path) -> bool {
    let named = matches!(path.last(), "Name" | "Service" | "ServiceName");
    named && !path.optional && !path.lacking
}

/// Fields whose value is one text or number.
const SINGLE: &[&str] = &[
    "ID",
    "Name",
    "Address",
    "NodeAddress",
    "Port",
    "Status",
    "Key",
    "Value",
    "Service",
];

/// Whether the fields of a value, if it has any, are in the order of their names in Go as well.
fn has_sorted_fields(value: &Value) -> bool {
    match value {
        Value::Path(path) => {
            // What `byKey` and its like hold are structures.
            let free = matches!(path.known, Some(Known::Free(levels)) if levels < ALL_LEVELS / 2);
            let known = path.known.is_some() && !free;
            known
                || path.is_map()
                || path.optional
                || path.last() == "Tags"
                || SINGLE.contains(&path.last())
        }
        Value::Call { name, .. } => match value.known() {
            Some(Known::Free(levels)) => levels >= ALL_LEVELS / 2,
            Some(_) => true,
            None => name == "split" || name == "loop" || name == "datacenters",
        },
        _ => true,
    }
}

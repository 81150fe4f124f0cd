//! Helpers that read the catalog. Each call becomes a [`Query`]; the same code makes it from the
//! literal parameters of a template before any rendering, and from values while rendering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handlebars::template::Parameter;
use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::Value;

use super::super::answers::Slot;
use super::super::recorder::Recorder;
use super::{as_text, describe, failed, refuse_missing};
use crate::catalog::fitness::shorten;
use crate::catalog::{HealthFilter, Kind, Query, Scope, Status};

/// The pair that the engine adds to a call: which call in the templates it is.
pub const AT: &str = "@call";

/// The pair that the engine adds to a call in a place that does not need the whole list: with
/// [`HANDLE`], the number of the answer's edition is given instead, else whether there is any item.
pub const FORM: &str = "@form";
/// See [`FORM`].
pub const HANDLE: &str = "handle";
/// See [`FORM`].
pub const TRUTH: &str = "truth";

/// The pairs of `service` and `connect`.
pub const SERVICE_PAIRS: &[&str] = &[
    "tag",
    "status",
    "near",
    "filter",
    "nodeMeta",
    "connect",
    "dc",
    "ns",
    "partition",
];
/// The pairs of `services` and `nodes`.
pub const LIST_PAIRS: &[&str] = &["near", "filter", "nodeMeta", "dc", "ns", "partition"];
/// The pairs of everything else.
pub const PLACE_PAIRS: &[&str] = &["dc", "ns", "partition"];

/// What a helper reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Service,
    Connect,
    Services,
    Nodes,
    Node,
    Datacenters,
    Key,
    KeyExists,
    KeyOrDefault,
    Ls,
    Tree,
    SafeLs,
    SafeTree,
}

/// A query helper at work.
pub struct QueryHelper {
    pub reads: Reads,
    pub recorder: Arc<Recorder>,
}

impl HelperDef for QueryHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let pairs: BTreeMap<&str, &Value> = helper
            .hash()
            .iter()
            .map(|(name, value)| (*name, value.value()))
            .collect();
        let first = helper.param(0);
        let call = QueryCall {
            first: first.map(|param| param.value()),
            second: helper.param(1).map(|param| param.value()),
            // Data is a name and nothing else; only the template may use the short form.
            short_form: first.is_some_and(|param| param.try_get_constant_value().is_some()),
            pairs,
        };
        let query = call.query(self.reads).map_err(failed)?;
        let at = helper.hash_get(AT).and_then(|at| at.value().as_u64());
        let found = self
            .recorder
            .look_up(&query, at, |slot| self.reads.lacks(slot));
        if let Some((_, slot)) = &found
            && slot.instances().is_empty()
            && let Some((name, sentence)) = call.odd_name(self.reads)
            && !self.recorder.lists_service(&name)
        {
            self.recorder.note("computed-name", sentence);
        }
        match helper.hash_get(FORM).and_then(|form| form.value().as_str()) {
            // Nothing is gone through where nothing is known; the rendering is thrown away.
            Some(HANDLE) => Ok(ScopedJson::Derived(match found {
                Some((edition, _)) => edition.into(),
                None => Value::Array(Vec::new()),
            })),
            Some(_) => Ok(ScopedJson::Derived(
                found.is_some_and(|(_, slot)| slot.len() > 0).into(),
            )),
            None => self.give(found.map(|(_, slot)| slot), helper),
        }
    }
}

impl QueryHelper {
    /// The answer in the form of this helper.
    fn give<'rc>(
        &self,
        found: Option<Arc<Slot>>,
        helper: &Helper<'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let known = found.is_some();
        let value = found.map_or(Value::Null, |slot| slot.value());
        Ok(ScopedJson::Derived(match self.reads {
            Reads::Node => value,
            Reads::KeyExists => (!value.is_null()).into(),
            Reads::Key if value.is_object() => {
                return Err(failed(
                    "The value of this key is no UTF-8 text, so it cannot be used as one.",
                ));
            }
            Reads::Key if value.is_string() => value,
            // The rendering is thrown away: the recorder knows that the key is not there.
            Reads::Key => "".into(),
            Reads::KeyOrDefault => match value {
                Value::String(text) if !text.is_empty() => text.into(),
                _ => helper
                    .param(1)
                    .map(|param| param.value().clone())
                    .unwrap_or_default(),
            },
            Reads::Ls | Reads::SafeLs => direct(value),
            _ if known => value,
            _ => Value::Array(Vec::new()),
        }))
    }
}

/// The keys right below a folder.
fn direct(value: Value) -> Value {
    let Value::Array(list) = value else {
        return Value::Array(Vec::new());
    };
    let is_direct = |item: &Value| {
        let key = item.get("Key").and_then(Value::as_str);
        key.is_some_and(|key| !key.contains('/'))
    };
    list.into_iter().filter(is_direct).collect()
}

impl Reads {
    /// Whether an answer has nothing of what the helper demands, so that the rendering waits.
    fn lacks(self, slot: &Slot) -> bool {
        match self {
            Reads::Key => slot.is_absent(),
            Reads::SafeTree => slot.len() == 0,
            Reads::SafeLs => direct(slot.value()) == Value::Array(Vec::new()),
            _ => false,
        }
    }

    /// Whether the answer is a list that is given as it is.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Reads::Service
                | Reads::Connect
                | Reads::Services
                | Reads::Nodes
                | Reads::Datacenters
                | Reads::Tree
                | Reads::SafeTree
        )
    }

    /// Whether it reads instances of a service.
    fn is_service(self) -> bool {
        matches!(self, Reads::Service | Reads::Connect)
    }
}

/// The query of a call whose parameters are all literals; `None` when one is not.
pub fn literal_query(
    reads: Reads,
    params: &[Parameter],
    pairs: &BTreeMap<&str, &Parameter>,
) -> Option<Result<Query, String>> {
    let literal = |parameter: &Parameter| match parameter {
        Parameter::Literal(value) => Some(value.clone()),
        _ => None,
    };
    let first = match params.first() {
        Some(parameter) => Some(literal(parameter)?),
        None => None,
    };
    // keyOrDefault's second parameter may be anything.
    let second = match params.get(1).filter(|_| reads.is_service()) {
        Some(parameter) => Some(literal(parameter)?),
        None => None,
    };
    let values: Option<BTreeMap<&str, Value>> = pairs
        .iter()
        .map(|(name, parameter)| Some((*name, literal(parameter)?)))
        .collect();
    let values = values?;
    let call = QueryCall {
        first: first.as_ref(),
        second: second.as_ref(),
        short_form: true,
        pairs: values.iter().map(|(name, value)| (*name, value)).collect(),
    };
    Some(call.query(reads))
}

struct QueryCall<'a> {
    first: Option<&'a Value>,
    second: Option<&'a Value>,
    short_form: bool,
    pairs: BTreeMap<&'a str, &'a Value>,
}

/// consul-template's short form: `tag.name?ns=…&partition=…@dc~near|states`.
#[derive(Default)]
struct ShortForm {
    name: String,
    tag: Option<String>,
    namespace: Option<String>,
    partition: Option<String>,
    datacenter: Option<String>,
    near: Option<String>,
    states: Option<String>,
}

impl ShortForm {
    /// What stands behind `?`.
    fn pairs(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "ns" => &mut self.namespace,
                "partition" => &mut self.partition,
                other => {
                    return Err(format!(
                        "`{}=` is not known here. Behind `?` stand ns= and partition=; peers and sameness groups cannot be asked for.",
                        shorten(other)
                    ));
                }
            };
            *place = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        Ok(())
    }
}

impl QueryCall<'_> {
    fn query(&self, reads: Reads) -> Result<Query, String> {
        let mut short = self.short(reads)?;
        let scope = Scope {
            datacenter: self.text("dc")?.or(short.datacenter.take()),
            namespace: self.text("ns")?.or(short.namespace.take()),
            partition: self.text("partition")?.or(short.partition.take()),
        };
        let kind = match reads {
            Reads::Service | Reads::Connect => Kind::Service {
                name: required(short.name, "the name of a service")?,
                tag: self.text("tag")?.or(short.tag),
                connect: reads == Reads::Connect || self.flag("connect")?,
                health: states(self.states(short.states)?.as_deref())?,
                near: self.text("near")?.or(short.near),
                filter: self.text("filter")?,
                node_meta: self.node_meta()?,
            },
            Reads::Services => Kind::Services {
                node_meta: self.node_meta()?,
                filter: self.text("filter")?,
            },
            Reads::Nodes => Kind::Nodes {
                near: self.text("near")?.or(short.near),
                filter: self.text("filter")?,
                node_meta: self.node_meta()?,
            },
            Reads::Node => Kind::Node {
                name: required(short.name, "the name of a node")?,
            },
            Reads::Datacenters => Kind::Datacenters {
                ignore_down: self.ignore_down()?,
            },
            Reads::Key | Reads::KeyExists | Reads::KeyOrDefault => Kind::Key {
                path: required(
                    short.name.trim_start_matches('/').to_owned(),
                    "the path of a key",
                )?,
            },
            Reads::Ls | Reads::Tree | Reads::SafeLs | Reads::SafeTree => Kind::Tree {
                prefix: short.name.trim_matches('/').to_owned(),
            },
        };
        Ok(Query { kind, scope })
    }

    /// What to tell where a computed name has no instance and would have been split in consul-template.
    fn odd_name(&self, reads: Reads) -> Option<(String, String)> {
        let name = self
            .first
            .filter(|_| reads.is_service() && !self.short_form)?;
        let name = as_text(name)?;
        let at = name.find(['|', '@', '~', '?', '.'])?;
        let sentence = format!(
            "No instance has the service name `{}`. A computed name is taken whole, so that `{}` ends no part of it: write tag=, dc= or status= where the service is asked for.",
            shorten(&name),
            &name[at..=at],
        );
        Some((name, sentence))
    }

    /// The states that are asked for, wherever they are written.
    fn states(&self, short: Option<String>) -> Result<Option<String>, String> {
        let second = match self.second {
            None | Some(Value::Null) => None,
            Some(value) => Some(as_text(value).ok_or_else(|| {
                format!("States are wanted here, and this is {}.", describe(value))
            })?),
        };
        Ok(self.text("status")?.or(second).or(short))
    }

    /// The parameter of `datacenters`.
    fn ignore_down(&self) -> Result<bool, String> {
        match self.first {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(other) => Err(format!(
                "`datacenters` takes true, to leave out those that are down, and got {}.",
                describe(other)
            )),
        }
    }

    fn short(&self, reads: Reads) -> Result<ShortForm, String> {
        let Some(first) = self.first.filter(|_| reads != Reads::Datacenters) else {
            return Ok(ShortForm::default());
        };
        let text = as_text(first)
            .ok_or_else(|| format!("A name is wanted here, and this is {}.", describe(first)))?;
        let mut short = ShortForm::default();
        if !self.short_form {
            if matches!(reads, Reads::Services | Reads::Nodes) && !text.is_empty() {
                return Err("A computed datacenter is written as dc=DATACENTER.".to_owned());
            }
            short.name = text;
            return Ok(short);
        }
        let mut rest = text.as_str();
        let services = reads.is_service();
        if services && let Some((left, states)) = rest.rsplit_once('|') {
            short.states = Some(states.to_owned());
            rest = left;
        }
        if (services || reads == Reads::Nodes)
            && let Some((left, near)) = rest.rsplit_once('~')
        {
            short.near = Some(near.to_owned());
            rest = left;
        }
        if let Some((left, datacenter)) = rest.rsplit_once('@') {
            short.datacenter = Some(datacenter.to_owned());
            rest = left;
        }
        if reads != Reads::Datacenters
            && let Some((left, pairs)) = rest.split_once('?')
        {
            short.pairs(pairs)?;
            rest = left;
        }
        if services && let Some((tag, name)) = rest.rsplit_once('.') {
            short.tag = Some(tag.to_owned());
            rest = name;
        }
        if matches!(reads, Reads::Services | Reads::Nodes) && !rest.is_empty() {
            return Err(format!(
                "`{}` is no datacenter; write \"@{}\".",
                shorten(&text),
                shorten(rest)
            ));
        }
        short.name = rest.to_owned();
        Ok(short)
    }

    fn text(&self, pair: &str) -> Result<Option<String>, String> {
        match self.pairs.get(pair) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => as_text(value)
                .map(|text| Some(text).filter(|text| !text.is_empty()))
                .ok_or_else(|| format!("`{pair}` wants a text and got {}.", describe(value))),
        }
    }

    fn flag(&self, pair: &str) -> Result<bool, String> {
        match self.pairs.get(pair) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(value) => Err(format!(
                "`{pair}` wants true or false and got {}.",
                describe(value)
            )),
        }
    }

    fn node_meta(&self) -> Result<BTreeMap<String, String>, String> {
        let Some(text) = self.text("nodeMeta")? else {
            return Ok(BTreeMap::new());
        };
        text.split(',')
            .map(|pair| {
                pair.split_once(':')
                    .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                    .ok_or_else(|| "`nodeMeta` is written as \"key:value,key:value\".".to_owned())
            })
            .collect()
    }
}

fn required(name: String, what: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err(format!("{what} is wanted here, and this is empty."));
    }
    Ok(name)
}

fn states(text: Option<&str>) -> Result<HealthFilter, String> {
    match text {
        None => Ok(HealthFilter::Passing),
        Some(list) => {
            let words = list.split(',').map(str::trim);
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            let any = words.contains(&"any");
            let states: Result<BTreeSet<Status>, String> = words
                .into_iter()
                .filter(|word| *word != "any")
                .map(|word| {
                    Status::parse(word).ok_or_else(|| {
                        format!(
                            "`{}` is no state. Write any, or some of passing, warning, critical, maintenance.",
                            shorten(word)
                        )
                    })
                })
                .collect();
            let states: Vec<Status> = states?.into_iter().collect();
            Ok(match states.as_slice() {
                _ if any => HealthFilter::Any,
                [] | [Status::Passing] => HealthFilter::Passing,
                _ => HealthFilter::Only(states),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(reads: Reads, text: &str) -> Result<String, String> {
        let params = [Parameter::Literal(text.into())];
        literal_query(reads, &params, &BTreeMap::new())
            .unwrap()
            .map(|query| query.to_string())
    }

    #[test]
    fn consul_templates_short_form_is_understood() {
        for (reads, text, expected) in [
            (Reads::Service, "web", r#"service "web""#),
            (Reads::Service, "prod.web", r#"service "web" tag="prod""#),
            (
                Reads::Service,
                "v1.2.web@east~_agent|any",
                r#"service "web" tag="v1.2" status="any" near="_agent" dc="east""#,
            ),
            (
                Reads::Service,
                "web|warning,passing",
                r#"service "web" status="passing,warning""#,
            ),
            (Reads::Key, "/a/b@east", r#"key "a/b" dc="east""#),
            (Reads::Tree, "a/", r#"tree "a""#),
            (Reads::Services, "@east", r#"services dc="east""#),
            (
                Reads::Service,
                "prod.web?ns=team&partition=p@east~n1|any",
                r#"service "web" tag="prod" status="any" near="n1" dc="east" ns="team" partition="p""#,
            ),
            (
                Reads::Service,
                "web|passing,any",
                r#"service "web" status="any""#,
            ),
            (Reads::Service, "web|passing", r#"service "web""#),
            (
                Reads::Services,
                "?ns=team@east",
                r#"services dc="east" ns="team""#,
            ),
            (Reads::Nodes, "@east~n1", r#"nodes near="n1" dc="east""#),
            (Reads::Node, "n1@east", r#"node "n1" dc="east""#),
            (
                Reads::Key,
                "a/b?ns=team@east",
                r#"key "a/b" dc="east" ns="team""#,
            ),
            (
                Reads::SafeTree,
                "a?partition=p",
                r#"tree "a" partition="p""#,
            ),
        ] {
            assert_eq!(query(reads, text), Ok(expected.to_owned()), "{text}");
        }
        assert!(query(Reads::Service, "web|healthy").is_err());
        assert!(query(Reads::Service, "").is_err());
        assert!(query(Reads::Services, "east").is_err());
        assert_eq!(
            query(Reads::Service, "web?peer=east"),
            Err("`peer=` is not known here. Behind `?` stand ns= and partition=; peers and sameness groups cannot be asked for.".to_owned())
        );
    }

    #[test]
    fn datacenters_that_are_down_are_left_out_on_demand() {
        let with = |value: Value| {
            let params = [Parameter::Literal(value)];
            let query = literal_query(Reads::Datacenters, &params, &BTreeMap::new());
            query.unwrap().map(|query| query.to_string())
        };
        assert_eq!(with(true.into()), Ok("datacenters true".to_owned()));
        assert_eq!(with(false.into()), Ok("datacenters".to_owned()));
        assert!(with("dc1".into()).is_err());
    }

    #[test]
    fn states_may_be_a_second_parameter() {
        let params = ["web", "any"].map(|text| Parameter::Literal(text.into()));
        let query = literal_query(Reads::Service, &params, &BTreeMap::new());
        assert_eq!(
            query.unwrap().unwrap().to_string(),
            r#"service "web" status="any""#
        );
    }

    #[test]
    fn data_is_a_name_and_nothing_else() {
        let name = Value::from("prod.web@east|any");
        let call = QueryCall {
            first: Some(&name),
            second: None,
            short_form: false,
            pairs: BTreeMap::new(),
        };
        assert_eq!(
            call.query(Reads::Service).unwrap(),
            Query::service("prod.web@east|any")
        );
    }
}

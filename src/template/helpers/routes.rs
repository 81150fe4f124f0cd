//! `{{#each (routes "backends")}}`: the route table of all services' tags, as values for a template.
//!
//! It asks for the names of all services, then for the instances of those that have a tag of a route,
//! and for the keys with lines. What is not known yet is noted all at once, as with any other query. The
//! table is made once for all that asks for it in one rendering; values are made of the part that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::{Value, json};

use super::super::answers::{SERVER_ID, Slot, printable};
use super::super::engine::PARAMETERS;
use super::super::names::{backend_name, server_ids, server_name};
use super::super::recorder::Recorder;
use super::super::tables::{Made, Wanted};
use super::{as_number, as_text, failed, refuse_missing, truthy};
use crate::catalog::fitness::shorten;
use crate::catalog::{HealthFilter, Instance, Kind, Network, Query, Scope, Status};
use crate::routes::layout::{Backend, Split, lay_out};
use crate::routes::{
    HostHeader, Item, Options, Owner, Protocol, Redirect, Route, Rules, Source, overrides, table,
    tag,
};

/// The parts of a table, by which they can be asked for.
const PARTS: [&str; 9] = [
    "http",
    "sni",
    "sniSplits",
    "splits",
    "listeners",
    "backends",
    "routes",
    "refused",
    "notes",
];

/// The helper at work.
pub struct RoutesHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for RoutesHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let parameter = |name: &str| context.data().get(PARAMETERS)?.get(name);
        let text = |pair: &str, name: &str, default: &str| {
            let value = helper.hash_get(pair).map(|pair| pair.value());
            match value.or_else(|| parameter(name)) {
                None => Ok(default.to_owned()),
                Some(value) => as_text(value)
                    .ok_or_else(|| failed(format!("`{pair}` of `routes` wants a text."))),
            }
        };
        // As the template's `{{#if}}` asks.
        let is_set = |name: &str| parameter(name).is_some_and(truthy);
        let rules = Rules {
            prefix: text("prefix", "tag_prefix", tag::PREFIX)?,
            states: states(&text("status", "route_status", "passing")?).map_err(failed)?,
            ports: ports(parameter("tcp_ports")).map_err(failed)?,
            sni: is_set("sni_listen"),
            verifies: parameter("upstream_ca").is_none_or(truthy),
            owners: owners(parameter("owners")).map_err(failed)?,
            // A host belongs to its owner on any port.
            ignored_port: match (
                is_set("ignore_port") || is_set("owners"),
                is_set("certificate"),
            ) {
                (true, _) => None,
                (false, true) => Some(443),
                (false, false) => Some(80),
            },
            users: match parameter("auth") {
                Some(Value::Object(lists)) => lists.keys().cloned().collect(),
                _ => BTreeSet::new(),
            },
        };
        if rules.prefix.trim().is_empty() {
            return Err(failed(
                "`prefix` of `routes` is empty, so every tag would be a route.",
            ));
        }
        let wanted = Wanted {
            rules,
            overrides: text("overrides", "overrides", "fabio/config")?,
        };
        let made = match self.recorder.table(&wanted) {
            Some(made) => made,
            None => self.make(&wanted),
        };
        for refused in &made.table.refused {
            self.recorder.refuse(&refused.what, &refused.text);
        }
        for note in &made.table.notes {
            self.recorder.note("route", sentence(note, ": ", ""));
        }
        let Some(name) = helper.param(0) else {
            let parts = PARTS.iter().map(|name| (*name).to_owned());
            let whole = parts.map(|name| {
                let part = part(&made, &wanted.rules, &name).unwrap_or_default();
                (name, part)
            });
            return Ok(ScopedJson::Derived(whole.collect()));
        };
        let name = as_text(name.value()).unwrap_or_default();
        let part = part(&made, &wanted.rules, &name);
        part.map(ScopedJson::Derived).ok_or_else(|| {
            let parts = PARTS.join(", ");
            let name = shorten(&name);
            failed(format!("`routes` has no part `{name}`. It has: {parts}."))
        })
    }
}

impl RoutesHelper {
    /// Makes a table, and keeps it where everything was known.
    fn make(&self, wanted: &Wanted) -> Arc<Made> {
        let mut asking = Asking {
            recorder: &self.recorder,
            asked: Some(Vec::new()),
        };
        let rules = &wanted.rules;
        let services: Vec<Service> = asking
            .names(&rules.prefix)
            .iter()
            .map(|name| asking.service(name, rules))
            .collect();
        let instances = || services.iter().flat_map(|service| service.instances(rules));
        let datacenter = instances()
            .next()
            .map_or("", |(one, _)| one.node.datacenter.as_str());
        let lines: Vec<overrides::Line> = asking
            .keys(&wanted.overrides)
            .iter()
            .flat_map(|(key, text)| overrides::parse(key, text, datacenter))
            .collect();
        let table = table::build(instances(), &lines, rules, |address, port| {
            self.recorder.address_fault(address, port)
        });
        let name = |service: &str, special: Option<&str>| match special {
            None => backend_name(service),
            // With a slash, a colon or a sign in it, which no plain name has.
            Some(special) => server_name(service, special),
        };
        let layout = lay_out(&table, rules, name);
        let made = Arc::new(Made { table, layout });
        if let Some(asked) = asking.asked {
            self.recorder.keep_table(wanted.clone(), asked, &made);
        }
        made
    }
}

/// The answers about one service.
struct Service {
    counting: Option<Arc<Slot>>,
    all: Option<Arc<Slot>>,
}

impl Service {
    /// Every instance by node and id, each with whether it gets requests. Which of them do is not read off
    /// their state but asked for by a query of its own: the guard keeps there what fails or vanishes in mass,
    /// and HAProxy's checks decide about it.
    fn instances(&self, rules: &Rules) -> Vec<(&Instance, bool)> {
        let counting = self.counting.iter().flat_map(|slot| slot.kept_instances());
        let counting: BTreeMap<(&str, &str), &Instance> =
            counting.map(|one| (one.key(), one)).collect();
        let others = self.all.iter().flat_map(|slot| slot.kept_instances());
        let others = others.filter(|one| !counting.contains_key(&one.key()));
        // The answer about all of them may be newer, and it is the other one that counts.
        let every = [Status::Critical, Status::Maintenance, Status::Warning];
        let every = every.iter().all(|status| rules.states.contains(status));
        let others = others.map(|one| (one, every && rules.states.contains(&one.status)));
        let up = !rules.states.is_empty();
        let mut all: Vec<(&Instance, bool)> = others.collect();
        all.extend(counting.values().map(|one| (*one, up)));
        all.sort_by_key(|&(one, _)| one.key());
        all
    }
}

/// Asks for answers, and keeps account of them.
struct Asking<'a> {
    recorder: &'a Recorder,
    /// The editions of the answers; `None` once there is none to a query.
    asked: Option<Vec<u64>>,
}

impl Asking<'_> {
    /// The services that have a tag of a route.
    fn names(&mut self, prefix: &str) -> Vec<String> {
        let services = self.ask(Kind::Services {
            node_meta: BTreeMap::new(),
            filter: None,
        });
        let listed = |tags: &[String]| {
            let mut tags = printable(tags).into_iter();
            tags.any(|tag| tag.trim().starts_with(prefix))
        };
        let services = services.iter().flat_map(|slot| slot.kept_services());
        services
            .filter(|service| service.tags_left_out > 0 || listed(&service.tags))
            .map(|service| service.name.clone())
            .collect()
    }

    fn service(&mut self, name: &str, rules: &Rules) -> Service {
        let mut ask = |health: HealthFilter| {
            self.ask(Kind::Service {
                name: name.to_owned(),
                tag: None,
                connect: false,
                health,
                near: None,
                filter: None,
                node_meta: BTreeMap::new(),
            })
        };
        let states: BTreeSet<Status> = rules.states.iter().copied().collect();
        Service {
            counting: ask(match states.iter().eq([&Status::Passing]) {
                true => HealthFilter::Passing,
                false => HealthFilter::Only(states.into_iter().collect()),
            }),
            all: ask(HealthFilter::Any),
        }
    }

    /// The key and those below it, in their order.
    fn keys(&mut self, path: &str) -> Vec<(String, String)> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Vec::new();
        }
        let own = self.ask(Kind::Key {
            path: path.to_owned(),
        });
        let below = self.ask(Kind::Tree {
            prefix: path.to_owned(),
        });
        let own = own.map(|slot| slot.value()).unwrap_or_default();
        let below = below.map(|slot| slot.value()).unwrap_or_default();
        let below = below.as_array().into_iter().flatten().filter_map(|key| {
            let text = |field: &str| key.get(field)?.as_str().map(str::to_owned);
            Some((text("Path")?, text("Value")?))
        });
        own.as_str()
            .map(|text| (path.to_owned(), text.to_owned()))
            .into_iter()
            .chain(below)
            .collect()
    }

    fn ask(&mut self, kind: Kind) -> Option<Arc<Slot>> {
        let query = Query {
            kind,
            scope: Scope::default(),
        };
        let found = self.recorder.look_up(&query, None, |_| false);
        match (&found, &mut self.asked) {
            (Some((edition, _)), Some(asked)) => asked.push(*edition),
            _ => self.asked = None,
        }
        found.map(|(_, slot)| slot)
    }
}

fn states(text: &str) -> Result<Vec<Status>, String> {
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words
        .map(|word| {
            Status::parse(word).ok_or_else(|| {
                format!(
                    "`{}` is no state. Write some of passing, warning, critical, maintenance.",
                    shorten(word)
                )
            })
        })
        .collect()
}

fn ports(value: Option<&Value>) -> Result<BTreeSet<u16>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(BTreeSet::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    list.iter()
        .map(|port| {
            as_number(port)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| {
                    "The parameter tcp_ports is a list of ports from 1 to 65535.".to_owned()
                })
        })
        .collect()
}

/// `[parameters.owners.NAME]`, each with hosts, paths and ports.
fn owners(value: Option<&Value>) -> Result<Vec<Owner>, String> {
    let wrong = || {
        "The parameter owners has a table for each service, or for the beginning of names with `*` behind it: [parameters.owners.NAME] with lists of hosts, paths and ports.".to_owned()
    };
    let entries = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(wrong()),
    };
    // Hosts and paths are written as in tags.
    let claim = |text: String| match Source::parse(&text, "") {
        Ok(Source::Http { host, path }) => Ok((host, path)),
        Ok(_) => Err(wrong()),
        Err(fault) => Err(format!(
            "`{text}` in the parameter owners cannot be used because {fault}."
        )),
    };
    let owner = |(service, entry): (&String, &Value)| {
        let mut owner = Owner {
            service: service.clone(),
            ..Owner::default()
        };
        for (key, value) in entry.as_object().ok_or_else(wrong)? {
            let list = match value {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let texts = list.iter().map(|one| one.as_str().map(str::to_owned));
            match key.as_str() {
                "hosts" => {
                    for host in texts {
                        let host = host.filter(|host| !host.contains('/')).ok_or_else(wrong)?;
                        owner.hosts.insert(claim(host + "/")?.0);
                    }
                }
                "paths" => {
                    for path in texts {
                        let path = path.filter(|path| path.starts_with('/'));
                        owner.paths.insert(claim(path.ok_or_else(wrong)?)?.1);
                    }
                }
                "ports" => owner.ports = ports(Some(value)).map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(owner)
    };
    entries.iter().map(owner).collect()
}

fn sentence(item: &Item, joint: &str, end: &str) -> String {
    format!("{}{joint}{}{end}", item.what, item.text)
}

/// A part of a table by its name.
fn part(Made { table, layout }: &Made, rules: &Rules, name: &str) -> Option<Value> {
    let entries = |list: &[(String, String)]| -> Value {
        list.iter()
            .map(|(key, backend)| json!({ "key": key, "backend": backend }))
            .collect()
    };
    let items = |list: &[Item], joint: &str, end: &str| -> Value {
        list.iter()
            .map(|item| {
                json!({ "what": item.what, "text": item.text, "sentence": sentence(item, joint, end) })
            })
            .collect()
    };
    Some(match name {
        "http" => entries(&layout.http),
        "sni" => entries(&layout.sni),
        "sniSplits" => splits(&layout.sni_splits),
        "splits" => splits(&layout.splits),
        "listeners" => layout
            .listeners
            .iter()
            .map(|one| json!({ "port": one.port, "backend": one.backend, "splits": splits(&one.splits) }))
            .collect(),
        "backends" => layout
            .backends
            .iter()
            .map(|(name, one)| backend(name, one, rules))
            .collect(),
        "routes" => table.routes.iter().map(route).collect(),
        "refused" => items(&table.refused, " is left out because ", "."),
        "notes" => items(&table.notes, ": ", ""),
        _ => return None,
    })
}

fn splits(list: &[Split]) -> Value {
    list.iter()
        .map(|one| json!({ "from": one.from, "to": one.to, "part": one.part }))
        .collect()
}

fn route(route: &Route) -> Value {
    let (host, path, port) = match &route.source {
        Source::Http { host, path } => (host.as_str(), path.as_str(), 0),
        Source::Sni { host } => (host.as_str(), "", 0),
        Source::Tcp { port } => ("", "", *port),
    };
    let targets: Value = route
        .targets
        .iter()
        .map(|one| {
            json!({
                "service": one.service, "node": one.node, "id": one.id, "address": one.address,
                "port": one.port, "up": one.up, "weight": one.weight, "share": one.share,
                "options": one.options.to_string(), "tags": *one.tags,
            })
        })
        .collect();
    json!({ "source": route.source.to_string(), "host": host, "path": path, "port": port, "targets": targets })
}

fn backend(name: &str, one: &Backend, rules: &Rules) -> Value {
    let options = &one.options;
    let identities: Vec<(&str, &str)> = one
        .servers
        .iter()
        .map(|(target, _)| (target.node.as_str(), target.id.as_str()))
        .collect();
    let servers: Value = one
        .servers
        .iter()
        .zip(server_ids(&identities))
        .map(|((target, weight), id)| {
            json!({
                "Node": target.node, "ID": target.id, "Address": target.address,
                "Port": target.port, "Weight": weight, SERVER_ID: id,
            })
        })
        .collect();
    let access = &options.access;
    let list = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    let auth: Value = access
        .auth
        .iter()
        .map(|name| json!({ "name": name, "known": rules.users.contains(name) }))
        .collect();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    json!({
        "name": name,
        "services": one.services.iter().cloned().collect::<Vec<String>>().join(", "),
        "tcp": options.protocol == Protocol::Tcp,
        "tls": matches!(options.protocol, Protocol::Https | Protocol::Grpcs),
        "h2": matches!(options.protocol, Protocol::Grpc | Protocol::Grpcs),
        "verify": options.is_verified(),
        "serverName": text(&options.server_name),
        "sendProxy": options.proxy_protocol,
        "strip": text(&options.strip),
        "prepend": text(&options.prepend),
        "host": host(options, one),
        "redirectCode": options.redirect.as_ref().map_or(0, |redirect| redirect.code),
        "redirect": options.redirect.as_ref().map(parts).unwrap_or_default(),
        "closed": access.is_closed(),
        "allow": list(access.allow.as_deref().unwrap_or_default()),
        "deny": list(&access.deny),
        "auth": auth,
        "servers": servers,
    })
}

fn host(options: &Options, one: &Backend) -> String {
    match (&options.host, one.servers.first()) {
        (None, _) | (Some(HostHeader::Target), None) => String::new(),
        (Some(HostHeader::Name(name)), _) => name.clone(),
        (Some(HostHeader::Target), Some((target, _))) if target.address.contains(':') => {
            format!("[{}]:{}", target.address, target.port)
        }
        (Some(HostHeader::Target), Some((target, _))) => {
            format!("{}:{}", target.address, target.port)
        }
    }
}

/// The address of a redirection in parts: texts, and what is taken from the request. The query is kept
/// where the address ends with the path, as in Fabio.
fn parts(redirect: &Redirect) -> Vec<Value> {
    let url = redirect.url.replacen("/$path", "$path", 1);
    let mut parts = Vec::new();
    let mut push = |kind: &str, text: &str| {
        if kind != "text" || !text.is_empty() {
            parts.push(json!({ "kind": kind, "text": text }));
        }
    };
    let mut rest = url.as_str();
    while let Some(at) = rest.find('$') {
        push("text", &rest[..at]);
        let after = &rest[at + 1..];
        if let Some(end) = after.strip_prefix("path") {
            push(if end.is_empty() { "pathq" } else { "path" }, "");
            rest = end;
        } else if let Some(end) = after.strip_prefix("host") {
            push("host", "");
            rest = end;
        } else {
            push("text", "$");
            rest = after;
        }
    }
    push("text", rest);
    parts
}

//! `{{#with (routes)}}`: the route table of all services' tags, as values for a template.
//!
//! It asks for the names of all services, then for the instances of those that have a tag of a route,
//! and for the keys with lines. What is not known yet is noted all at once, as with any other query.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::{Value, json};

use super::super::answers::{SERVER_ID, Slot};
use super::super::engine::PARAMETERS;
use super::super::names::{backend_name, server_ids, server_name};
use super::super::recorder::Recorder;
use super::{as_number, as_text, failed, refuse_missing};
use crate::catalog::{HealthFilter, Instance, Kind, Query, Scope, Status};
use crate::routes::layout::{Backend, Layout, Split, lay_out, literal};
use crate::routes::{
    Access, HostHeader, Item, Options, Protocol, Redirect, Route, Rules, Source, Table, overrides,
    table, tag,
};

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
        let rules = Rules {
            prefix: text("prefix", "tag_prefix", tag::PREFIX)?,
            states: states(&text("status", "route_status", "passing")?).map_err(failed)?,
            ports: ports(parameter("tcp_ports")).map_err(failed)?,
            sni: parameter("sni_listen").is_some_and(|value| value.as_str() != Some("")),
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
        let table = self.table(&rules, &text("overrides", "overrides", "fabio/config")?);
        for refused in &table.refused {
            self.recorder.refuse(&refused.what, &refused.text);
        }
        for note in &table.notes {
            self.recorder.note("route", sentence(note, ": ", ""));
        }
        let name = |service: &str, special: Option<&str>| match special {
            None => backend_name(service),
            // With a slash, a colon or a sign in it, which no plain name has.
            Some(special) => server_name(service, special),
        };
        let layout = lay_out(&table, &rules.ports, name);
        Ok(ScopedJson::Derived(value(&table, &layout, &rules)))
    }
}

impl RoutesHelper {
    fn table(&self, rules: &Rules, overrides: &str) -> Table {
        let listed = |tags: &Value| {
            let mut tags = tags.as_array().into_iter().flatten();
            tags.any(|tag| {
                let tag = tag.as_str().unwrap_or_default();
                tag.trim().starts_with(&rules.prefix)
            })
        };
        let services = self.ask(Kind::Services {
            node_meta: BTreeMap::new(),
            filter: None,
        });
        let services = services.map(|slot| slot.value()).unwrap_or_default();
        let names: Vec<String> = services
            .as_array()
            .into_iter()
            .flatten()
            .filter(|service| listed(&service["Tags"]))
            .filter_map(|service| service["Name"].as_str().map(str::to_owned))
            .collect();
        let known: Vec<Instance> = names
            .iter()
            .flat_map(|name| self.instances(name, rules))
            .collect();
        let instances = || known.iter();
        let datacenter = instances()
            .next()
            .map_or("", |one| one.node_datacenter.as_str());
        let lines: Vec<overrides::Line> = self
            .keys(overrides)
            .iter()
            .flat_map(|(key, text)| overrides::parse(key, text, datacenter))
            .collect();
        table::build(instances(), &lines, rules, |address, _| {
            self.recorder.address_fault(address)
        })
    }

    /// Every instance of a service. Which of them count is not read off their state but asked for by a query of
    /// its own: the guard keeps there what fails or vanishes in mass, and HAProxy's checks decide about it.
    fn instances(&self, service: &str, rules: &Rules) -> Vec<Instance> {
        let ask = |health: HealthFilter| {
            let slot = self.ask(Kind::Service {
                name: service.to_owned(),
                tag: None,
                connect: false,
                health,
                near: None,
                filter: None,
                node_meta: BTreeMap::new(),
            });
            let kept = |slot: Arc<Slot>| slot.kept_instances().cloned().collect::<Vec<_>>();
            slot.map(kept).unwrap_or_default()
        };
        let states: BTreeSet<Status> = rules.states.iter().copied().collect();
        let first = states.first().copied().unwrap_or(Status::Passing);
        let mut counting = ask(match states.iter().eq([&Status::Passing]) {
            true => HealthFilter::Passing,
            false => HealthFilter::Only(states.into_iter().collect()),
        });
        counting.iter_mut().for_each(|one| one.status = first);
        let counts: BTreeSet<(String, String)> = counting
            .iter()
            .map(|one| (one.node.clone(), one.id.clone()))
            .collect();
        let others = ask(HealthFilter::Any)
            .into_iter()
            .filter(|one| !counts.contains(&(one.node.clone(), one.id.clone())));
        let others = others.map(|mut one| {
            // The other answer may be newer, and it is the one that counts.
            let not_counting = [Status::Critical, Status::Maintenance, Status::Warning];
            let not_counting = not_counting
                .into_iter()
                .find(|status| !rules.states.contains(status));
            if rules.states.contains(&one.status) {
                one.status = not_counting.unwrap_or(one.status);
            }
            one
        });
        let mut all: Vec<Instance> = others.chain(counting.iter().cloned()).collect();
        all.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        all
    }

    /// The key and those below it, in their order.
    fn keys(&self, path: &str) -> Vec<(String, String)> {
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

    fn ask(&self, kind: Kind) -> Option<Arc<Slot>> {
        let query = Query {
            kind,
            scope: Scope::default(),
        };
        let found = self.recorder.look_up(&query, None, |_| false);
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
                    super::shorten(word)
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

fn sentence(item: &Item, joint: &str, end: &str) -> String {
    format!("{}{joint}{}{end}", item.what, item.text)
}

fn value(table: &Table, layout: &Layout, rules: &Rules) -> Value {
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
    let backends: Value = layout
        .backends
        .iter()
        .map(|(name, one)| backend(name, one, rules))
        .collect();
    let listeners: Value = layout
        .listeners
        .iter()
        .map(|one| json!({ "port": one.port, "backend": one.backend, "splits": splits(&one.splits) }))
        .collect();
    json!({
        "exact": entries(&layout.exact),
        "wild": entries(&layout.wild),
        "paths": entries(&layout.paths),
        "sni": entries(&layout.sni),
        "sniSplits": splits(&layout.sni_splits),
        "splits": splits(&layout.splits),
        "listeners": listeners,
        "backends": backends,
        "routes": table.routes.iter().map(route).collect::<Value>(),
        "refused": items(&table.refused, " is left out because ", "."),
        "notes": items(&table.notes, ": ", ""),
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
                "options": one.options.to_string(), "tags": one.tags,
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
    let list = |wanted: bool| -> Vec<String> {
        match &options.access {
            Access::Allow(networks) if wanted => networks.iter().map(ToString::to_string).collect(),
            Access::Deny(networks) if !wanted => networks.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let auth = text(&options.auth);
    json!({
        "name": name,
        "services": one.services.iter().cloned().collect::<Vec<String>>().join(", "),
        "tcp": options.protocol == Protocol::Tcp,
        "tls": matches!(options.protocol, Protocol::Https | Protocol::Grpcs),
        "h2": matches!(options.protocol, Protocol::Grpc | Protocol::Grpcs),
        "verify": !options.skip_verify,
        "serverName": text(&options.server_name),
        "sendProxy": options.proxy_protocol,
        "strip": text(&options.strip),
        "stripPattern": options.strip.as_deref().map(literal).unwrap_or_default(),
        "prepend": text(&options.prepend),
        "host": host(options, one),
        "redirectCode": options.redirect.as_ref().map_or(0, |redirect| redirect.code),
        "redirect": options.redirect.as_ref().map(parts).unwrap_or_default(),
        "closed": options.access == Access::Closed,
        "allow": list(true),
        "deny": list(false),
        "userlist": if rules.users.contains(&auth) { auth.clone() } else { String::new() },
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

//! The route table: from instances with their tags, and from lines, to routes in the order in which they
//! are tried, with the share of each target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::{self, Share};
use super::overrides::{Add, Command, Line, Select};
use super::tag::{self, Request};
use super::weights::shares;
use super::{Options, Owner, Source, owners, sharing};
use crate::catalog::{Instance, Status};

/// How the table is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// How a tag begins that is a route.
    pub prefix: String,
    /// The states in which an instance is given requests.
    pub states: Vec<Status>,
    /// The TCP ports that routes may use.
    pub ports: BTreeSet<u16>,
    /// Whether TLS connections are listened for that are passed through by their name.
    pub sni: bool,
    /// The lists of users that there are.
    pub users: BTreeSet<String>,
    /// Which service may claim what.
    pub owners: Vec<Owner>,
    /// Whether there are certificates by which those of targets can be checked.
    pub verifies: bool,
    /// The port that is left out of requests' hosts; without one, any is.
    pub ignored_port: Option<u16>,
}

/// All routes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// In the order in which they are tried.
    pub routes: Vec<Route>,
    /// What is left out.
    pub refused: Vec<Item>,
    /// What is used and odd.
    pub notes: Vec<Item>,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is about, to begin a sentence: a tag of an instance, a line of a key.
    pub what: String,
    /// A sentence; of what is refused, the end of one, to follow "because".
    pub text: String,
}

/// One source and where it leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// What comes in.
    pub source: Source,
    /// By service, node and id; also those that get nothing because of their state.
    pub targets: Vec<Arc<Target>>,
}

/// One instance in one route.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its service.
    pub service: String,
    /// Its node.
    pub node: String,
    /// Its id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Whether it gets requests at all.
    pub up: bool,
    /// The share that is fixed for it.
    pub weight: Option<f64>,
    /// The share it gets of the route's requests, from 0 to 1.
    pub share: f64,
    /// The route's options for it.
    pub options: Options,
    /// Its other tags.
    pub tags: Arc<[String]>,
}

/// The node of targets that a line adds.
const ADDED: &str = "override";

/// Makes the table of instances, each with whether it gets requests. `fault` says what is wrong with an address
/// that a line names, to follow "because".
pub fn build<'a>(
    instances: impl IntoIterator<Item = (&'a Instance, bool)>,
    lines: &[Line],
    rules: &Rules,
    fault: impl Fn(&str, u16) -> Option<String>,
) -> Table {
    let mut making = Making {
        rules,
        routes: BTreeMap::new(),
        share: None,
        table: Table::default(),
    };
    let mut instances: Vec<(&Instance, bool)> = instances.into_iter().collect();
    // Consul gives `WEB` in the answer about `web`, too.
    instances.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    for service in instances.chunk_by(|(one, _), (other, _)| one.name == other.name) {
        making.service(service);
    }
    for line in lines {
        let outcome = match &line.command {
            Ok(command) => making.command(command, &|| line.what(), &fault),
            Err(reason) => Err(reason.clone()),
        };
        if let Err(reason) = outcome {
            making.refuse(line.what(), reason);
        }
    }
    making.finish()
}

/// A text in a sentence: short and without control characters.
pub fn shown(text: &str) -> String {
    crate::text::shown(text, 80)
}

struct Making<'a> {
    rules: &'a Rules,
    routes: BTreeMap<Source, Targets>,
    /// That of the service whose instances are being read. Lines have no limit of their own.
    share: Option<Share>,
    table: Table,
}

/// The targets of one route.
#[derive(Default)]
struct Targets {
    list: Vec<Target>,
    /// The place in the list of each target that others may be the same as.
    places: BTreeMap<Sameness, usize>,
}

/// What two targets of one route share that are the same one: service, address, port, and whether it redirects.
type Sameness = (String, String, u16, bool);

impl Targets {
    fn same(&mut self, target: &Target) -> Option<&mut Target> {
        self.list.get_mut(*self.places.get(&sameness(target))?)
    }

    fn push(&mut self, target: Target) {
        self.places.insert(sameness(&target), self.list.len());
        self.list.push(target);
    }

    fn retain(&mut self, keep: impl FnMut(&Target) -> bool) {
        self.list.retain(keep);
        let targets = self.list.iter().enumerate();
        self.places = targets.map(|(place, one)| (sameness(one), place)).collect();
    }
}

fn sameness(one: &Target) -> Sameness {
    let redirects = one.options.redirect.is_some();
    (
        one.service.clone(),
        one.address.clone(),
        one.port,
        redirects,
    )
}

impl Making<'_> {
    /// All instances of one service.
    fn service(&mut self, instances: &[(&Instance, bool)]) {
        let Some((first, _)) = instances.first() else {
            return;
        };
        let is_crowded = limits::is_crowded(instances, &self.rules.prefix);
        self.share = Some(Share::new(is_crowded));
        // Rules of access have to fit; what is open comes with the room that they leave.
        let rounds: &[fn(&str) -> bool] = match is_crowded {
            true => &[limits::is_ruled, |tag| !limits::is_ruled(tag)],
            false => &[|_| true],
        };
        for takes in rounds {
            for (one, up) in instances {
                self.instance(one, *up, takes);
            }
        }
        let share = self.share.take().unwrap_or_default();
        self.table.refused.extend(share.refused(&first.name));
        if share.is_closed() {
            for targets in self.routes.values_mut() {
                let own = targets.list.iter_mut();
                own.filter(|target| target.service == first.name)
                    .for_each(|target| target.options.access.close());
            }
        }
    }

    fn instance(&mut self, one: &Instance, up: bool, takes: &fn(&str) -> bool) {
        let prefix = self.rules.prefix.as_str();
        let is_route = |tag: &&String| tag.trim().starts_with(prefix);
        let others = one.tags.iter().filter(|tag| !is_route(tag)).cloned();
        let others: Arc<[String]> = others.collect();
        let routes = one.tags.iter().filter(is_route);
        for (place, tag) in routes.filter(|tag| takes(tag.as_str())).enumerate() {
            if let Some(share) = &mut self.share
                && !share.reads(place, tag)
            {
                continue;
            }
            let what = || {
                format!(
                    "Tag `{}` of instance {} on node {}",
                    shown(tag),
                    shown(&one.id),
                    shown(&one.node.name)
                )
            };
            let outcome = match tag::parse(tag, prefix, &one.node.datacenter) {
                None => continue,
                Some(Ok(request)) => self.target(one, up, request, &others, &what),
                Some(Err(reason)) => Err(reason),
            };
            if let Err(reason) = outcome {
                self.refuse(what(), reason);
            }
        }
    }

    fn target(
        &mut self,
        one: &Instance,
        up: bool,
        request: Request,
        tags: &Arc<[String]>,
        what: &dyn Fn() -> String,
    ) -> Result<(), String> {
        let port = u16::try_from(one.port).map_err(|_| "its port is none".to_owned())?;
        let target = Target {
            service: one.name.clone(),
            node: one.node.name.clone(),
            id: one.id.clone(),
            address: one.address.clone(),
            port,
            up,
            weight: request.weight,
            share: 0.0,
            options: request.options,
            tags: Arc::clone(tags),
        };
        self.insert(request.source, target, request.notes, what)
    }

    fn insert(
        &mut self,
        source: Source,
        mut target: Target,
        notes: Vec<String>,
        what: &dyn Fn() -> String,
    ) -> Result<(), String> {
        if let Source::Tcp { port } = source
            && !self.rules.ports.contains(&port)
        {
            return Err(format!(
                "the parameter tcp_ports does not name the port {port}"
            ));
        }
        if matches!(source, Source::Sni { .. }) && !self.rules.sni {
            return Err("the parameter sni_listen names no address for TLS connections that are passed through".to_owned());
        }
        if target.options.is_verified() && !self.rules.verifies {
            if target.options.access.is_open() {
                return Err("the parameter upstream_ca names no file of certificates by which its own could be checked".to_owned());
            }
            // A route with rules that is left out would open its requests to a less exact one.
            target.options.access.close();
            target.options.skip_verify = true;
        }
        if let Some(reason) = owners::fault(&self.rules.owners, &target.service, &source) {
            return Err(reason);
        }
        let same = self
            .routes
            .get_mut(&source)
            .and_then(|known| known.same(&target));
        if let Some(other) = same {
            // Two registrations of one process: an old one may not have ended.
            other.up |= target.up;
            // Fabio drops the second one too, without a word.
            if other.options == target.options {
                return Ok(());
            }
            match self.share.as_mut().is_none_or(Share::joins_rules) {
                true => other.options.access = other.options.access.and(&target.options.access),
                false => other.options.access.close(),
            }
            return Err(format!(
                "the same target has the route {source} already, with other options; of these only the rules of access count"
            ));
        }
        for auth in target.options.access.auth.difference(&self.rules.users) {
            self.note(
                what(),
                format!("There is no list of users `{auth}`, so it answers 401 to everybody. Name it in [parameters.auth.{auth}]."),
            );
        }
        for note in notes {
            self.note(what(), note);
        }
        if let Source::Http { host, .. } = &source
            && let Some((name, port)) = host.split_once(':')
            && self
                .rules
                .ignored_port
                .is_none_or(|own| port.parse() == Ok(own))
        {
            self.note(
                what(),
                format!("Port {port} is left out of the hosts of requests, so no request comes to it. Write `{name}` without the port."),
            );
        }
        if let Some(share) = &mut self.share
            && !share.admits(&source, &target)
        {
            return Ok(());
        }
        self.routes.entry(source).or_default().push(target);
        Ok(())
    }

    fn command(
        &mut self,
        command: &Command,
        what: &dyn Fn() -> String,
        fault: &impl Fn(&str, u16) -> Option<String>,
    ) -> Result<(), String> {
        match command {
            Command::Add(add) => self.add(add, what, fault),
            Command::Delete(select) => {
                let mut found = false;
                for (source, targets) in &mut self.routes {
                    targets.retain(|target| {
                        let gone = select.fits(source, target);
                        found |= gone;
                        !gone
                    });
                }
                self.routes.retain(|_, targets| !targets.list.is_empty());
                found.then_some(()).ok_or_else(nothing)
            }
            Command::Weigh(select, weight) => {
                let mut found = Vec::new();
                for (source, targets) in &mut self.routes {
                    found.extend(
                        targets
                            .list
                            .iter_mut()
                            .filter(|target| select.fits(source, target)),
                    );
                }
                // Those that get nothing now must not keep a part of it.
                let count = found.iter().filter(|target| target.up).count().max(1);
                let each = Some(weight / count as f64).filter(|weight| *weight > 0.0);
                if found.is_empty() {
                    return Err(nothing());
                }
                for target in found {
                    target.weight = each;
                }
                Ok(())
            }
        }
    }

    fn add(
        &mut self,
        add: &Add,
        what: &dyn Fn() -> String,
        fault: &impl Fn(&str, u16) -> Option<String>,
    ) -> Result<(), String> {
        let redirects = add.request.options.redirect.is_some();
        let fault = fault(&add.address, add.port).filter(|_| !redirects);
        let mut options = add.request.options.clone();
        match &fault {
            None => {}
            // A route with rules that is left out would open its requests to a less exact one.
            Some(reason) if !options.access.is_open() => {
                options.access.close();
                let text = format!("It answers 403 to everybody because {reason}.");
                self.note(what(), text);
            }
            Some(reason) => return Err(reason.clone()),
        }
        let target = Target {
            service: add.service.clone(),
            node: ADDED.to_owned(),
            id: format!("{} {}:{}", add.service, add.address, add.port),
            address: add.address.clone(),
            port: add.port,
            up: fault.is_none(),
            weight: add.request.weight,
            share: 0.0,
            options,
            tags: add.tags.clone().into(),
        };
        let notes = add.request.notes.clone();
        self.insert(add.request.source.clone(), target, notes, what)
    }

    fn refuse(&mut self, what: String, reason: String) {
        if self.share.as_mut().is_none_or(Share::names) {
            self.table.refused.push(Item { what, text: reason });
        }
    }

    fn note(&mut self, what: String, text: String) {
        if self.share.as_mut().is_none_or(Share::names) {
            self.table.notes.push(Item { what, text });
        }
    }

    fn finish(mut self) -> Table {
        for (source, Targets { list, .. }) in self.routes {
            let mut targets = list;
            targets.sort_by(|one, two| one.key().cmp(&two.key()));
            let up = targets.iter().filter(|target| target.up);
            let fixed: Vec<Option<f64>> = up.map(|target| target.weight).collect();
            let up = targets.iter_mut().filter(|target| target.up);
            for (target, share) in up.zip(shares(&fixed)) {
                target.share = share;
            }
            let told = sharing::shared(&source, &targets, &self.rules.owners);
            self.table.notes.extend(told);
            sharing::protect(&mut targets);
            let targets = targets.into_iter().map(Arc::new).collect();
            self.table.routes.push(Route { source, targets });
        }
        let told = sharing::taken(&self.table.routes, &self.rules.owners);
        self.table.notes.extend(told);
        self.table
    }
}

impl Target {
    fn key(&self) -> (&str, &str, &str) {
        (&self.service, &self.node, &self.id)
    }
}

fn nothing() -> String {
    "it fits no target".to_owned()
}

impl Select {
    fn fits(&self, source: &Source, target: &Target) -> bool {
        let place = |(address, port): &(String, u16)| {
            (address.as_str(), *port) == (target.address.as_str(), target.port)
        };
        self.service
            .as_ref()
            .is_none_or(|service| *service == target.service)
            && self.source.as_ref().is_none_or(|wanted| wanted == source)
            && self.target.as_ref().is_none_or(place)
            && self.tags.iter().all(|tag| target.tags.contains(tag))
    }
}

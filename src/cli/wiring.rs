//! From settings to the parts that do the work.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::agent::core::Timing;
use crate::agent::run::Parts;
use crate::apply::execute::{Applier, ApplyError, Options as ApplyOptions};
use crate::apply::gate::Rules;
use crate::apply::plan::{self, Policy};
use crate::apply::set::{Candidate, Role, SetFile};
use crate::apply::verdict::Drain;
use crate::apply::{target, tell};
use crate::catalog::fitness::Fitness;
use crate::catalog::{Query, guard};
use crate::diagnostic::{Diagnostic, Place};
use crate::exit;
use crate::haproxy::process::is_handed_on;
use crate::settings::model::{GuardedService, Template};
use crate::settings::{
    DEFAULT_MASTER_SOCKET, Environment, HandWeights, Kind, Mode, NewServers, Settings,
};
use crate::source::Secret;
use crate::source::consul::{
    self as consul_source, Consul, Options as ConsulOptions, TlsOptions, TokenSource,
};
use crate::source::file::CatalogFile;
use crate::source::serf::members::Mapping;
use crate::source::serf::{self, Key, Options as SerfOptions, Serf};
use crate::source::{self, Origin};
use crate::status::http::Listen;
use crate::template::{
    self, Grammar, NO_TEMPLATES, Source, TemplateSet, Texts, shipped, shipped_names,
    shipped_partials,
};
use crate::text;

use super::{Failure, own, place};

/// Names a template that comes with the program.
const SHIPPED: &str = "shipped:";

/// Everything the sidecar needs.
pub fn parts(
    settings: Settings,
    environment: Environment,
    file: Option<&Path>,
) -> Result<Parts, Failure> {
    let source = source(&settings)?;
    let mode = resolve_mode(&settings);
    let warnings = super::warnings::standing(&settings, &environment, file);
    let template_files = settings
        .template
        .iter()
        .filter(|template| shipped_name(&template.source).is_none())
        .map(|template| template.source.clone())
        .chain(settings.templates.partials.clone())
        .collect();
    let timing = timing(&settings);
    let listen = listen(&settings);
    let source_identity = identity(&settings);
    let settings = Arc::new(settings);
    let environment = Arc::new(environment);
    let load = {
        let (settings, environment) = (Arc::clone(&settings), Arc::clone(&environment));
        move || load_templates(&settings, &environment)
    };
    let compile = {
        let (settings, environment) = (Arc::clone(&settings), Arc::clone(&environment));
        move |texts| compile(&settings, &environment, texts)
    };
    let make = {
        let settings = Arc::clone(&settings);
        move |texts| candidate(&settings, texts)
    };
    let open = {
        let (settings, environment) = (Arc::clone(&settings), Arc::clone(&environment));
        move || open_applier(&settings, &environment).map_err(|error| error.to_string())
    };
    let (guard, gate, state_directory) = (
        guard_rules(&settings),
        rules(&settings),
        settings.state_directory(&environment),
    );
    Ok(Parts {
        source,
        source_identity,
        timing,
        load_templates: Arc::new(load),
        compile: Arc::new(compile),
        make_set: Arc::new(make),
        open_applier: Arc::new(open),
        template_files,
        settings_file: file.map(Path::to_owned),
        guard,
        gate,
        state_directory,
        mode: mode_word(mode).to_owned(),
        supervised: mode == Mode::Supervise,
        warnings,
        listen,
    })
}

/// Where the status is served by HTTP.
pub fn listen(settings: &Settings) -> Option<Listen> {
    Some(Listen {
        address: settings.status.listen?.0,
        hosts: settings.status.hosts.clone(),
    })
}

/// What the source was made from; secrets as a hash, so that a new token is noticed.
fn identity(settings: &Settings) -> String {
    let consul = &settings.consul;
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let serf = &settings.serf;
    for secret in [&consul.token, &consul.http_auth, &serf.auth_key] {
        let text = secret.as_ref().map_or("", |secret| secret.reveal());
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let catalog = (settings.catalog.source, &settings.catalog.file);
    format!("{consul:?} {serf:?} {catalog:?} {:?}", hash.finish())
}

fn timing(settings: &Settings) -> Timing {
    Timing {
        settle: settings.apply.settle.0,
        max_settle: settings.apply.max_settle.0,
        reload_interval: settings.apply.reload_interval.0,
        compare_interval: settings.apply.compare_interval.0,
        tells: resolve_mode(settings) != Mode::None,
        max_rounds: settings.catalog.max_discovery_rounds,
    }
}

/// What the guard lets go, and for how long it keeps the rest.
fn guard_rules(settings: &Settings) -> guard::Rules {
    let from = &settings.guard;
    let rule = |service: &GuardedService| guard::Rule {
        max_loss: service.max_loss.unwrap_or(from.max_loss).0,
        window: service.window.unwrap_or(from.window).0,
        min_instances: service.min_instances.unwrap_or(from.min_instances),
        hold: service.hold.unwrap_or(from.hold).time(),
        hold_last: service.hold_last.unwrap_or(from.hold_last).time(),
    };
    guard::Rules {
        enabled: from.enabled,
        default: rule(&GuardedService::default()),
        services: from
            .services
            .iter()
            .map(|(name, service)| (name.clone(), rule(service)))
            .collect(),
        // Serf has no rights that could be lost.
        canary: match settings.catalog.source {
            Origin::Consul => from.canary.clone(),
            Origin::Serf | Origin::File => String::new(),
        },
        overall_max_loss: from.overall_max_loss.0,
        fitness: fitness(settings, &own::local_addresses()),
    }
}

/// Which instances are let through on a machine with these addresses.
fn fitness(settings: &Settings, local: &BTreeSet<IpAddr>) -> Fitness {
    let from = &settings.catalog;
    Fitness {
        host_names: from.allow_host_names,
        allow: from.allow_addresses.clone(),
        deny: from.deny_addresses.clone(),
        loopback: (!from.allow_loopback).then(|| local.clone()),
    }
}

// The source.

/// The catalog that the settings name.
pub fn source(settings: &Settings) -> Result<source::Source, Failure> {
    Ok(match settings.catalog.source {
        Origin::Consul => source::Source::Consul(consul(settings)?),
        Origin::Serf => source::Source::Serf(serf(settings)),
        Origin::File => {
            let path = settings.catalog.file.clone().unwrap_or_default();
            source::Source::File(CatalogFile::new(path))
        }
    })
}

/// Where it is, for people.
pub fn source_place(settings: &Settings) -> String {
    match settings.catalog.source {
        Origin::Consul => settings.consul.addresses.join(", "),
        Origin::Serf => settings.serf.addresses.join(", "),
        Origin::File => {
            let file = settings.catalog.file.as_deref();
            file.map(|path| path.display().to_string())
                .unwrap_or_default()
        }
    }
}

fn serf(settings: &Settings) -> Serf {
    let from = &settings.serf;
    Serf::new(SerfOptions {
        addresses: from.addresses.clone(),
        key: match (&from.auth_key_file, &from.auth_key) {
            (Some(file), _) => Key::File(file.clone()),
            (None, Some(key)) => Key::Value(Secret::new(key.reveal().to_owned())),
            (None, None) => Key::None,
        },
        mapping: Mapping {
            failed: from.failed,
            ..from.tags.clone()
        },
        read_interval: from.read_interval.0,
        timeout: from.timeout.0,
        max_answer: from.max_answer.0,
    })
}

fn consul(settings: &Settings) -> Result<Consul, Failure> {
    let wrong = |error: String| {
        Failure::one(
            exit::SETTINGS,
            Diagnostic::error("consul", error).help("Correct the section [consul] of the settings, its flags or its environment variables."),
        )
    };
    let from = &settings.consul;
    let addresses: Result<Vec<_>, _> = from
        .addresses
        .iter()
        .map(|address| address.parse())
        .collect();
    let token = match (&from.token_file, &from.token) {
        (Some(file), _) => TokenSource::File(file.clone()),
        (None, Some(token)) => TokenSource::Value(Secret::new(token.reveal().to_owned())),
        (None, None) => TokenSource::None,
    };
    let http_auth = from.http_auth.as_ref().map(|auth| {
        let (user, password) = auth.reveal().split_once(':').unwrap_or((auth.reveal(), ""));
        (user.to_owned(), Secret::new(password.to_owned()))
    });
    let options = ConsulOptions {
        addresses: addresses
            .map_err(|error: crate::source::consul::ConsulError| wrong(error.to_string()))?,
        token,
        http_auth,
        datacenter: from.datacenter.clone(),
        namespace: from.namespace.clone(),
        partition: from.partition.clone(),
        stale: from.stale,
        max_stale: from.max_stale.0,
        wait: from.wait.0,
        connect_timeout: from.connect_timeout.0,
        body_timeout: from.body_timeout.0,
        max_body_bytes: from.max_answer.0,
        max_connections: from.max_connections,
        poll_interval: from.poll_interval.0,
        tls: TlsOptions {
            ca_file: from.tls.ca_file.clone(),
            ca_path: from.tls.ca_path.clone(),
            client_cert: from.tls.client_cert.clone(),
            client_key: from.tls.client_key.clone(),
            server_name: from.tls.server_name.clone(),
            insecure_skip_verify: from.tls.insecure_skip_verify,
        },
        ..ConsulOptions::default()
    };
    Consul::new(options).map_err(|error| wrong(error.to_string()))
}

// Templates.

fn shipped_name(source: &Path) -> Option<&str> {
    source.to_str()?.strip_prefix(SHIPPED)
}

/// Reads and compiles the templates and partials as they are now.
pub fn load_templates(
    settings: &Settings,
    environment: &Environment,
) -> Result<(TemplateSet, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut templates = Vec::new();
    // What is larger than a template may be is told with the others of its kind, once it is read.
    let limit = text::WRITTEN.max(settings.templates.max_template.0 as u64);
    for template in &settings.template {
        let text = match shipped_name(&template.source) {
            Some(name) => shipped(name).map(str::to_owned).ok_or_else(|| {
                let known: Vec<&str> = shipped_names().collect();
                Diagnostic::error(
                    "unknown-template",
                    format!("There is no shipped template `{name}`."),
                )
                .help(format!("Shipped are: {}.", known.join(", ")))
            }),
            None => read_template(&template.source, limit),
        };
        match text {
            Ok(text) => templates.push(Source {
                name: template.source.to_string_lossy().into_owned(),
                path: template.source.clone(),
                text,
                grammar: match template.kind {
                    Kind::Config => Grammar::Haproxy,
                    Kind::Map => Grammar::Map,
                    Kind::CrtList => Grammar::CrtList,
                    Kind::Other => Grammar::Plain,
                },
            }),
            Err(error) => errors.push(error),
        }
    }
    let mut partials = BTreeMap::new();
    for partial in shipped_partials() {
        partials.insert(partial.name.clone(), partial);
    }
    if let Some(folder) = &settings.templates.partials {
        match read_partials(folder, limit) {
            Ok(own) => partials.extend(
                own.into_iter()
                    .map(|partial| (partial.name.clone(), partial)),
            ),
            Err(more) => errors.extend(more),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let partials = partials.into_values().collect();
    let (mut set, warnings) =
        TemplateSet::load(templates, partials, template_options(settings, environment))?;
    let errors = match settings.catalog.source {
        Origin::Serf => unanswerable(
            &mut set,
            serf::unanswerable,
            "Take it out, or write a parameter ([parameters]) or a member's tag instead; Consul answers it.",
        ),
        Origin::Consul => unanswerable(
            &mut set,
            consul_source::unaskable,
            "Correct the name or the path.",
        ),
        Origin::File => Vec::new(),
    };
    if errors.is_empty() {
        Ok((set, warnings))
    } else {
        Err(errors)
    }
}

/// Compiles the templates of a former set, as the settings are now.
fn compile(
    settings: &Settings,
    environment: &Environment,
    texts: Texts,
) -> Result<TemplateSet, Vec<Diagnostic>> {
    let options = template_options(settings, environment);
    if texts.destinations != options.destinations {
        let message = "the templates of the last good set make other files than the settings name";
        return Err(vec![Diagnostic::error(NO_TEMPLATES, message)]);
    }
    let (set, _) = TemplateSet::load(texts.templates, texts.partials, options)?;
    Ok(set)
}

/// What templates ask that the catalog has no answer to, as far as their text tells.
fn unanswerable(
    set: &mut TemplateSet,
    why: fn(&Query) -> Option<String>,
    help: &str,
) -> Vec<Diagnostic> {
    let queries: Vec<_> = set.literal_queries().iter().cloned().collect();
    let told = queries.iter().filter_map(|query| {
        let why = why(query)?;
        let diagnostic = Diagnostic::error(
            "unanswerable",
            format!("The template asks for {query}, and {why}."),
        )
        .help(help);
        Some(match set.asked_at(query) {
            Some(place) => diagnostic.at(place),
            None => diagnostic,
        })
    });
    told.collect()
}

fn read_template(path: &Path, limit: u64) -> Result<String, Diagnostic> {
    text::read(path, limit).map_err(|error| {
        Diagnostic::error(
            "unreadable",
            format!("The template cannot be read: {error}."),
        )
        .at(Place::file(path))
        .help("Name a regular file of UTF-8 text within templates.max_template.")
    })
}

fn read_partials(folder: &Path, limit: u64) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        Diagnostic::error(
            "unreadable",
            format!("The folder of partials cannot be read: {error}."),
        )
        .at(Place::file(folder))
        .help("Correct templates.partials or --partials.")
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| vec![unreadable(error)])? {
        let path = entry.map_err(|error| vec![unreadable(error)])?.path();
        if path.extension().is_some_and(|extension| extension == "hbs") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut errors = Vec::new();
    let mut partials = Vec::new();
    for path in paths {
        match read_template(&path, limit) {
            Ok(text) => partials.push(Source {
                name: path
                    .file_stem()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                path,
                text,
                grammar: Grammar::Haproxy,
            }),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(partials)
    } else {
        Err(errors)
    }
}

/// An error where the only template is a shipped one for services, and none is named.
pub fn says_what_to_render(settings: &Settings) -> Result<(), Failure> {
    let for_services =
        |template: &Template| matches!(shipped_name(&template.source), Some("http" | "tcp"));
    let services = settings.parameters.get("services");
    let named = services.is_some_and(|list| match list {
        toml::Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    if named || !settings.template.iter().all(for_services) {
        return Ok(());
    }
    Err(Failure::one(
        exit::SETTINGS,
        Diagnostic::error(
            "nothing-to-render",
            "Nothing says what to render: neither flags nor settings name a service or a template.",
        )
        .help("Name a service (--service), routes (--routes), a template (--template) or a settings file (--config). ./gatewright.toml and /etc/gatewright/gatewright.toml are found by themselves."),
    ))
}

pub fn template_options(settings: &Settings, environment: &Environment) -> template::Options {
    let from = &settings.templates;
    let mut parameters: serde_json::Map<_, _> = settings
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), json(value)))
        .collect();
    // Serf has no keys, so no lines of routes and no pages in them.
    if settings.catalog.source == Origin::Serf {
        for name in ["overrides", "noroute_key", "unavailable_key"] {
            parameters.entry(name).or_insert_with(|| "".into());
        }
    }
    // A HAProxy whose OpenSSL finds no store of its own would refuse `@system-ca`, and with it everybody's routes.
    parameters
        .entry("upstream_ca")
        .or_insert_with(|| own::authorities().unwrap_or_default().into());
    let local = own::local_addresses();
    template::Options {
        fitness: fitness(settings, &local),
        own_listeners: settings.catalog.allow_own_listeners,
        listens: own::listens(settings, &local),
        local_addresses: local,
        secrets: settings.capture.secrets.clone(),
        destinations: settings
            .template
            .iter()
            .map(|template| template.destination.clone())
            .collect(),
        raw: from.allow_raw,
        environment: from
            .environment
            .iter()
            .map(|name| (name.clone(), environment.get(name).cloned()))
            .collect(),
        files: from.files.clone(),
        parameters,
        max_template: from.max_template.0,
        max_output: from.max_output.0,
        timeout: from.timeout.0,
        ..template::Options::default()
    }
}

fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(truth) => (*truth).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), json(value)))
            .collect(),
    }
}

// Sets.

/// The set that a rendering makes.
pub fn set_of(settings: &Settings, rendering: &template::Rendering) -> Candidate {
    let mut set = candidate(settings, rendering.files.clone());
    set.origin.secrets = rendering.secrets.clone();
    set
}

/// The set that rendered texts make, one for each template.
pub fn candidate(settings: &Settings, texts: Vec<String>) -> Candidate {
    let files = settings
        .template
        .iter()
        .zip(texts)
        .map(|(template, text)| SetFile {
            destination: template.destination.clone(),
            role: role(template.kind),
            mode: template.mode.map(|mode| mode.0),
            text,
        });
    Candidate::new(files.collect())
}

fn role(kind: Kind) -> Role {
    match kind {
        Kind::Config => Role::Config,
        Kind::Map => Role::Map,
        Kind::CrtList => Role::CrtList,
        Kind::Other => Role::Other,
    }
}

/// What the gate asks of a set.
pub fn rules(settings: &Settings) -> Rules {
    Rules {
        min_servers: settings.gate.min_servers.clone(),
        require_servers_default: settings.gate.min_servers_default,
        allow_bind_loss: settings.gate.allow_bind_loss,
        strict_warnings: settings.gate.strict_warnings,
        complete: settings.haproxy.config_files.is_empty(),
        ..Rules::default()
    }
}

/// Whether files can be put where the settings name them. What lies in the state directory can: that one
/// is made when the locks are taken.
pub fn check_destinations(
    settings: &Settings,
    environment: &Environment,
) -> Result<(), ApplyError> {
    let state = settings.state_directory(environment);
    let mut elsewhere = settings
        .template
        .iter()
        .filter(|template| state.exists() || template.destination.parent() != Some(&state));
    elsewhere.try_for_each(|template| {
        target::check(&template.destination).map_err(ApplyError::Destination)
    })
}

/// Takes the locks and reads what is known.
pub fn open_applier(settings: &Settings, environment: &Environment) -> Result<Applier, ApplyError> {
    Applier::open(apply_options(settings, environment), rules(settings))
}

pub fn apply_options(settings: &Settings, environment: &Environment) -> ApplyOptions {
    let haproxy = &settings.haproxy;
    let state = settings.state_directory(environment);
    let destinations = settings
        .template
        .iter()
        .map(|template| (template.destination.clone(), role(template.kind)))
        .collect();
    let mode = match resolve_mode(settings) {
        Mode::Supervise => tell::Mode::Supervise {
            socket: haproxy
                .master_socket
                .clone()
                .unwrap_or_else(|| place::of_master_socket(&state)),
            stop_limit: haproxy.stop_timeout.0,
        },
        Mode::Signal => tell::Mode::Signal {
            pid_file: haproxy.pid_file.clone().unwrap_or_default(),
        },
        Mode::Command => tell::Mode::Command {
            argv: haproxy.command.iter().map(Into::into).collect(),
        },
        Mode::None => tell::Mode::None,
        Mode::Auto | Mode::Master => tell::Mode::Master {
            socket: haproxy
                .master_socket
                .clone()
                .unwrap_or_else(|| DEFAULT_MASTER_SOCKET.into()),
        },
    };
    ApplyOptions {
        keep: settings.state.keep,
        stats_socket: haproxy.stats_socket.clone(),
        flags: haproxy.arguments.iter().map(Into::into).collect(),
        extra_files: haproxy.config_files.clone(),
        environment: haproxy_environment(settings, environment),
        named_variables: haproxy
            .environment
            .iter()
            .map(|variable| variable.name.clone())
            .collect(),
        working_directory: haproxy.working_directory.clone(),
        validate_timeout: haproxy.validate_timeout.0,
        confirm_timeout: haproxy.confirm_timeout.0,
        command_timeout: haproxy.command_timeout.0,
        max_old_workers: haproxy.max_old_workers,
        commands: haproxy.commands,
        policy: Policy {
            new_servers: match haproxy.new_servers {
                NewServers::Up => plan::NewServers::Up,
                NewServers::Checked => plan::NewServers::Checked,
            },
            hand_weights: match haproxy.hand_weights {
                HandWeights::Keep => plan::HandWeights::Keep,
                HandWeights::TakeBack => plan::HandWeights::TakeBack,
            },
        },
        drain: Drain {
            time: haproxy.drain.time.0,
            shutdown_sessions: haproxy.drain.shutdown_sessions,
            backends: haproxy
                .drain
                .backends
                .iter()
                .map(|(name, time)| (name.clone(), time.0))
                .collect(),
        },
        audit_interval: settings.apply.audit_interval.0,
        ..ApplyOptions::new(state, destinations, mode, haproxy.binary.clone())
    }
}

/// What HAProxy gets of our environment: a value between double quotes could name any of it, so
/// only what says where it is, what is meant for it, and what the settings name.
pub fn haproxy_environment(
    settings: &Settings,
    environment: &Environment,
) -> BTreeMap<OsString, OsString> {
    const USUAL: &[&str] = &["PATH", "HOME", "HOSTNAME", "LANG", "TZ"];
    let passed_on = environment.iter().filter(|(name, _)| {
        USUAL.contains(&name.as_str()) || (name.starts_with("HAPROXY_") && !is_handed_on(name))
    });
    let named = settings.haproxy.environment.iter().filter_map(|variable| {
        let value = variable.value.as_ref();
        Some((
            &variable.name,
            value.or_else(|| environment.get(&variable.name))?,
        ))
    });
    passed_on
        .chain(named)
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// What `auto` means here: what is set, then what is there, then our own child.
pub fn resolve_mode(settings: &Settings) -> Mode {
    let haproxy = &settings.haproxy;
    match haproxy.mode {
        Mode::Auto if !haproxy.command.is_empty() => Mode::Command,
        Mode::Auto if haproxy.master_socket.is_some() => Mode::Master,
        Mode::Auto if haproxy.pid_file.is_some() => Mode::Signal,
        Mode::Auto if !own_template(settings) && Path::new(DEFAULT_MASTER_SOCKET).exists() => {
            Mode::Master
        }
        Mode::Auto => Mode::Supervise,
        mode => mode,
    }
}

/// With nothing but flags the result goes to a file of ours, which no HAProxy of the system loads.
fn own_template(settings: &Settings) -> bool {
    settings
        .template
        .iter()
        .all(|template| shipped_name(&template.source).is_some())
}

/// The word for a mode.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Supervise => "supervise",
        Mode::Master => "master",
        Mode::Signal => "signal",
        Mode::Command => "command",
        Mode::None => "none",
    }
}

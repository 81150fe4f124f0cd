//! What types alone cannot say of settings: ranges, keys that contradict each other, keys that
//! need another. Pure; every finding points at the key it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Place};
use crate::lint::Allowed;
use crate::source::Origin;

use super::error::{hide_environment, locate};
use super::model::{Kind, Mode, Settings};
use super::types::{Lasting, Time};

/// Looks at the settings as a whole. `source` is the text of the file at `path`, for places.
pub fn check(settings: &Settings, path: &Path, source: &str) -> Vec<Diagnostic> {
    let mut check = Check {
        path,
        source,
        found: Vec::new(),
    };
    check.consul(settings);
    check.source(settings);
    check.times(settings);
    check.templates(settings);
    check.environment(settings);
    check.haproxy(settings);
    check.guard(settings);
    check.status(settings);
    check.lints(settings);
    check.found
}

struct Check<'a> {
    path: &'a Path,
    source: &'a str,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn wrong(&mut self, keys: &[&str], code: &'static str, message: String, help: &str) {
        let place = match locate(self.source, keys) {
            Some(span) => {
                let mut place = Place::bytes(self.path, self.source, span.clone());
                hide_environment(self.source, span.start, &mut place);
                place
            }
            None => Place::file(self.path),
        };
        let diagnostic = Diagnostic::error(code, message).at(place).help(help);
        self.found.push(diagnostic);
    }

    fn conflict(&mut self, keys: &[&str], message: &str, help: &str) {
        self.wrong(keys, "conflict", message.to_owned(), help);
    }

    fn consul(&mut self, settings: &Settings) {
        let consul = &settings.consul;
        for (index, address) in consul.addresses.iter().enumerate() {
            if let Err(reason) = check_address(address) {
                self.wrong(
                    &["consul", "addresses", &index.to_string()],
                    "wrong-value",
                    format!("`{address}` is no address of Consul: {reason}."),
                    "Write `http://127.0.0.1:8500`, `https://consul.example:8501` or `unix:///run/consul.sock`.",
                );
            }
        }
        if consul.token.is_some() && consul.token_file.is_some() {
            self.conflict(
                &["consul", "token_file"],
                "Both `token` and `token_file` are set.",
                "Keep `token_file`; a file can be rotated.",
            );
        }
        let tls = &consul.tls;
        if tls.client_cert.is_some() != tls.client_key.is_some() {
            let (has, lacks) = if tls.client_cert.is_some() {
                ("client_cert", "client_key")
            } else {
                ("client_key", "client_cert")
            };
            self.conflict(
                &["consul", "tls", has],
                &format!("`{has}` is set and `{lacks}` is not."),
                &format!("Set `{lacks}` too, or neither."),
            );
        }
    }

    fn source(&mut self, settings: &Settings) {
        let (source, serf) = (settings.catalog.source, &settings.serf);
        for (index, address) in serf.addresses.iter().enumerate() {
            let port = address
                .rsplit_once(':')
                .map(|(host, port)| (host, port.parse::<u16>()));
            if !matches!(port, Some((host, Ok(1..))) if !host.is_empty() && !host.contains('/')) {
                self.wrong(
                    &["serf", "addresses", &index.to_string()],
                    "wrong-value",
                    format!("`{address}` is no RPC address of Serf."),
                    "Write a host and a port: `127.0.0.1:7373`.",
                );
            }
        }
        if source != Origin::Serf && !serf.addresses.is_empty() {
            self.conflict(
                &["serf", "addresses"],
                "`serf.addresses` is set, and Serf is not what is read.",
                "Set `source = \"serf\"` in the section [catalog], or take it out.",
            );
        }
        if serf.auth_key.is_some() && serf.auth_key_file.is_some() {
            self.conflict(
                &["serf", "auth_key_file"],
                "Both `auth_key` and `auth_key_file` are set.",
                "Keep `auth_key_file`; a file can be rotated.",
            );
        }
        match (source, &settings.catalog.file) {
            (Origin::File, None) => self.conflict(
                &["catalog", "source"],
                "`source = \"file\"` needs `catalog.file`.",
                "Set `file` to a catalog as `gatewright capture` writes it.",
            ),
            (Origin::Consul | Origin::Serf, Some(_)) => self.conflict(
                &["catalog", "file"],
                "`catalog.file` is set, and no file is what is read.",
                "Set `source = \"file\"`, or take it out.",
            ),
            _ => {}
        }
    }

    fn times(&mut self, settings: &Settings) {
        let minute = Duration::from_secs(60);
        let millisecond = Duration::from_millis(1);
        let consul = &settings.consul;
        let haproxy = &settings.haproxy;
        let apply = &settings.apply;
        for (keys, time, least, most) in [
            // Consul refuses to wait longer than ten minutes.
            (
                ["consul", "wait"],
                consul.wait,
                1_000 * millisecond,
                10 * minute,
            ),
            (
                ["consul", "connect_timeout"],
                consul.connect_timeout,
                millisecond,
                minute,
            ),
            (
                ["consul", "body_timeout"],
                consul.body_timeout,
                millisecond,
                10 * minute,
            ),
            (
                ["consul", "poll_interval"],
                consul.poll_interval,
                1_000 * millisecond,
                60 * minute,
            ),
            (
                ["serf", "read_interval"],
                settings.serf.read_interval,
                1_000 * millisecond,
                10 * minute,
            ),
            (
                ["serf", "timeout"],
                settings.serf.timeout,
                10 * millisecond,
                minute,
            ),
            (
                ["templates", "timeout"],
                settings.templates.timeout,
                10 * millisecond,
                10 * minute,
            ),
            (
                ["haproxy", "validate_timeout"],
                haproxy.validate_timeout,
                100 * millisecond,
                60 * minute,
            ),
            (
                ["haproxy", "confirm_timeout"],
                haproxy.confirm_timeout,
                100 * millisecond,
                60 * minute,
            ),
            (
                ["haproxy", "command_timeout"],
                haproxy.command_timeout,
                100 * millisecond,
                60 * minute,
            ),
            (
                ["haproxy", "stop_timeout"],
                haproxy.stop_timeout,
                Duration::ZERO,
                24 * 60 * minute,
            ),
            (
                ["apply", "settle"],
                apply.settle,
                Duration::ZERO,
                10 * minute,
            ),
            (
                ["apply", "max_settle"],
                apply.max_settle,
                Duration::ZERO,
                60 * minute,
            ),
            (
                ["apply", "reload_interval"],
                apply.reload_interval,
                Duration::ZERO,
                60 * minute,
            ),
            (
                ["apply", "compare_interval"],
                apply.compare_interval,
                1_000 * millisecond,
                24 * 60 * minute,
            ),
            (
                ["apply", "audit_interval"],
                apply.audit_interval,
                1_000 * millisecond,
                24 * 60 * minute,
            ),
            (
                ["consul", "max_stale"],
                consul.max_stale,
                Duration::ZERO,
                24 * 60 * minute,
            ),
        ] {
            if time.0 < least || time.0 > most {
                let range = format!("Choose from {} to {}.", Time(least), Time(most));
                let message = format!("`{}` is {time}, which is out of range.", keys.join("."));
                self.wrong(&keys, "out-of-range", message, &range);
            }
        }
        if apply.settle > apply.max_settle {
            self.conflict(
                &["apply", "settle"],
                &format!(
                    "`apply.settle` ({}) is longer than `apply.max_settle` ({}).",
                    apply.settle, apply.max_settle
                ),
                "Make `max_settle` at least as long.",
            );
        }
        const MANY: usize = 1_000;
        const GIB: usize = 1 << 30;
        let templates = &settings.templates;
        for (keys, value, least, most) in [
            (
                ["consul", "max_connections"],
                consul.max_connections,
                2,
                MANY,
            ),
            (["state", "keep"], settings.state.keep, 1, MANY),
            (
                ["haproxy", "max_old_workers"],
                haproxy.max_old_workers,
                1,
                MANY,
            ),
            (
                ["catalog", "max_discovery_rounds"],
                settings.catalog.max_discovery_rounds as usize,
                1,
                MANY,
            ),
            (["consul", "max_answer"], consul.max_answer.0, 1, GIB),
            (["serf", "max_answer"], settings.serf.max_answer.0, 1, GIB),
            (
                ["templates", "max_template"],
                templates.max_template.0,
                1,
                GIB,
            ),
            (["templates", "max_output"], templates.max_output.0, 1, GIB),
        ] {
            if value < least || value > most {
                let most = match most {
                    GIB => "1GiB".to_owned(),
                    most => most.to_string(),
                };
                let message = format!("`{}` is {value}, which is out of range.", keys.join("."));
                let range = format!("Choose from {least} to {most}.");
                self.wrong(&keys, "out-of-range", message, &range);
            }
        }
        let drain = &haproxy.drain;
        let backends = drain.backends.iter();
        let times = backends.map(|(name, time)| (vec!["haproxy", "drain", "backends", name], time));
        for (keys, time) in times.chain([(vec!["haproxy", "drain", "time"], &drain.time)]) {
            if time.0 > 24 * 60 * minute {
                let message = format!("`{}` is {time}, which is out of range.", keys.join("."));
                self.wrong(&keys, "out-of-range", message, "Choose from 0s to 1d.");
            }
        }
    }

    fn lints(&mut self, settings: &Settings) {
        for (index, code) in settings.check.allow.iter().enumerate() {
            if let Err(wrong) = Allowed::new([code.as_str()]) {
                let keys = ["check", "allow", &index.to_string()];
                let help = wrong.help.unwrap_or_default();
                self.wrong(&keys, "unknown-lint", wrong.message, &help);
            }
        }
    }

    fn status(&mut self, settings: &Settings) {
        let status = &settings.status;
        if !status.hosts.is_empty() && status.listen.is_none() {
            self.conflict(
                &["status", "hosts"],
                "`status.hosts` is set and `status.listen` is not.",
                "Set `listen` too, or take `hosts` out.",
            );
        }
        for (index, host) in status.hosts.iter().enumerate() {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() || !host.bytes().all(plain) {
                self.wrong(
                    &["status", "hosts", &index.to_string()],
                    "wrong-value",
                    format!("`{host}` is no host name."),
                    "Write the name alone, without a port: \"gateway-1.example\".",
                );
            }
        }
    }

    fn guard(&mut self, settings: &Settings) {
        let guard = &settings.guard;
        self.guarded(
            &["guard"],
            Some(guard.window),
            [Some(guard.hold), Some(guard.hold_last)],
            Some(guard.min_instances),
        );
        for (name, service) in &guard.services {
            self.guarded(
                &["guard", "services", name],
                service.window,
                [service.hold, service.hold_last],
                service.min_instances,
            );
        }
        if guard.canary.chars().any(char::is_control) {
            self.wrong(
                &["guard", "canary"],
                "wrong-value",
                "`guard.canary` holds a control character and names no service.".to_owned(),
                "Name a service that the token sees at all times, such as \"consul\", or \"\" for none.",
            );
        }
    }

    fn guarded(
        &mut self,
        keys: &[&str],
        window: Option<Time>,
        holds: [Option<Lasting>; 2],
        min_instances: Option<usize>,
    ) {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let holds = holds.map(|hold| match hold {
            Some(Lasting::For(time)) => Some(time),
            Some(Lasting::Forever) | None => None,
        });
        for (key, time, least, most) in [
            ("window", window, second, day),
            ("hold", holds[0], Duration::ZERO, 30 * day),
            ("hold_last", holds[1], Duration::ZERO, 30 * day),
        ] {
            let Some(time) = time.filter(|time| time.0 < least || time.0 > most) else {
                continue;
            };
            let keys: Vec<&str> = keys.iter().copied().chain([key]).collect();
            let range = format!("Choose from {} to {}.", Time(least), Time(most));
            let message = format!("`{}` is {time}, which is out of range.", keys.join("."));
            self.wrong(&keys, "out-of-range", message, &range);
        }
        if min_instances.is_some_and(|count| count > 100_000) {
            let keys: Vec<&str> = keys.iter().copied().chain(["min_instances"]).collect();
            let message = format!("`{}` is more than any service has.", keys.join("."));
            self.wrong(&keys, "out-of-range", message, "Choose from 0 to 100000.");
        }
    }

    fn templates(&mut self, settings: &Settings) {
        let mut seen: BTreeMap<&PathBuf, usize> = BTreeMap::new();
        for (index, template) in settings.template.iter().enumerate() {
            let at = index.to_string();
            if let Some(first) = seen.insert(&template.destination, index) {
                self.conflict(
                    &["template", &at, "destination"],
                    &format!(
                        "Template {} already writes `{}`.",
                        first + 1,
                        template.destination.display()
                    ),
                    "Give each template a destination of its own.",
                );
            }
            let partials = settings.templates.partials.as_ref();
            if settings
                .template
                .iter()
                .any(|other| other.source == template.destination)
            {
                self.conflict(
                    &["template", &at, "destination"],
                    "The destination is a template itself.",
                    "Write the result to another file.",
                );
            } else if template
                .destination
                .extension()
                .is_some_and(|end| end == "hbs")
                && partials.is_some_and(|folder| template.destination.parent() == Some(folder))
            {
                self.conflict(
                    &["template", &at, "destination"],
                    "The destination would be a partial, which templates read.",
                    "Write the result to another folder.",
                );
            }
            if template.destination.file_name().is_none() {
                self.wrong(
                    &["template", &at, "destination"],
                    "wrong-value",
                    format!("`{}` names no file.", template.destination.display()),
                    "Name the file that HAProxy reads.",
                );
            }
        }
        if !settings.template.is_empty()
            && settings.haproxy.config_files.is_empty()
            && !settings
                .template
                .iter()
                .any(|template| template.kind == Kind::Config)
        {
            self.conflict(
                &["template"],
                "No template makes a configuration (`kind = \"config\"`).",
                "Let one template make it, or name the configuration that uses these files in `haproxy.config_files`.",
            );
        }
    }

    fn environment(&mut self, settings: &Settings) {
        for (index, name) in settings.templates.environment.iter().enumerate() {
            if matches!(
                name.as_str(),
                "CONSUL_HTTP_TOKEN" | "CONSUL_HTTP_AUTH" | "SERF_RPC_AUTH"
            ) {
                self.conflict(
                    &["templates", "environment", &index.to_string()],
                    &format!("`{name}` is a secret and may not be read by templates."),
                    "Take it out.",
                );
            }
        }
    }

    fn haproxy(&mut self, settings: &Settings) {
        let haproxy = &settings.haproxy;
        let needs = [
            (
                Mode::Signal,
                haproxy.pid_file.is_none(),
                "signal",
                "pid_file",
            ),
            (
                Mode::Command,
                haproxy.command.is_empty(),
                "command",
                "command",
            ),
        ];
        for (mode, missing, name, key) in needs {
            if haproxy.mode == mode && missing {
                self.conflict(
                    &["haproxy", "mode"],
                    &format!("`mode = \"{name}\"` needs `haproxy.{key}`."),
                    &format!("Set `{key}`."),
                );
            }
        }
        let mut named = BTreeSet::new();
        for (index, variable) in haproxy.environment.iter().enumerate() {
            if !named.insert(&variable.name) {
                self.conflict(
                    &["haproxy", "environment", &index.to_string()],
                    &format!("`haproxy.environment` names `{}` twice.", variable.name),
                    "Keep one of the two.",
                );
            }
        }
        if haproxy.command.first().is_some_and(String::is_empty) {
            self.conflict(
                &["haproxy", "command"],
                "The first word of `haproxy.command` is empty.",
                "Name the program first: [\"systemctl\", \"reload\", \"haproxy\"].",
            );
        }
        if !haproxy.command.is_empty() && !matches!(haproxy.mode, Mode::Command | Mode::Auto) {
            self.conflict(
                &["haproxy", "command"],
                "`haproxy.command` is set, and `haproxy.mode` does not use it.",
                "Choose `mode = \"command\"`, or take the command out.",
            );
        }
    }
}

/// Whether a text can be an address of a Consul agent.
fn check_address(address: &str) -> Result<(), String> {
    if let Some(path) = address.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(())
        } else {
            Err("a socket needs an absolute path".to_owned())
        };
    }
    let url = reqwest::Url::parse(address).map_err(|_| "it is no URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme `{}` is unknown", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name; use `http_auth`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it holds a query or a fragment".to_owned());
    }
    Ok(())
}

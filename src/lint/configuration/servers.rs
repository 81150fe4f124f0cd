//! Lints on health checks and addresses of servers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Look, Pool, value};
use crate::haproxy::config::{Directive, Server};

/// A dead server that takes longer to be found is told of.
const SLOW: Duration = Duration::from_secs(60);
/// What HAProxy takes without `inter` and `fall` (2.6 configuration manual 5.2).
const INTER: Duration = Duration::from_secs(2);
const FALL: u32 = 3;

impl Look<'_> {
    pub(super) fn servers(&mut self) {
        for pool in std::mem::take(&mut self.pools) {
            self.duplicates(&pool);
            self.checks(&pool);
            self.slow(&pool);
            self.templates(&pool);
            self.pools.push(pool);
        }
    }

    /// Two servers of one address, port and options.
    fn duplicates(&mut self, pool: &Pool<'_>) {
        let mut seen: BTreeMap<(String, Vec<&Vec<String>>), &Server> = BTreeMap::new();
        let certain = |server: &&Server| {
            !server.disabled && !server.conditional && !server.opaque && server.template.is_none()
        };
        for server in pool.backend.servers.iter().filter(certain) {
            let mut options: Vec<&Vec<String>> = server
                .keywords
                .iter()
                .filter(|group| !matches!(group[0].as_str(), "id" | "weight" | "guid"))
                .collect();
            options.sort();
            let Some(first) = seen.get(&(server.target(), options.clone())) else {
                seen.insert((server.target(), options), server);
                continue;
            };
            let message = format!(
                "`{}` of the {} is the same server as `{}` on line {}: it gets twice the traffic and twice the checks.",
                server.name,
                pool.words(),
                first.name,
                first.line
            );
            let Some(line) = pool.line(server) else {
                continue;
            };
            let place = self.word(pool.section.file, line, 2);
            self.warn(
                "duplicate-address",
                place,
                message,
                "Take one of them away, or give one the `weight` that is meant.",
            );
        }
    }

    fn checks(&mut self, pool: &Pool<'_>) {
        let checked = |server: &Server| is_checked(pool, server);
        let file = pool.section.file;
        let enabled: Vec<&Server> = pool
            .backend
            .servers
            .iter()
            .filter(|server| !server.disabled && !server.opaque)
            .collect();
        let option =
            pool.section.directives.iter().find(|line| {
                line.keyword() == "option" && line.word(1).is_some_and(is_check_option)
            });
        if let Some(line) = option
            && !enabled.is_empty()
            && !enabled.iter().any(|server| checked(server))
        {
            let place = self.word(file, line, 1);
            let message = format!(
                "The {} says how to check its servers, and no server has `check`, so nothing is checked.",
                pool.words()
            );
            self.warn(
                "check-option-unused",
                place,
                message,
                "Add `check` to the server lines, or to a `default-server` line before them.",
            );
            return;
        }
        let mode = self.last(pool.section, |line| line.keyword() == "mode");
        if mode.is_some_and(|(_, line)| matches!(line.word(1), Some("log" | "spop"))) {
            return;
        }
        let unchecked = pool
            .catalog_servers()
            .find(|server| !server.disabled && !server.opaque && !checked(server));
        let Some(line) = unchecked.and_then(|server| pool.line(server)) else {
            return;
        };
        let place = self.word(file, line, 1);
        let message = format!(
            "Servers of the {} have no `check`: an instance that dies without notice keeps its traffic until the catalog tells of it, and what the guard holds is not checked by anybody.",
            pool.words()
        );
        self.warn(
            "no-check",
            place,
            message,
            "Add `check inter 2s fall 2 rise 2` to the server lines, or to a `default-server` line before them.",
        );
    }

    fn slow(&mut self, pool: &Pool<'_>) {
        let defaults = pool.backend.default_keywords();
        for server in pool
            .catalog_servers()
            .filter(|server| is_checked(pool, server))
        {
            let own = |keyword: &str| {
                value(&server.keywords, keyword).or_else(|| value(&defaults, keyword))
            };
            let (Some(inter), Some(fall)) = (
                own("inter").map_or(Some(INTER), time),
                own("fall").map_or(Some(FALL), |text| text.parse().ok()),
            ) else {
                continue;
            };
            let fast = own("fastinter").and_then(time).unwrap_or(inter);
            let takes = inter.saturating_add(fast.saturating_mul(fall.saturating_sub(1)));
            if takes <= SLOW {
                continue;
            }
            let keyword = match own("inter") {
                Some(_) => "inter",
                None => "fall",
            };
            let says = |line: &&Directive| line.words.iter().any(|word| word.text == keyword);
            let defaults = pool.section.all("default-server");
            let lines: Vec<&Directive> = pool.line(server).into_iter().chain(defaults).collect();
            let says = lines.iter().find(|line| says(line));
            let Some(line) = says.or(lines.first()) else {
                continue;
            };
            let place = self.named(pool.section.file, line, keyword);
            let message = format!(
                "A server of the {} that dies is found after {} s (inter {}, fall {fall}).",
                pool.words(),
                takes.as_secs(),
                own("inter").unwrap_or("2s"),
            );
            self.warn(
                "slow-check",
                place,
                message,
                "Lower `inter`, or add `fastinter 1s`: the time between checks once one has failed.",
            );
            return;
        }
    }

    fn templates(&mut self, pool: &Pool<'_>) {
        let server = pool
            .backend
            .servers
            .iter()
            .find(|server| server.template.is_some());
        let Some(line) = server.and_then(|server| pool.line(server)) else {
            return;
        };
        let place = self.word(pool.section.file, line, 0);
        self.warn(
            "server-template",
            place,
            "`server-template` finds its servers by DNS, past the catalog: neither the guard nor the gate sees them come and go, and answers of many addresses are cut.".to_owned(),
            "Write the servers from the catalog: {{#each (service \"NAME\")}}server {{serverName this}} {{serverAddress this}} id {{serverId this}} check{{/each}}.",
        );
    }
}

fn is_checked(pool: &Pool<'_>, server: &Server) -> bool {
    let defaults = pool.backend.default_keywords();
    let all = defaults.iter().chain(&server.keywords);
    let words = all.filter_map(|group| group.first().map(String::as_str));
    let mut checked = false;
    for word in words {
        match word {
            "check" | "track" => checked = true,
            "no-check" => checked = false,
            _ => {}
        }
    }
    checked
}

fn is_check_option(option: &str) -> bool {
    matches!(
        option,
        "httpchk"
            | "tcp-check"
            | "ldap-check"
            | "mysql-check"
            | "pgsql-check"
            | "redis-check"
            | "smtpchk"
            | "spop-check"
            | "ssl-hello-chk"
            | "external-check"
    )
}

/// A time as HAProxy writes it, in milliseconds without a unit.
fn time(text: &str) -> Option<Duration> {
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "us" => return Some(Duration::from_micros(number)),
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

//! The status as one page for people: what is wrong comes first, in words, then how things stand. It
//! holds everything it needs, runs nothing in the browser and loads itself again every few seconds.

use std::fmt::Write as _;

use super::model::{State, Status, Watched};
use super::words::{age, grouped, size};
use crate::diagnostic::plain;
use crate::source::Origin;

/// More things of one sort are counted, not listed.
const LISTED: usize = 50;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--text:#1b1f24;--soft:#5b6570;--line:#d9dee4;--good:#0b6b3a;--goodback:#d9f2e3;--bad:#9b1c1c;--badback:#fbe1e1;--warn:#7a4b00;--warnback:#fcefd2}\
@media(prefers-color-scheme:dark){:root{--back:#101418;--card:#181d23;--text:#e6e9ed;--soft:#9aa5b1;--line:#2b333c;--good:#7fdca6;--goodback:#12351f;--bad:#ff9c9c;--badback:#43191b;--warn:#f4cb7a;--warnback:#3b2c0b}}\
*{box-sizing:border-box}body{margin:0;padding:1rem;background:var(--back);color:var(--text);font:16px/1.45 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto}h1{font-size:1.1rem;margin:0 0 .8rem;font-weight:600}h2{font-size:1rem;margin:1.4rem 0 .5rem}\
.state{padding:.8rem 1rem;border-radius:.6rem;font-size:1.15rem;font-weight:600}.state small{display:block;font-size:.95rem;font-weight:400}\
.good{background:var(--goodback);color:var(--good)}.warn{background:var(--warnback);color:var(--warn)}.bad{background:var(--badback);color:var(--bad)}\
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.2rem 1rem;margin:.6rem 0;overflow-wrap:anywhere}\
.look{border-left:.35rem solid var(--warn)}ul{margin:.6rem 0;padding-left:1.1rem}li{margin:.3rem 0}\
dl{display:grid;grid-template-columns:fit-content(9rem) 1fr;gap:.35rem .8rem;margin:.6rem 0}dt{color:var(--soft)}dd{margin:0}\
table{width:100%;border-collapse:collapse;margin:.4rem 0;font-size:.95rem}th{text-align:left;color:var(--soft);font-weight:400}th,td{padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border:0}\
.number{text-align:right;white-space:nowrap;padding:.3rem 0 .3rem .8rem}td.bad,td.warn{background:none}code{font:0.92em ui-monospace,monospace}footer,.soft{color:var(--soft);font-size:.9rem}a{color:inherit}";

/// The page of a sidecar that answers.
pub fn page(status: &Status) -> String {
    let (class, title) = headline(status);
    let mut out = begin(class, title, status.meaning());
    look_at(&mut out, status);
    facts(&mut out, status);
    queries(&mut out, &status.queries);
    counts(&mut out, status);
    let _ = writeln!(
        out,
        "<footer><p>Gatewright {} · process {} · up {} · {} · <a href=\"/metrics\">metrics</a> · <a href=\"/status\">JSON</a> · <a href=\"/readyz\">ready</a> · <a href=\"/healthz\">alive</a></p></footer></main></body></html>",
        text(&status.version),
        status.pid,
        age(status.uptime_seconds),
        size(status.process.resident_bytes),
    );
    out
}

/// The page when the loop does not answer.
pub fn page_without(quiet: f64) -> String {
    let mut out = begin(
        "bad",
        "not alive",
        "The loop does not answer, so nothing is watched and nothing applied. HAProxy goes on with what it runs.",
    );
    let _ = writeln!(
        out,
        "<section class=\"look\"><p>It turned last {} ago. Restart Gatewright; it goes on from its last good set.</p></section></main></body></html>",
        age(quiet)
    );
    out
}

fn begin(class: &str, title: &str, meaning: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>{title} · Gatewright</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body><main><h1>Gatewright</h1>\
         <div class=\"state {class}\">{title}<small>{meaning}</small></div>\n"
    )
}

/// One colour and one word for the whole.
fn headline(status: &Status) -> (&'static str, &'static str) {
    let class = match status.state {
        _ if !status.ready => "bad",
        _ if status.queries.iter().any(|query| query.error.is_some()) => "warn",
        State::Held | State::Waiting | State::Guarded | State::Unconfirmed => "warn",
        State::Confirmed | State::Applying | State::Starting => "good",
    };
    (class, status.state.as_str())
}

/// What somebody should look at, each as a sentence.
fn look_at(out: &mut String, status: &Status) {
    let mut all: Vec<String> = status.not_ready.iter().map(|why| text(why)).collect();
    all.extend(status.structure_kept.iter().map(|kept| {
        let servers = match &kept.not_current {
            None => "Its servers are current.".to_owned(),
            Some(why) => text(why),
        };
        format!(
            "The last good structure is kept for {}, because {}. {servers}",
            age(kept.since_seconds),
            text(&kept.because)
        )
    }));
    all.extend(status.not_applied.iter().map(|why| text(why)));
    all.extend(failing(status));
    if let Some(held) = &status.held {
        all.push(format!(
            "Set <code>{}</code> is refused by {}: {}. <code>gatewright status</code> on the machine shows the whole message.",
            text(&held.revision),
            text(&held.by),
            text(&held.why.join("; "))
        ));
    }
    let errors = status.template_errors.iter();
    all.extend(errors.map(|error| {
        format!("The templates cannot be used: {}. <code>gatewright status</code> on the machine shows the whole message.", text(error))
    }));
    if !status.waiting_for.is_empty() {
        let since = status.waiting_seconds.map(age).unwrap_or_default();
        let what = status.waiting_for.iter().take(LISTED);
        let what: Vec<String> = what
            .map(|one| format!("<code>{}</code>", text(one)))
            .collect();
        all.push(format!("Waiting for {} since {since}.", what.join(", ")));
    }
    all.extend(status.holds.iter().take(LISTED).map(|hold| {
        let ends = match hold.ends_in_seconds {
            Some(seconds) => format!("for {} more", age(seconds)),
            None => "until they return or are released".to_owned(),
        };
        format!(
            "<code>{}</code>: {} of {} have vanished and are kept {ends}. {}",
            text(&hold.query),
            grouped(hold.held as u64),
            grouped(hold.reference as u64),
            text(&hold.reason)
        )
    }));
    all.extend(status.listeners.iter().take(LISTED).map(|one| {
        let kept = match &one.not_kept {
            None => "its section is kept meanwhile".to_owned(),
            Some(why) => format!("the whole set waits with it, because {}", text(why)),
        };
        format!(
            "The listener <code>{}</code> (<code>{}</code>) waits for an operator since {}; {kept}. {} Run <code>gatewright release --listener ADDRESS</code> to remove it.",
            text(&one.address),
            text(&one.section),
            age(one.since_seconds),
            text(&one.reason)
        )
    }));
    all.extend(status.warnings.iter().take(LISTED).map(|one| text(one)));
    listed(
        &mut all,
        &status.haproxy.drift,
        "files are not as they were written",
    );
    listed(&mut all, &status.haproxy.by_hand, "servers are set by hand");
    listed(&mut all, &status.quarantined, "instances are left out");
    if all.is_empty() {
        return;
    }
    out.push_str("<section class=\"look\"><ul>");
    for one in all {
        let _ = write!(out, "<li>{one}</li>");
    }
    out.push_str("</ul></section>\n");
}

/// What cannot be read of the catalog, in one sentence.
fn failing(status: &Status) -> Option<String> {
    let queries = &status.queries;
    let failing: Vec<&Watched> = queries.iter().filter(|one| one.error.is_some()).collect();
    let oldest = failing
        .iter()
        .filter_map(|one| one.age_seconds)
        .reduce(f64::max);
    let known = match oldest {
        _ if failing.is_empty() => return None,
        Some(oldest) => format!(
            "What is known, at most {} old, stays in force.",
            age(oldest)
        ),
        None => "Nothing is known of them yet.".to_owned(),
    };
    let (some, all) = (failing.len() as u64, queries.len() as u64);
    Some(format!(
        "{} does not answer {} of {} queries. {known}",
        status.consul.source.name(),
        grouped(some),
        grouped(all)
    ))
}

/// The first sentences, and how many more.
fn listed(all: &mut Vec<String>, sentences: &[String], what: &str) {
    all.extend(sentences.iter().take(LISTED).map(|one| text(one)));
    if sentences.len() > LISTED {
        let more = (sentences.len() - LISTED) as u64;
        all.push(format!("{} more {what}.", grouped(more)));
    }
}

fn facts(out: &mut String, status: &Status) {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(applied) = &status.applied {
        let confirmed = if applied.confirmed {
            "confirmed"
        } else {
            "not confirmed"
        };
        facts.push((
            "Revision",
            format!(
                "<code>{}</code>, {confirmed}, applied {} ago",
                text(&applied.revision),
                age(applied.seconds_ago)
            ),
        ));
        if !applied.story.is_empty() {
            facts.push(("Last change", text(&applied.story)));
        }
    }
    if let Some(pending) = &status.pending {
        facts.push(("On its way", format!("<code>{}</code>", text(pending))));
    }
    let haproxy = &status.haproxy;
    facts.push((
        "HAProxy",
        match haproxy.reachable {
            true => format!(
                "{}, told by {}, worker {}{}",
                text(&haproxy.described()),
                text(&haproxy.mode),
                haproxy.worker.map_or("?".to_owned(), |pid| pid.to_string()),
                match haproxy.old_workers {
                    0 => String::new(),
                    1 => ", 1 old worker".to_owned(),
                    many => format!(", {many} old workers"),
                }
            ),
            false => format!(
                "told by {}; no worker was seen answering",
                text(&haproxy.mode)
            ),
        },
    ));
    let members: Vec<String> = status
        .consul
        .members
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!(", {} {state}", grouped(*count)))
        .collect();
    let source = status.consul.source.name();
    facts.push((
        source,
        text(&format!("{}{}", status.consul.address, members.concat())),
    ));
    if let Some(snapshot) = &status.snapshot {
        let saved = match snapshot.saved_seconds_ago {
            Some(seconds) => format!("written {} ago", age(seconds)),
            None => "not written yet".to_owned(),
        };
        let used = match snapshot.in_use {
            0 => String::new(),
            queries => format!(", {queries} queries answered from it"),
        };
        facts.push(("Snapshot", format!("{saved}{used}")));
    }
    out.push_str("<section><dl>");
    for (name, value) in facts {
        let _ = write!(out, "<dt>{name}</dt><dd>{value}</dd>");
    }
    out.push_str("</dl></section>\n");
}

fn queries(out: &mut String, queries: &[Watched]) {
    let failing = queries.iter().filter(|query| query.error.is_some());
    let fine = queries.iter().filter(|query| query.error.is_none());
    let _ = write!(
        out,
        "<h2>{} watched</h2><section><table><tr><th>Query</th><th class=\"number\">Known</th><th class=\"number\">Age</th></tr>",
        match queries.len() {
            1 => "1 query".to_owned(),
            many => format!("{} queries", grouped(many as u64)),
        }
    );
    for query in failing.chain(fine).take(LISTED) {
        let items = query.items.map_or("–".to_owned(), |n| grouped(n as u64));
        let old = query.age_seconds.map_or("–".to_owned(), age);
        let class = if query.error.is_some() { " warn" } else { "" };
        let _ = write!(out, "<tr><td><code>{}</code>", text(&query.query));
        if let (Some(error), Some(seconds)) = (&query.error, query.failing_seconds) {
            let _ = write!(
                out,
                "<br><span class=\"soft\">failing for {}: {}</span>",
                age(seconds),
                text(error)
            );
        }
        let _ = write!(
            out,
            "</td><td class=\"number\">{items}</td><td class=\"number{class}\">{old}</td></tr>"
        );
    }
    out.push_str("</table>");
    if queries.len() > LISTED {
        let more = (queries.len() - LISTED) as u64;
        let _ = write!(out, "<p class=\"soft\">and {} more</p>", grouped(more));
    }
    out.push_str("</section>\n");
}

fn counts(out: &mut String, status: &Status) {
    let (work, haproxy) = (&status.work, &status.haproxy);
    let count = |word: &str| work.changes.get(word).copied().unwrap_or_default();
    let failed: u64 = status.consul.errors.values().sum();
    let rows = [
        ("Changes by commands", grouped(haproxy.by_commands)),
        ("Changes by a reload", grouped(haproxy.reloads)),
        (
            "Refused, rejected, unconfirmed",
            format!(
                "{}, {}, {}",
                grouped(count("refused")),
                grouped(count("rejected")),
                grouped(count("unconfirmed"))
            ),
        ),
        ("Divergences put right", grouped(haproxy.divergences)),
        (
            match status.consul.source {
                Origin::Consul => "Requests to Consul",
                Origin::Serf => "Reads of Serf's members",
                Origin::File => "Reads of the file",
            },
            format!(
                "{}, {} failed",
                grouped(status.consul.requests),
                grouped(failed)
            ),
        ),
        (
            "Log lines summed up, lost",
            format!(
                "{}, {}",
                grouped(status.log.summed_up),
                grouped(status.log.lost)
            ),
        ),
    ];
    out.push_str("<h2>Since the start</h2><section><table>");
    for (name, value) in rows {
        let _ = write!(
            out,
            "<tr><td>{name}</td><td class=\"number\">{value}</td></tr>"
        );
    }
    out.push_str("</table></section>\n");
}

/// Text from anywhere as HTML.
fn text(from: &str) -> String {
    let mut shown = String::with_capacity(from.len());
    for character in plain(from).chars() {
        match character {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests;

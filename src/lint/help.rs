//! What to do about what HAProxy says, told from its own words. The messages were tried on HAProxy 2.6.12, 2.8.25,
//! 3.0.11 and 3.2.26; tests hold the table to the first and the last of them.

use crate::haproxy::Finding;

/// What to do about a finding of HAProxy's own, where that is known. What it quotes between quotes is taken into the
/// sentence.
pub fn help_for(finding: &Finding) -> Option<String> {
    if finding.code != "haproxy" || finding.help.is_some() {
        return None;
    }
    let message = finding.message.as_str();
    let quoted: Vec<&str> = message.split('\'').skip(1).step_by(2).collect();
    if let Some(help) = unknown_keyword(message, &quoted) {
        return Some(help);
    }
    let (_, help) = SAID.iter().find(|(parts, _)| {
        // In this order.
        let mut rest = message;
        parts.iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })?;
    Some(filled(help, &quoted))
}

/// Puts what was quoted into a sentence: `{0}` is the first of it, `{-1}` the last.
fn filled(help: &str, quoted: &[&str]) -> String {
    let mut text = help.to_owned();
    for (index, word) in quoted.iter().enumerate() {
        text = text.replace(&format!("{{{index}}}"), word);
    }
    text.replace("{-1}", quoted.last().copied().unwrap_or("…"))
}

/// Keywords that there were once, or that others have, and what to write.
#[rustfmt::skip] // One message, one line.
const KEYWORDS: &[(&str, &str)] = &[
    ("bind-process", "Take it away: HAProxy has one process; `nbthread` is the number of its threads."),
    ("debug", "Take it away; `haproxy -d` does the same by hand."),
    ("load-server-state-from-file", "It belongs into `defaults` or a backend; with servers from the catalog do without it."),
    ("reqsetbe", "Write `use_backend NAME if …`."),
    ("reqiadd", "Write `http-request add-header NAME VALUE`."),
    ("reqset", "Write `http-request set-header NAME VALUE`."),
    ("rspset", "Write `http-response set-header NAME VALUE`."),
    ("use-backend", "It is written with a low line: `use_backend`."),
    ("default-backend", "It is written with a low line: `default_backend`."),
    ("use_server", "It is written with a hyphen: `use-server`."),
    ("default_server", "It is written with a hyphen: `default-server`."),
    ("upstream", "It is a section of its own: `backend NAME`."),
    ("proxy_pass", "Write `default_backend NAME`, and the servers into the section `backend NAME`."),
    ("healthcheck", "Write `option httpchk`, and `check` on the server lines."),
    ("maxconns", "It is `maxconn`."),
    ("http_request", "It is written with a hyphen: `http-request`."),
    ("http_response", "It is written with a hyphen: `http-response`."),
    ("ssl_certificate", "Write `bind :443 ssl crt FILE`."),
    ("url_hash", "Write `balance uri` or `balance url_param NAME`, with `hash-type consistent`."),
    ("urlhash", "Write `balance uri` or `balance url_param NAME`, with `hash-type consistent`."),
    ("health-check", "Write `option httpchk`, and `check` on the server lines."),
];

fn unknown_keyword(message: &str, quoted: &[&str]) -> Option<String> {
    let at = message.find("unknown keyword '")?;
    let word = message[at..].split('\'').nth(1)?;
    if let Some((_, help)) = KEYWORDS.iter().find(|(known, _)| *known == word) {
        return Some((*help).to_owned());
    }
    if word.contains(' ') && !word.contains(':') {
        return Some(format!(
            "`{word}` is one word with blanks in it. Write its words apart; a value of several words is written by {{{{raw …}}}}, if templates.allow_raw is true."
        ));
    }
    if word.contains(':') {
        return Some(format!(
            "`{word}` looks like the rest of the line before: a line cannot be continued, and a value with a line end in it needs quotes or an escape (`\\n`)."
        ));
    }
    if let Some((_, near)) = message.split_once("did you mean '") {
        let near = near.split('\'').next().unwrap_or_default();
        return Some(format!("Write `{near}` if that is meant."));
    }
    if message.contains("out of section") {
        return Some("Begin the file with a section: `global`, `defaults`, `frontend NAME` or `backend NAME`.".to_owned());
    }
    match (message.contains("section"), quoted.last()) {
        (true, Some(section)) => Some(format!(
            "HAProxy's configuration manual lists what a `{section}` section takes; a newer HAProxy may know `{word}`."
        )),
        _ => Some(format!(
            "Correct or take away `{word}`; a newer HAProxy may know it."
        )),
    }
}

/// Parts of a message in their order, and what to do. The first that fits counts.
#[rustfmt::skip] // One message, one line.
const SAID: &[(&[&str], &str)] = &[
    // What was taken away.
    (&["nbproc is not supported"], "Take `nbproc` away; `nbthread` is the number of threads, by default one for each processor."),
    (&["'bind-process' is not supported"], "Take `bind-process` away: there is one process."),
    (&["'bind-process' has no effect"], "Take `bind-process` away: there is one process, and HAProxy 2.7 and later refuse it."),
    (&["'stats bind-process' is not supported"], "Take `stats bind-process` away: there is one process."),
    (&["' on 'bind' lines is"], "Write `thread` with numbers of threads instead of `process`, or take it away."),
    (&["'monitor-net' doesn't exist"], "Write `http-request return status 200 if { src ADDRESSES }`."),
    (&["'mode health' doesn't exist"], "Write `mode http` and `http-request return status 200`."),
    (&["'appsession' is not supported"], "Write `stick-table type string len 52 size 1m expire 3h` with `stick on cookie(NAME)`, or `cookie NAME insert`."),
    (&["option 'forceclose' is not supported"], "Take it away, or write `option httpclose`."),
    (&["option 'http-tunnel' is not supported"], "Take it away; `timeout tunnel` is for what is upgraded."),
    (&["option 'http_proxy' is not supported"], "Write `http-request do-resolve` and `http-request set-dst`."),
    (&["'grace' keyword is not supported"], "Take `grace` away; `hard-stop-after` in `global` bounds the life of an old worker."),
    (&["the 'clitimeout' directive"], "Write `timeout client`."),
    (&["the 'contimeout' directive"], "Write `timeout connect`."),
    (&["the 'srvtimeout' directive"], "Write `timeout server`."),
    (&["'redispatch' directive is not supported"], "Write `option redispatch`."),
    (&["The 'block' directive"], "Write `http-request deny` with the same condition."),
    (&["The 'reqrep' directive"], "Write `http-request replace-path`, `replace-uri` or `replace-header`; the last one takes the header's name first, and the expression sees its value only."),
    (&["The 'req", "Use 'http-request add-header'"], "Write `http-request add-header NAME VALUE`, or `set-header` to replace it."),
    (&["The 'req", "Use 'http-request del-header'"], "Write `http-request del-header NAME`; `-m reg` before an expression."),
    (&["The 'req", "Use 'http-request"], "Write `http-request` with that action and `if { … }` for what the expression was about."),
    (&["The 'rsp", "Use 'http-response add-header'"], "Write `http-response add-header NAME VALUE`, or `set-header` to replace it."),
    (&["The 'rsp", "Use 'http-response del-header'"], "Write `http-response del-header NAME`; `-m reg` before an expression."),
    (&["The 'rsp", "Use 'http-response"], "Write `http-response` with that action and `if { … }` for what the expression was about."),
    (&["not supported anymore since HAProxy 2.1"], "Write `http-request` or `http-response` with the action and `if { … }`."),
    (&["'tune.chksize' is not supported"], "Take it away; `tune.bufsize` counts."),
    (&["'tune.ssl.capture-cipherlist-size' is deprecated"], "Write `tune.ssl.capture-buffer-size`."),
    (&["'program' section is deprecated"], "Start the program by systemd or another manager of processes."),
    (&["option 'accept-invalid-http-re", "deprecated"], "Have the other side send valid messages, or write the option that HAProxy names."),
    // Sections and addresses.
    (&["please use the 'bind' keyword for listening addresses"], "Write the name alone on this line, and below it a line `bind ADDRESS`."),
    (&["'listen' or 'defaults' expected"], "The line before should have begun a section and was refused; correct that one first."),
    (&["expects an <id> argument"], "Write a name behind `{0}`; where it comes from a value, that is empty."),
    (&["is not permitted in server name"], "Write the name by {{serverName this}}: letters, digits and `-_.:` are taken."),
    (&["is not permitted in '", "' name"], "Write the name by {{backendName Name}}: letters, digits and `-_.:` are taken."),
    (&["is not permitted in acl name"], "Letters, digits and `-_.:` are taken in a name."),
    (&["has the same name as"], "Rename one of them, or put their lines together into one section."),
    (&["another server named"], "Give each server a name of its own, by {{serverName this}}."),
    (&["custom id ", " already used"], "Give each server an id of its own, by {{serverId this}}."),
    (&["custom id has to be > 0"], "Write a number from 1 to 2147483647, by {{serverId this}}."),
    (&["has no 'bind' directive"], "Add a line `bind ADDRESS:PORT`, or make it a `backend`."),
    (&["missing port specification"], "Write a port behind the address: `{-1}:8080`."),
    (&["invalid port"], "A port is a number from 1 to 65535."),
    (&["invalid address"], "Write an IP address, `*` for all, or a path for a socket."),
    (&["could not resolve address"], "Write an IP address: HAProxy looks names up once, when it starts, and refuses everything when one is unknown. `init-addr last,libc,none` lets it start without."),
    (&["'server' expects <name> and <addr>"], "Write `server NAME ADDRESS:PORT`; where the address comes from a value, that is empty."),
    (&["'server' not allowed because", "no backend capability"], "Put servers into a `backend` or `listen` section."),
    (&["ignored because", "no backend capability"], "Put `{0}` into a `backend` or `listen` section."),
    (&["ignored because", "no frontend capability"], "Put `{0}` into a `frontend` or `listen` section."),
    (&["is not within 0 and 256"], "A weight is a number from 0 to 256; {{Weights.Passing}} is one."),
    // What refers to something that is not there.
    (&["unable to find required default_backend"], "Add a section `backend {-1}`, or correct the name."),
    (&["unable to find required use_backend"], "Add a section `backend {-1}`, or correct the name."),
    (&["unable to find server", "use-server"], "Add a server of that name, or take the `use-server` line away: servers from the catalog come and go."),
    (&["unable to find required server", "for tracking"], "Name a server as `BACKEND/SERVER`, and one that is always there."),
    (&["unable to find required resolvers"], "Add a section `resolvers {-1}`, or take the word away: instances have IP addresses."),
    (&["unable to find stick-table"], "Add a `stick-table` to the section `{-1}`, or name one that has it."),
    (&["unable to find table", "referenced by"], "Add a `stick-table` line to that section, or name another by `table NAME`."),
    (&["unable to find the cache"], "Add a section `cache {-1}`, or correct the name."),
    (&["unknown http-errors section"], "Add a section `http-errors {-1}`, or correct the name."),
    (&["no such ACL : '"], "Define it before this line: `acl {-1} …`; a test without a name stands in braces: `{ path_beg /api }`."),
    (&["unknown fetch method '"], "Correct the name of the sample (`path`, `src`, `req.hdr(NAME)`…), or define an `acl` of that name and use it without braces."),
    (&["missing closing '}' in condition"], "Close the condition with ` }`, with a blank before it."),
    (&["expects either 'if' or 'unless' followed by a condition"], "Write `if` or `unless` before the condition."),
    (&["missing ']'"], "Close the expression: `%[…]`, without blanks in it or in quotes."),
    (&["no pattern to match against"], "Write what is to be matched behind the sample, or `-m found` to ask whether it is there."),
    (&["tries to use incompatible"], "Give both the same `mode`, in each section or in `defaults`."),
    (&["rules ignored for", "require HTTP mode"], "Write `mode http` into the section or its `defaults`."),
    (&["not usable with", "needs 'mode http'"], "Write `mode http`, or `option tcplog`."),
    (&["uses http-check rules without 'option httpchk'"], "Add `option httpchk` to the section."),
    (&["uses tcp-check rules without 'option tcp-check'"], "Add `option tcp-check` to the section."),
    (&["log format ignored for", "no log address"], "Add `log global` to the section or its `defaults`."),
    (&["action is final and has no condition"], "Give the line before a condition, or move this line before it."),
    // Values.
    (&["missing timeouts for"], "Write `timeout connect 2s`, `timeout client 60s` and `timeout server 60s` into `defaults`, as long as your requests need."),
    (&["timer overflow"], "Write a shorter time, with a unit: `30s`, `10m`, `1h`."),
    (&["unexpected character '", "' in 'timeout"], "Write a number and a unit: `500ms`, `30s`, `10m`, `1h`, `1d`."),
    (&["expects an integer value (in milliseconds)"], "Write a time behind it: `30s`; where it comes from a value, that is empty."),
    (&["is suspiciously small"], "Write the unit: `{-1}`, or the seconds that are meant."),
    (&["'timeout' supports"], "Correct the name of the time-out; `http-keep-alive` is written with two hyphens."),
    (&["unknown proxy mode"], "Write `mode http` or `mode tcp`; TLS is a matter of the `bind` line: `bind :443 ssl crt FILE`."),
    (&["balance only supports"], "Write one of these behind `balance`; `hdr` and `rdp-cookie` need a name: `hdr(Host)`. `random` is taken, too."),
    (&["balance url_param requires"], "Write the name of the parameter: `balance url_param NAME`."),
    (&["'hash-type' only supports"], "Write `hash-type consistent`."),
    (&["unknown option '", "did you mean"], "Correct the name behind `option`, if HAProxy's guess is right: `{1}`."),
    (&["unknown option '"], "Correct or take away `option {0}`; it may be of another version of HAProxy."),
    (&["unknown log facility"], "Write one of `daemon`, `user`, `local0` to `local7`."),
    (&["log : expects <address> and <facility>"], "Write `log stdout format raw local0`, or `log 127.0.0.1:514 local0`."),
    (&["no such format"], "Write `%%` for the sign itself, or correct the name behind `%`."),
    (&["cannot find user id"], "Create the user, or name one that there is on this machine."),
    (&["cannot find group id"], "Create the group, or name one that there is on this machine."),
    (&["'level' only supports"], "Write `level admin`, so that servers can be changed without a reload."),
    (&["missing or invalid mode"], "Write the rights as an octal number: `mode 600`."),
    (&["'nbthread' value must be between"], "Take `nbthread` away: HAProxy starts a thread for each processor."),
    (&["negation/default currently supported only"], "Take `no` away, and write the keyword that does what you mean."),
    // Files.
    (&["unable to stat SSL certificate"], "Put the certificate with its key there as PEM, readable for HAProxy, before the configuration names it."),
    (&["no SSL certificate specified for bind"], "Add `crt FILE` to the `bind` line."),
    (&["verify is enabled by default but no CA file"], "Add `verify required ca-file FILE` with the authority that signed the servers' certificates, or `verify none` where the network is trusted."),
    (&["Couldn't open the ca-file"], "Put the authorities' certificates there as PEM, readable for HAProxy."),
    (&["failed to open pattern file"], "Make the file by a `[[template]]` of kind \"map\", or put it there; `opt@` before its name (3.0 and later) lets it be missing."),
    (&["cannot open file"], "Make the file by a `[[template]]`, or put it there, readable for HAProxy."),
    (&["error opening file"], "Put the file there, readable for HAProxy, or correct its name."),
    (&["error in Lua file"], "Put the file there, or correct it at the place that is named."),
    (&["Missing LF on last line"], "End the template with a line end."),
    // Words of a line.
    (&["unmatched quote"], "Close the quote on the same line. A value of the catalog cannot have opened it: it is escaped."),
    (&["truncated or invalid hexadecimal"], "Write two hexadecimal digits behind `\\x`, or `\\\\` for a backslash."),
    (&["forbidden first char in environment variable"], "Write `\\$` for the sign itself between double quotes."),
    (&["unmatched brace in environment variable"], "Close the name with `}`, or write `\\$` for the sign itself."),
    (&["too many words"], "Split the line: several `acl` lines of one name are as good as one. Long lists belong into a file: `-f FILE`."),
    (&["Stray NUL character"], "Take the NUL out of the template or the file that it reads."),
];

#[cfg(test)]
mod tests;

//! What a real HAProxy says about a mistake, and what Gatewright advises.

use gatewright::lint::help_for;
use support::haproxies::{Version, haproxies};

use super::validated;

const GLOBAL: &str = "global\n    hard-stop-after 10m\n";
const DEFAULTS: &str = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
const FRONTEND: &str = "frontend f\n    bind 127.0.0.1:18881\n    default_backend b\n";
const BACKEND: &str = "backend b\n    server s 127.0.0.1:9\n";

/// The section that a line is added to, the line, and how the sentence begins.
#[rustfmt::skip] // One message, one line.
const CASES: &[(&str, &str, &str)] = &[
    ("global", "nbproc 2", "Take `nbproc` away; `nbthread`"),
    ("global", "bind-process 1", "Take it away: HAProxy has one process;"),
    ("global", "debug", "Take it away; `haproxy -d`"),
    ("global", "tune.chksize 1024", "Take it away; `tune.bufsize` counts."),
    ("global", "tune.ssl.capture-cipherlist-size 1", "Write `tune.ssl.capture-buffer-size`."),
    ("global", "user nobody-of-this-name", "Create the user,"),
    ("global", "group nobody-of-this-name", "Create the group,"),
    ("global", "nosuch 1", "HAProxy's configuration manual lists what a `global` section takes;"),
    ("global", "load-server-state-from-file global", "It belongs into `defaults` or a backend;"),
    ("global", "stats socket /tmp/x level boss", "Write `level admin`,"),
    ("global", "stats socket /tmp/x mode abc", "Write the rights as an octal number:"),
    ("global", "log stdout", "Write `log stdout format raw local0`,"),
    ("global", "lua-load /none.lua", "Put the file there, or correct it"),
    ("global", "no quic", "Take `no` away,"),
    ("global", "nbthread 9999", "Take `nbthread` away:"),
    ("defaults", "redispatch", "Write `option redispatch`."),
    ("defaults", "contimeout 1s", "Write `timeout connect`."),
    ("defaults", "clitimeout 1s", "Write `timeout client`."),
    ("defaults", "srvtimeout 1s", "Write `timeout server`."),
    ("defaults", "timeout clitimeout 1s", "Write `timeout client`."),
    ("defaults", "timeout http-keepalive 1s", "Correct the name of the time-out;"),
    ("defaults", "timeout connect 5x", "Write a number and a unit:"),
    ("defaults", "timeout connect", "Write a time behind it:"),
    ("defaults", "timeout connect 5000000000", "Write a shorter time, with a unit:"),
    ("defaults", "option forceclose", "Take it away, or write `option httpclose`."),
    ("defaults", "option http-tunnel", "Take it away; `timeout tunnel`"),
    ("defaults", "option http_proxy", "Write `http-request do-resolve`"),
    ("defaults", "option frwardfor", "Correct the name behind `option`, if HAProxy's guess is right: `forwardfor`."),
    ("defaults", "option qqqqqqqqqq", "Correct or take away `option qqqqqqqqqq`;"),
    ("defaults", "grace 1s", "Take `grace` away;"),
    ("defaults", "mode health", "Write `mode http` and `http-request return status 200`."),
    ("defaults", "mode https", "Write `mode http` or `mode tcp`;"),
    ("frontend", "reqadd X:\\ 1", "Write `http-request add-header NAME VALUE`,"),
    ("frontend", "reqdel X", "Write `http-request del-header NAME`;"),
    ("frontend", "reqrep ^a b", "Write `http-request replace-path`,"),
    ("frontend", "reqirep ^a b", "Write `http-request` with that action"),
    ("frontend", "reqdeny ^a", "Write `http-request` with that action"),
    ("frontend", "reqpass ^a", "Write `http-request` or `http-response` with the action"),
    ("frontend", "reqsetbe ^a b", "Write `use_backend NAME if …`."),
    ("frontend", "reqiadd x", "Write `http-request add-header NAME VALUE`."),
    ("frontend", "rspadd X:\\ 1", "Write `http-response add-header NAME VALUE`,"),
    ("frontend", "rspidel X", "Write `http-response del-header NAME`;"),
    ("frontend", "rsprep ^a b", "Write `http-response` with that action"),
    ("frontend", "block if TRUE", "Write `http-request deny` with the same condition."),
    ("frontend", "monitor-net 10.0.0.0/8", "Write `http-request return status 200 if { src ADDRESSES }`."),
    ("frontend", "use-backend b", "It is written with a low line: `use_backend`."),
    ("frontend", "defualt_backend b", "Write `default_backend` if that is meant."),
    ("frontend", "use_backend zz", "Add a section `backend zz`,"),
    ("frontend", "use_backend b if nosuch", "Define it before this line: `acl nosuch …`;"),
    ("frontend", "acl x path_bg /", "Correct the name of the sample"),
    ("frontend", "acl a/b path /", "Letters, digits and `-_.:` are taken in a name."),
    ("frontend", "http-request deny if { path /", "Close the condition with ` }`,"),
    ("frontend", "http-request deny path /x", "Write `if` or `unless` before the condition."),
    ("frontend", "http-request set-header X %[path", "Close the expression:"),
    ("frontend", "http-request track-sc0 src table zz", "Add a `stick-table` line to that section,"),
    ("frontend", "http-request cache-use zz", "Add a section `cache "),
    ("frontend", "errorfiles zz", "Add a section `http-errors "),
    ("frontend", "http-request deny\n    http-request deny", "Give the line before a condition,"),
    ("frontend", "acl x path_beg", "Write what is to be matched behind the sample,"),
    ("frontend", "log-format %zz", "Write `%%` for the sign itself,"),
    ("frontend", "log 127.0.0.1 local9", "Write one of `daemon`,"),
    ("frontend", "bind :99999", "A port is a number from 1 to 65535."),
    ("frontend", "bind 300.1.1.1:80", "Write an IP address,"),
    ("frontend", "bind 127.0.0.1", "Write a port behind the address: `127.0.0.1:8080`."),
    ("frontend", "bind :443 ssl", "Add `crt FILE` to the `bind` line."),
    ("frontend", "bind :443 ssl crt /none.pem", "Put the certificate with its key there as PEM,"),
    ("frontend", "bind :443 ssl crt-list /none", "Make the file by a `[[template]]`, or put it there,"),
    ("frontend", "server x 127.0.0.1:1", "Put servers into a `backend` or `listen` section."),
    ("frontend", "balance roundrobin", "Put `balance` into a `backend` or `listen` section."),
    ("frontend", "http-request deny if { path,map(/none.map) -m found }", "Make the file by a `[[template]]` of kind \"map\","),
    ("frontend", "log-format \"abc", "Close the quote on the same line."),
    ("frontend", "http-request return status 200 string a\\xZZ", "Write two hexadecimal digits"),
    ("frontend", "http-request return status 200 string \"${A B}\"", "Close the name with `}`,"),
    ("frontend", "http-request return status 200 string \"$0\"", "Write `\\$` for the sign itself between"),
    ("frontend", "option httplog\n    log-format \"x\"", "Add `log global` to the section"),
    ("backend", "appsession x len 5 timeout 3h", "Write `stick-table type string len 52"),
    ("backend", "bind :99", "Put `bind` into a `frontend` or `listen` section."),
    ("backend", "balance urlhash", "Write one of these behind `balance`;"),
    ("backend", "balance url_param", "Write the name of the parameter:"),
    ("backend", "hash-type consistant", "Write `hash-type consistent`."),
    ("backend", "url_hash", "Write `balance uri`"),
    ("backend", "http-check expect status 200", "Add `option httpchk` to the section."),
    ("backend", "tcp-check connect", "Add `option tcp-check` to the section."),
    ("backend", "errorfile 503 /none", "Put the file there, readable for HAProxy,"),
    ("backend", "option httpchk GET / HTTP/1.1\nHost:\\ x", "`Host: x` looks like the rest of the line before:"),
    ("backend", "stick-table type ip size 1k\n    stick on src table zz", "Add a `stick-table` to the section `zz`,"),
    ("backend", "server s 127.0.0.1:10", "Give each server a name of its own,"),
    ("backend", "server t 127.0.0.1:9 chek", "Write `check` if that is meant."),
    ("backend", "server t name.invalid:80", "Write an IP address: HAProxy looks names up once,"),
    ("backend", "server t", "Write `server NAME ADDRESS:PORT`;"),
    ("backend", "server t 127.0.0.1:9 weight 999", "A weight is a number from 0 to 256;"),
    ("backend", "server t 127.0.0.1:9 id 0", "Write a number from 1 to 2147483647,"),
    ("backend", "server t 127.0.0.1:9 id 5\n    server u 127.0.0.1:8 id 5", "Give each server an id of its own,"),
    ("backend", "server t 127.0.0.1:9 ssl", "Add `verify required ca-file FILE`"),
    ("backend", "server t 127.0.0.1:9 ssl ca-file /none", "Put the authorities' certificates there"),
    ("backend", "server t 127.0.0.1:9 track b/zz", "Name a server as `BACKEND/SERVER`,"),
    ("backend", "server t 127.0.0.1:9 resolvers zz", "Add a section `resolvers zz`,"),
    ("backend", "server t/x 127.0.0.1:9", "Write the name by {{serverName this}}:"),
    ("backend", "use-server zz if TRUE", "Add a server of that name,"),
    ("end", "listen stats *:9997\n    stats enable", "Write the name alone on this line,"),
    ("end", "backend", "Write a name behind `backend`;"),
    ("end", "backend a/b", "Write the name by {{backendName Name}}:"),
    ("end", "backend b", "Rename one of them,"),
    ("end", "frontend g\n    default_backend b", "Add a line `bind ADDRESS:PORT`,"),
    ("end", "backend t\n    mode tcp\n    server s 127.0.0.1:1\nfrontend g\n    bind 127.0.0.1:18882\n    default_backend t", "Give both the same `mode`,"),
    ("end", "backend t\n    mode tcp\n    server s 127.0.0.1:1\n    http-request deny if TRUE", "Write `mode http` into the section"),
    ("end", "frontend g\n    mode tcp\n    option httplog\n    bind 127.0.0.1:18882\n    default_backend t\nbackend t\n    mode tcp", "Write `mode http`, or `option tcplog`."),
];

/// Those that one of the two versions says, or says otherwise.
#[rustfmt::skip] // One message, one line.
const OF_ONE: &[(&str, &str, &str, &str)] = &[
    ("2.6", "frontend", "bind-process 1", "Take `bind-process` away: there is one process, and HAProxy 2.7"),
    ("3.2", "frontend", "bind-process 1", "Take `bind-process` away: there is one process."),
    ("3.2", "global", "stats bind-process 1", "Take `stats bind-process` away:"),
    ("2.6", "frontend", "bind :1 process 1", "Write `thread` with numbers"),
    ("3.2", "frontend", "bind :1 process 1", "Write `thread` with numbers"),
    ("3.2", "defaults", "option accept-invalid-http-request", "Have the other side send valid messages,"),
    ("3.2", "end", "program p\n    command true", "Start the program by systemd"),
    ("3.2", "backend", "server t 127.0.0.1:9 check inter 5", "Write the unit: `5ms`,"),
];

fn configuration(place: &str, line: &str) -> String {
    let mut text = String::new();
    for (name, section) in [
        ("global", GLOBAL),
        ("defaults", DEFAULTS),
        ("frontend", FRONTEND),
        ("backend", BACKEND),
        ("end", ""),
    ] {
        text.push_str(section);
        if name == place {
            text.push_str(&format!(
                "{}{line}\n",
                if name == "end" { "" } else { "    " }
            ));
        }
    }
    text
}

fn helps(version: &Version, text: &str) -> Vec<String> {
    let found = validated(version, text);
    found
        .iter()
        .map(|one| help_for(one).unwrap_or_else(|| format!("(none for {})", one.message)))
        .collect()
}

#[haproxies(ends)]
fn what_haproxy_really_says_is_explained(version: Version) {
    let of_this = OF_ONE
        .iter()
        .filter(|(of, ..)| *of == version.behaves_as())
        .map(|(_, place, line, begins)| (place, line, begins));
    for (place, line, begins) in CASES.iter().map(|(a, b, c)| (a, b, c)).chain(of_this) {
        let told = helps(&version, &configuration(place, line));
        assert!(
            told.iter().any(|help| help.starts_with(begins)),
            "{version} {line}: {told:#?}"
        );
    }
}

#[haproxies(ends)]
fn what_concerns_the_whole_file_is_explained(version: Version) {
    for (text, begins) in [
        (
            "frontend f\n    bind 127.0.0.1:18881\n",
            "Write `timeout connect 2s`,",
        ),
        ("foo bar\n", "Begin the file with a section:"),
        (
            "backend b\n    server s 127.0.0.1:9",
            "End the template with a line end.",
        ),
        (
            &format!("frontend f\n    acl a src{}\n", " 10.0.0.1".repeat(70)),
            "Split the line:",
        ),
        ("frontend f x y\n    bind :1\n", "Write the name alone"),
    ] {
        let told = helps(&version, text);
        assert!(
            told.iter().any(|help| help.starts_with(begins)),
            "{version} {text:?}: {told:#?}"
        );
    }
}

#[haproxies(ends)]
fn a_valid_configuration_is_not_explained(version: Version) {
    assert_eq!(validated(&version, &configuration("end", "")), []);
}

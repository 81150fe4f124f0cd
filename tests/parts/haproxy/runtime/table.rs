//! What a server can be given at run time: the tables against the real ones.

use gatewright::haproxy::config::arguments::{of_bind_option, of_server_option};
use gatewright::haproxy::runtime::{
    Answer, Dynamic, Refusal, ServerState, algorithm, keyword, names_loaded_file,
};
use support::haproxies::haproxies;

use super::*;
use crate::real;

/// `balance`, `hash-type`, and whether the backend takes servers.
pub(super) const ALGORITHMS: &[(&str, &str, bool)] = &[
    ("", "", true),
    ("roundrobin", "", true),
    ("leastconn", "", true),
    ("first", "", true),
    ("random", "", true),
    ("random(3)", "", true),
    ("static-rr", "", false),
    ("source", "", false),
    ("source", "map-based sdbm", false),
    ("source", "consistent", true),
    ("uri", "", false),
    ("uri whole", "consistent sdbm avalanche", true),
    ("url_param id", "", false),
    ("url_param id", "consistent", true),
    ("hdr(x)", "", false),
    ("hdr(x)", "consistent", true),
    ("rdp-cookie(c)", "", false),
    ("rdp-cookie(c)", "consistent", true),
    ("hash req.fhdr(x)", "", false),
    ("hash req.fhdr(x)", "consistent", true),
];

/// Every keyword of server lines that one of the versions has registered (`haproxy -dKcfg`), with a
/// plausible value, and two that none has. `{d}` is the directory. Some are tried in several ways;
/// what they name beside their first word is known to be taken.
const KEYWORDS: &str = "addr 127.0.0.1|agent-addr 127.0.0.1|agent-check agent-port 1|agent-inter 2s|\
agent-port 1234|agent-send hi|allow-0rtt|alpn h2,http/1.1|backup|ca-file {d}/a.crt|cc cubic|check|\
check-alpn h2|check-pool-conn-name x|check-proto h1|check-reuse-pool|check-send-proxy|check-sni x|\
check-sni-auto|check-ssl verify none|check-via-socks4|ciphers ECDHE-RSA-AES128-GCM-SHA256|\
ciphersuites TLS_AES_128_GCM_SHA256|client-sigalgs RSA-PSS+SHA256|cookie c|crl-file {d}/crl.pem|\
crt {d}/a.pem ssl verify none|curves X25519|disabled|downinter 2s|enabled|error-limit 3|fall 3|fastinter 1s|\
force-sslv3|force-tlsv10|force-tlsv11|force-tlsv12|force-tlsv13|guid g1|hash-key addr-port|healthcheck none|id 77|\
idle-ping 10s|init-addr none|init-state down|inter 3s|ktls on|log-bufsize 1000|log-proto octet-count|\
max-reuse 5|maxconn 10|maxqueue 10|minconn 5|namespace x|no-agent-check|no-backup|no-check|\
no-check-reuse-pool|no-check-send-proxy|no-check-sni-auto|no-check-ssl|no-renegotiate|no-send-proxy|no-send-proxy-v2|\
no-send-proxy-v2-ssl|no-send-proxy-v2-ssl-cn|no-sni-auto|no-ssl|no-ssl-reuse|no-sslv3|no-tfo|no-tls-tickets|\
no-tlsv10|no-tlsv11|no-tlsv12|no-tlsv13|no-verifyhost|non-stick|npn http/1.1|observe layer4|\
on-error mark-down|on-marked-down shutdown-sessions|on-marked-up shutdown-backup-sessions|\
pool-conn-name req.hdr(host)|pool-low-conn 1|pool-max-conn 10|pool-purge-delay 1s|port 1234|proto h1|\
proxy-v2-options unique-id|redir http://x|renegotiate|resolve-net 10.0.0.0/8|resolve-opts allow-dup-ip|\
resolve-prefer ipv4|resolvers r|rise 2|send-proxy|send-proxy-v2|send-proxy-v2-ssl|\
send-proxy-v2-ssl-cn|set-proxy-v2-tlv-fmt(0x20) x|shard 1|sigalgs RSA-PSS+SHA256|slowstart 5s|\
sni req.hdr(host)|sni str(\"a\")|sni-auto|socks4 127.0.0.1:1|source 127.0.0.2|source 127.0.0.2 interface lo|\
source 127.0.0.2 usesrc clientip|ssl verify none|ssl ca-file {d}/a.crt|ssl-max-ver TLSv1.3|\
ssl-min-ver TLSv1.2|ssl-reuse|stick|strict-maxconn|tcp-md5sig x|tcp-ut 5s|tfo|tls-tickets|track named/tracked|\
verify none|verify required|verifyhost x.example|weight 5|ws auto";

// H14
#[haproxies]
async fn keywords_are_taken_as_the_table_says(version: Version) {
    let worker = Worker::start(&version).await;
    let session = &worker.sessions()[0];
    let directory = worker.directory.path().to_str().unwrap();
    for options in KEYWORDS.split('|') {
        let name = options.split(' ').next().unwrap();
        let options = options.replace("{d}", directory);
        let at = server("b", "new");
        let batch = session.send(&[add(at.clone(), &options)]).await;
        let taken = batch.is_done(1);
        let table = keyword(worker.version, name);
        let wanted = table == Dynamic::Yes || (name == "enabled" && version.adds_enabled_servers());
        assert_eq!(taken, wanted, "{version}: {options}: {table:?}, {batch:?}");
        if taken {
            let maint = Command::SetState {
                at: at.clone(),
                state: ServerState::Maint,
            };
            assert!(session.send(&[maint]).await.is_done(1));
        }
        let gone = session.send(&[Command::DeleteServer(at)]).await;
        assert!(gone.is_done(1), "{version}: {options}: {gone:?}");
    }
}

#[haproxies]
async fn files_that_are_not_loaded_are_refused(version: Version) {
    let worker = Worker::start(&version).await;
    let session = &worker.sessions()[0];
    for name in KEYWORDS.split('|').filter_map(|o| o.split(' ').next()) {
        let loaded = ["ca-file", "crl-file", "crt"].contains(&name);
        assert_eq!(names_loaded_file(name), loaded, "{name}");
        if loaded {
            let options = format!("ssl verify none {name} {}", worker.file("b.pem"));
            let batch = session.send(&[add(server("b", "new"), &options)]).await;
            assert!(batch.refusal().is_some(), "{version}: {options}: {batch:?}");
        }
    }
}

// H14
/// What a version has registered for server lines is all in the list above.
#[haproxies]
async fn no_keyword_of_a_version_is_left_out(version: Version) {
    let tried: Vec<&str> = KEYWORDS
        .split('|')
        .flat_map(|options| options.split([' ', '(']))
        .collect();
    let text = registered(&version);
    let names: Vec<&str> = options(&text, "server <name> <addr> ")
        .map(|(name, _)| name)
        .collect();
    assert!(names.len() > 90, "{version}: {text}");
    for name in names {
        assert!(tried.contains(&name), "{version}: {name}");
    }
}

/// The keywords of configurations that a version has registered, as it lists them.
fn registered(version: &Version) -> String {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("h.cfg");
    let text = real::configuration(directory.path(), free_port(), "one");
    std::fs::write(&main, text).unwrap();
    let output = std::process::Command::new(version.program())
        .args(["-dKcfg", "-c", "-f"])
        .arg(&main)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The options of a keyword, and whether each takes an argument: `backlog +1`.
fn options<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = (&'a str, bool)> {
    let lines = text.lines();
    lines
        .filter_map(move |line| line.trim().strip_prefix(keyword))
        .map(|rest| {
            let (name, count) = rest.split_once(' ').unwrap_or((rest, ""));
            (name, count.starts_with('+'))
        })
}

#[haproxies]
fn options_take_the_arguments_that_the_tables_say(version: Version) {
    let text = registered(&version);
    // These read what follows them by themselves.
    let own = ["set-proxy-v2-tlv-fmt", "usesrc"];
    let mut count = 0;
    for (name, one) in options(&text, "server <name> <addr> ") {
        let wanted = usize::from(one || own.contains(&name));
        assert_eq!(
            of_server_option(name),
            Some(wanted),
            "{version}: server {name}"
        );
        count += 1;
    }
    let plain = options(&text, "bind <addr> ").filter(|(name, _)| *name != "ssl");
    for (name, one) in plain.chain(options(&text, "bind <addr> ssl ")) {
        assert_eq!(
            of_bind_option(name),
            Some(usize::from(one)),
            "{version}: bind {name}"
        );
        count += 1;
    }
    assert!(count > 150, "{version}: {text}");
}

// H14
#[haproxies]
async fn algorithms_take_servers_as_the_table_says(version: Version) {
    let words = |text: &str| -> Vec<String> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let worker = Worker::start(&version).await;
    let session = &worker.sessions()[0];
    for (index, (balance, hash_type, wanted)) in ALGORITHMS.iter().enumerate() {
        let hash_type = words(hash_type);
        let table = algorithm(
            &words(balance),
            (!hash_type.is_empty()).then_some(hash_type.as_slice()),
        );
        assert_eq!(table == Dynamic::Yes, *wanted, "{balance}");
        let backend = format!("algorithm{index}");
        let weight = Command::SetWeight {
            at: server(&backend, "s"),
            weight: 7,
        };
        let batch = session
            .send(&[add(server(&backend, "new"), ""), weight])
            .await;
        for answer in &batch.answers {
            let refused = matches!(
                answer,
                Answer::Refused {
                    kind: Refusal::StaticBalance,
                    ..
                }
            );
            assert_eq!(refused, !wanted, "{version}: {balance}: {batch:?}");
        }
    }
}

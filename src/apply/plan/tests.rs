//! Differences in words and in counts.

use proptest::prelude::*;

use super::diff::diff_sets;
use super::*;
use crate::apply::set::Candidate;
use crate::haproxy::runtime::{AdminState, ServerRow, Version};

const OLD: &str = "\
global
    nbthread 2
defaults
    mode tcp
frontend web
    bind *:80
    bind 127.0.0.1:81 ssl crt /a.pem
    default_backend api
backend api
    server a 10.0.0.1:80 check
    server b 10.0.0.2:80 check
backend other
    server a 10.0.0.1:80
";

fn file(path: &str, role: Role, text: &str) -> SetFile {
    SetFile {
        destination: path.into(),
        role,
        mode: None,
        text: text.into(),
    }
}

fn set(text: &str) -> Vec<SetFile> {
    vec![file("/h.cfg", Role::Config, text)]
}

fn told(new: &str) -> String {
    diff(&Config::parse(OLD), &Config::parse(new)).to_string()
}

// H04
/// HAProxy takes a port modulo 65536 on its socket (2.6 to 3.2) and a word after `;` as a command, so
/// what is no address, port or weight must never get that far.
#[test]
fn what_is_no_port_weight_or_address_is_never_a_command() {
    let text = |server: &str| {
        format!(
            "backend api\n    balance roundrobin\n    server a 10.0.0.1:80 weight 1\n    {server}\n"
        )
    };
    let rows: Vec<ServerRow> = [("a", 80), ("b", 81)]
        .into_iter()
        .enumerate()
        .map(|(at, (name, port))| row("api", name, at as u32 + 1, [10, 0, 0, 1].into(), port))
        .collect();
    let known = Known {
        version: Version::new(3, 2, 0),
        rows: &rows,
        leaving: &BTreeMap::new(),
        doubtful: &Doubt::None,
    };
    let plan = |server: &str| {
        let comparison = compare(
            &set(&text("server b 10.0.0.1:81 weight 1")),
            &set(&text(server)),
        );
        match &comparison.reload {
            Some(reason) => Plan::Reload {
                reason: reason.clone(),
            },
            None => comparison.plan(known, Policy::default()),
        }
    };
    assert!(matches!(
        plan("server b 10.0.0.1:82 weight 1"),
        Plan::Commands(_)
    ));
    for server in [
        "server b 10.0.0.1:99999 weight 1",
        "server b 10.0.0.1:65536 weight 1",
        "server b 10.0.0.1:0 weight 1",
        "server b 10.0.0.1:-1 weight 1",
        "server b 10.0.0.1:+81 weight 1",
        "server b 10.0.0.1 weight 1",
        "server b 10.0.0.1:81 weight 257",
        "server b 10.0.0.1:81 weight -1",
        "server b 10.0.0.256:81 weight 1",
        "server b unix@/run/x weight 1",
        "server b \"10.0.0.1;del server api/a:81\" weight 1",
    ] {
        let plan = plan(server);
        assert!(matches!(plan, Plan::Reload { .. }), "{server}: {plan:?}");
    }
}

// H17
/// What HAProxy resolves itself has the address that HAProxy gives it.
#[test]
fn servers_that_haproxy_resolves_are_not_ours() {
    let text = |host: &str, count: u32| {
        format!(
            "resolvers dns\n    nameserver one 127.0.0.1:53\nbackend api\n    balance roundrobin\n    \
             server-template t 1-{count} api.example.com:80 resolvers dns init-addr none\n    \
             server named web.example.com:80 resolvers dns\n    server a {host}:80\n"
        )
    };
    let mut rows = vec![row("api", "a", 1, [10, 0, 0, 1].into(), 80)];
    // As its resolver has left them: other addresses, one without any.
    for (at, name) in ["t1", "t2", "named"].into_iter().enumerate() {
        let mut found = row(
            "api",
            name,
            at as u32 + 2,
            [10, 9, 9, at as u8].into(),
            8_080,
        );
        found.fqdn = true;
        found.address = found.address.filter(|_| at != 1);
        found.admin = AdminState(if at == 1 { 0x20 } else { 0 });
        rows.push(found);
    }
    let old = set(&text("10.0.0.1", 2));
    let [pool] = &pools(&old)[..] else {
        panic!("one backend");
    };
    assert_eq!(pool.compare(&rows), [], "a look finds nothing to put right");
    let known = Known {
        version: Version::new(3, 2, 0),
        rows: &rows,
        leaving: &BTreeMap::new(),
        doubtful: &Doubt::All,
    };
    let plan = |new: String| {
        let comparison = compare(&old, &set(&new));
        match comparison.reload {
            Some(_) => None,
            None => match comparison.plan(known, Policy::default()) {
                Plan::Commands(steps) => Some(*steps),
                _ => None,
            },
        }
    };
    let steps = plan(text("10.0.0.2", 2)).expect("the server beside them moves by commands");
    let spoken: Vec<String> = steps
        .servers
        .all()
        .map(|command| format!("{command:?}"))
        .collect();
    assert!(
        spoken.iter().all(|command| command.contains("\"a\"")),
        "{spoken:?}"
    );
    assert!(plan(text("10.0.0.1", 3)).is_none());
    assert!(plan(text("10.0.0.1", 2).replace("web.ex", "api.ex")).is_none());
}

fn row(backend: &str, server: &str, id: u32, address: std::net::IpAddr, port: u16) -> ServerRow {
    ServerRow {
        backend: backend.into(),
        server: server.into(),
        id,
        address: Some(address),
        port,
        operational: 2,
        admin: AdminState(0),
        user_weight: 1,
        initial_weight: 1,
        fqdn: false,
        forced_id: false,
        check_enabled: false,
    }
}

#[test]
fn comments_quotes_and_the_revision_are_no_change() {
    let new = format!(
        "# hello\n{}",
        OLD.replace("mode tcp", "\n  \"mode\"  tcp # x")
    );
    let running = Candidate::new(set(OLD));
    let candidate = Candidate::new(set(&new));
    assert_ne!(running.revision, candidate.revision);
    assert_eq!(planned(&running.files, &candidate.files), Plan::Nothing);
    assert_eq!(revision(&candidate.files), Some(candidate.revision.clone()));
    let Plan::Reload { reason } = planned(&set(OLD), &set(&OLD.replace("tcp", "http"))) else {
        panic!("it must be loaded again");
    };
    assert_eq!(reason, "changed defaults");
}

/// What must be done to a worker of 2.6 that runs the old set.
fn planned(old: &[SetFile], new: &[SetFile]) -> Plan {
    let rows = rows(old);
    let known = Known {
        version: Version::new(2, 6, 12),
        rows: &rows,
        leaving: &BTreeMap::new(),
        doubtful: &Doubt::None,
    };
    compare(old, new).plan(known, Policy::default())
}

/// The servers of a set as a worker shows them.
fn rows(files: &[SetFile]) -> Vec<ServerRow> {
    let mut rows = Vec::new();
    for pool in pools(files) {
        for (name, wanted) in &pool.servers {
            rows.push(ServerRow {
                backend: pool.backend.clone(),
                server: name.clone(),
                id: wanted.id.unwrap_or(rows.len() as u32 + 1),
                address: Some(wanted.address),
                port: wanted.port,
                operational: 2,
                admin: AdminState(if wanted.disabled { 5 } else { 0 }),
                user_weight: wanted.weight,
                initial_weight: wanted.weight,
                fqdn: false,
                forced_id: wanted.id.is_some(),
                check_enabled: false,
            });
        }
    }
    rows
}

#[test]
fn changes_are_told_in_words() {
    let b = "    server b 10.0.0.2:80 check\n";
    assert_eq!(told(OLD), "no change");
    assert_eq!(
        told(&OLD.replace(b, &format!("{b}    server c h:1\n"))),
        "+1 −0 servers in api"
    );
    assert_eq!(
        told(&OLD.replace(b, "    server-template t 3 h:1\n")),
        "+3 −1 servers in api"
    );
    assert_eq!(
        told(&OLD.replace("0.2:80 check", "0.2:81 check")),
        "1 server changed in api"
    );
    assert_eq!(
        told(&OLD.replace(
            "server a 10.0.0.1:80 check\n    server b 10.0.0.2:80 check",
            "server b 10.0.0.2:80 check\n    server a 10.0.0.1:80 check"
        )),
        "servers in another order in api"
    );
    assert_eq!(told(&OLD.replace("bind *:80", "bind :80")), "no change");
    assert_eq!(
        told(&OLD.replace("bind *:80", "bind :8080")),
        "no longer listens on *:80 in frontend web; listens on *:8080 in frontend web"
    );
    assert_eq!(
        told(&OLD.replace("backend other", "backend new")),
        "removed backend other; added backend new"
    );
    let many = OLD
        .replace("nbthread 2", "nbthread 3")
        .replace("bind *:80", "bind :8080")
        .replace("backend other", "backend new");
    assert_eq!(
        told(&many),
        "removed backend other; added backend new; no longer listens on *:80 in frontend web and 2 more"
    );
    assert_eq!(
        told(&OLD.replace(b, &format!(".if feature(X)\n{b}.endif\n"))),
        "1 server changed in api; changed backend api"
    );
}

#[test]
fn maps_and_other_files_count() {
    let with = |map: &str, page: &str| {
        let mut files = set(OLD);
        files.push(file("/etc/h.map", Role::Map, map));
        files.push(file("/etc/503.http", Role::Other, page));
        files
    };
    let old = with("a x\nb y\n", "1");
    let told = |new: Vec<SetFile>| diff_sets(&old, &new).to_string();
    assert_eq!(told(with("# c\na  x \n\nb y\n", "1")), "no change");
    assert_eq!(told(with("a x\nc y\n", "1")), "+1 −1 entries in h.map");
    assert_eq!(
        told(with("a z\nb y\n", "2")),
        "1 entry changed in h.map; changed 503.http"
    );
    assert_eq!(
        told(with("b y\na x\n", "1")),
        "entries in another order in h.map"
    );
    assert_eq!(told(set(OLD)), "removed 503.http; removed h.map");
}

#[test]
fn moving_defaults_is_a_change() {
    let old = "defaults\n mode tcp\nbackend a\ndefaults\n mode http\nbackend b\n";
    let new = "defaults\n mode tcp\ndefaults\n mode http\nbackend a\nbackend b\n";
    let changes = diff(&Config::parse(old), &Config::parse(new));
    assert!(changes.sections_reordered);
}

fn any_config() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("frontend f".to_owned()),
        Just("backend b".to_owned()),
        Just("listen l".to_owned()),
        Just("defaults".to_owned()),
        Just("global".to_owned()),
        "server [a-d] 10\\.0\\.0\\.[1-3]:80( check| disabled)?",
        "bind :[1-4]( ssl)?",
        "mode (tcp|http)",
        "default-server (check|disabled)",
        Just(".if x".to_owned()),
        Just(".endif".to_owned()),
        "\"x",
    ];
    proptest::collection::vec(line, 0..25).prop_map(|lines| lines.join("\n") + "\n")
}

fn counts(changes: &Changes) -> [usize; 4] {
    let servers = changes.servers.values();
    [
        changes.sections_added.len(),
        changes.binds_added.len(),
        servers.clone().map(|s| s.added.len()).sum(),
        servers.map(|s| s.changed.len()).sum(),
    ]
}

fn counts_back(changes: &Changes) -> [usize; 4] {
    let servers = changes.servers.values();
    [
        changes.sections_removed.len(),
        changes.binds_removed.len(),
        servers.clone().map(|s| s.removed.len()).sum(),
        servers.map(|s| s.changed.len()).sum(),
    ]
}

proptest! {
    #[test]
    fn a_configuration_does_not_differ_from_itself(text in any_config()) {
        let config = Config::parse(&text);
        prop_assert!(diff(&config, &config).is_empty());
        let spaced = text.replace('\n', "   # x\n\n");
        if config.errors.is_empty() {
            prop_assert!(diff(&config, &Config::parse(&spaced)).is_empty());
        }
    }

    #[test]
    fn what_is_added_one_way_is_removed_the_other(one in any_config(), two in any_config()) {
        let (one, two) = (Config::parse(&one), Config::parse(&two));
        let (there, back) = (diff(&one, &two), diff(&two, &one));
        prop_assert_eq!(counts(&there), counts_back(&back));
        prop_assert_eq!(counts(&back), counts_back(&there));
        prop_assert_eq!(there.sections_reordered, back.sections_reordered);
    }
}

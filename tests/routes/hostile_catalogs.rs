//! Catalogs made of the pieces by which names, tags, metadata, addresses and sizes do harm: whatever is registered, a
//! service that behaves well is in traffic, memory is bounded, and no worker of HAProxy ends.

use fastrand::Rng;

use super::*;
use support::gatewright::Gatewright;
use support::usage;

/// The seed where `GATEWRIGHT_CATALOG_SEED` gives none; the same seed makes the same catalogs.
const SEED: u64 = 16;
/// How many catalogs a test makes; `GATEWRIGHT_CATALOG_ROUNDS` makes more.
const ROUNDS: u64 = 6;
/// Resident memory of an unoptimized program, in megabytes.
const MOST_MEMORY: f64 = 300.0;

const PIECES: [&str; 44] = [
    "a",
    "B",
    "0",
    "/",
    "//",
    "..",
    ".",
    ":",
    ";",
    "*",
    "*.",
    "?",
    "#",
    "=",
    ",",
    "-",
    "--",
    "@",
    "%",
    "%2e",
    "%00",
    "%[env(HOME)]",
    "${HOME}",
    "$DC",
    "\"",
    "'",
    "\\",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "{{",
    "}}",
    "global",
    "backend x",
    "unix@/x",
    "\u{e9}",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "\u{1fae9}",
    "\u{2603}",
    "1e309",
];
const OPTIONS: [&str; 20] = [
    "strip=",
    "prepend=/",
    "host=",
    "host=dst",
    "redirect=301,",
    "redirect=301,http://a/",
    "allow=",
    "deny=",
    "allow=ip:10.0.0.0/8",
    "deny=ip:::/0",
    "auth=",
    "auth=ops",
    "weight=",
    "weight=0.00001",
    "proto=",
    "proto=https",
    "proto=grpcs",
    "grpcservername=",
    "pxyproto=true",
    "register=",
];
const ADDRESSES: [&str; 11] = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "0.0.0.0",
    "255.255.255.255",
    "169.254.169.254",
    "localhost",
    "::ffff:127.0.0.1",
    "unix@/x",
    "a b",
    "",
];
const PORTS: [i64; 7] = [1, 9, 65_535, 0, -1, 65_536, 1 << 40];

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Up to four pieces, one in ten of them very often.
fn text(random: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(0..5) {
        let piece = PIECES[random.usize(..PIECES.len())];
        let times = match random.u8(..10) {
            0 => random.usize(1..10_000),
            _ => 1,
        };
        text.push_str(&piece.repeat(times));
    }
    text
}

fn tag(random: &mut Rng) -> String {
    let begin = [
        "urlprefix-",
        "urlprefix-/",
        "urlprefix-a.b/",
        "urlprefix-:",
        "urlprefix-*.a/",
        "",
    ];
    let mut tag = format!("{}{}", begin[random.usize(..begin.len())], text(random));
    for _ in 0..random.usize(0..4) {
        let option = OPTIONS[random.usize(..OPTIONS.len())];
        tag = format!("{tag} {option}{}", text(random));
    }
    tag
}

/// Services with their instances; Consul itself refuses some.
fn hostile(random: &mut Rng, round: u64) -> Vec<Value> {
    let count = random.usize(1..6);
    let service = |random: &mut Rng| match random.u8(..4) {
        0 => "web".to_owned(),
        _ => text(random),
    };
    (0..count)
        .map(|place| {
            let many = match random.u8(..6) {
                0 => random.usize(..2_000),
                _ => random.usize(..5),
            };
            let tags: Vec<String> = (0..many).map(|_| tag(random)).collect();
            // What an instance may weigh in Consul's interface.
            let mut weight = 0;
            let fits = |tag: &&String| {
                weight += tag.len();
                weight < 200_000
            };
            let tags: Vec<&String> = tags.iter().take_while(fits).collect();
            let note: String = text(random).chars().take(120).collect();
            json!({
                "Name": service(random),
                "ID": format!("{round}-{place}-{}", text(random)),
                "Address": ADDRESSES[random.usize(..ADDRESSES.len())],
                "Port": PORTS[random.usize(..PORTS.len())],
                "Tags": tags,
                "Meta": { "note": note },
            })
        })
        .collect()
}

/// Registers a catalog after the other; behind each a service that behaves well, called `good-…`, is in traffic.
fn holds(consul: &Consul, setup: &Setup, entrance: SocketAddr) {
    let seed = number("GATEWRIGHT_CATALOG_SEED", SEED);
    let mut gatewright: Option<Gatewright> = None;
    let mut random = Rng::with_seed(seed);
    let (mut good, mut taken) = (Vec::new(), 0);
    for round in 0..number("GATEWRIGHT_CATALOG_ROUNDS", ROUNDS) {
        let bodies = hostile(&mut random, round);
        taken += bodies
            .iter()
            .filter(|body| consul.register(body).is_ok())
            .count();
        let host = format!("good-{round}");
        let backend = Backend::start(&host).unwrap();
        let mut body = instance(&host, &host, backend.address());
        body["Tags"] = json!([format!("urlprefix-{host}/")]);
        consul.register(&body).unwrap();
        good.push(backend);
        // The first catalog is there before Gatewright.
        let gatewright = gatewright.get_or_insert_with(|| setup.run().unwrap());
        wait_for(LIMIT, "the service that behaves well", || {
            std::net::TcpStream::connect(entrance).ok()?;
            let (status, answer) = ask(entrance, &host, "/", &[]);
            (status == 200 && answer.contains(&host)).then_some(())
        })
        .unwrap_or_else(|error| {
            let bodies: String = bodies.iter().map(|one| format!("{one:.2000}\n")).collect();
            let log = gatewright.log();
            panic!(
                "{error} seed {seed}, round {round}\n{bodies}{:?}\n{log}",
                setup.status()
            )
        });
        let (_, most) = usage::memory(gatewright.process().pid()).unwrap();
        assert!(most < MOST_MEMORY, "{most} MB, seed {seed}, round {round}");
        let log = gatewright.log();
        assert!(
            !log.contains("killed (signal"),
            "seed {seed}, round {round}\n{log}"
        );
    }
    let pid = gatewright.as_mut().map(|one| one.process().pid());
    if let Some((_, most)) = pid.and_then(|pid| usage::memory(pid).ok()) {
        measured::note("hostile catalogs", "most memory", format!("{most:.0} MB"));
        measured::note("hostile catalogs", "instances that Consul took", taken);
    }
}

#[test]
fn routes_of_others_go_on_beside_any_catalog() {
    let consul = Consul::start().unwrap();
    let more = "[parameters]\nupstream_ca = \"/dev/null\"\n[apply]\nreload_interval = \"200ms\"\n";
    let (setup, entrance) = routed_by(&consul, &oldest(), more);
    holds(&consul, &setup, entrance);
}

const BEGIN: &str = "defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend in
    bind @bind@
{{#each (services)}}
    use_backend {{backendName Name}} if { req.hdr(host) -m str {{Name}} }
{{/each}}
{{#each (services)}}

backend {{backendName Name}}
";

/// A template of one's own that writes this into the backend of each service.
fn beside_any_catalog(body: &str) {
    let consul = Consul::start().unwrap();
    let [port] = ports::free().unwrap();
    let setup = Setup::new().unwrap();
    let begin = BEGIN.replace("@bind@", &at(port).to_string());
    setup
        .file("haproxy.cfg.hbs", &format!("{begin}{body}{{{{/each}}}}\n"))
        .unwrap();
    setup
        .settings(&format!(
            "[consul]\naddresses = [\"{}\"]\n[apply]\nreload_interval = \"200ms\"\n\
             [haproxy]\nmode = \"supervise\"\nbinary = {:?}\nmaster_socket = \"{{dir}}/master.sock\"\n\
             [state]\ndirectory = \"{{dir}}/state\"\n\
             [[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{{dir}}/haproxy.cfg\"\n",
            consul.url(),
            oldest().program()
        ))
        .unwrap();
    holds(&consul, &setup, at(port));
}

#[test]
fn a_template_of_servers_goes_on_beside_any_catalog() {
    beside_any_catalog(
        "{{#each (service Name)}}
    server {{serverName this}} {{serverAddress this}} id {{serverId this}} weight {{Weights.Passing}}
{{/each}}
",
    );
}

#[test]
fn a_template_of_tags_goes_on_beside_any_catalog() {
    beside_any_catalog(
        "{{#each (service Name)}}
    # {{ID}} has {{join Tags \", \"}}
    server {{serverName this}} {{serverAddress this}}
{{#each (limit Tags 5)}}
    http-response set-header X-Tag \"{{this}}\"
{{/each}}
{{/each}}
",
    );
}

#[test]
fn a_template_of_metadata_goes_on_beside_any_catalog() {
    beside_any_catalog(
        "{{#each (byMeta \"note\" (service Name))}}
    # {{@key}}
{{servers this options=\"check\"}}
{{/each}}
{{servers (service Name status=\"critical\") options=\"check\"}}
",
    );
}

//! Catalogs made of the pieces by which names, tags, metadata, addresses and sizes do harm: whatever is registered, a
//! service that behaves well is in traffic, memory is bounded, and no worker of HAProxy ends.

mod consul;
mod serf;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use support::backend::Backend;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::oldest;
use support::{http, measured, ports, usage, wait_for};

/// The seed where `GATEWRIGHT_CATALOG_SEED` gives none; the same seed makes the same catalogs.
const SEED: u64 = 16;
/// How many catalogs a test makes; `GATEWRIGHT_CATALOG_ROUNDS` makes more.
const ROUNDS: u64 = 6;
/// Resident memory of an unoptimized program, in megabytes.
const MOST_MEMORY: f64 = 300.0;
/// How long the service that behaves well may take. Gossip may lose a change until two agents compare all they know.
const LIMIT: Duration = Duration::from_secs(60);

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

/// Where hostile entries stand beside services that behave well.
trait Catalog {
    /// What is read, in a line of a log of measurements.
    const NAME: &str;
    /// The sections of the settings that name the source.
    fn settings(&self) -> String;
    /// Enters hostile neighbours, and tells them.
    fn disturb(&mut self, random: &mut Rng, round: u64) -> String;
    /// Enters a service that behaves well: its one instance listens there and has the tag `urlprefix-NAME/`.
    fn enter(&mut self, name: &str, address: SocketAddr);
    /// How many hostile entries there were.
    fn taken(&self) -> usize;
}

/// Disturbs a catalog again and again; each time a service that behaves well, called `good-…`, is in traffic.
fn holds<C: Catalog>(catalog: &mut C, setup: &Setup, entrance: SocketAddr) {
    let seed = number("GATEWRIGHT_CATALOG_SEED", SEED);
    let mut gatewright: Option<Gatewright> = None;
    let mut random = Rng::with_seed(seed);
    let (mut good, mut slowest, mut most) = (Vec::<Backend>::new(), Duration::ZERO, 0.0);
    for round in 0..number("GATEWRIGHT_CATALOG_ROUNDS", ROUNDS) {
        let entered = catalog.disturb(&mut random, round);
        let host = format!("good-{round}");
        let backend = Backend::start(&host).unwrap();
        catalog.enter(&host, backend.address());
        let begun = Instant::now();
        // The first catalog is there before Gatewright.
        let gatewright = gatewright.get_or_insert_with(|| setup.run().unwrap());
        wait_for(LIMIT, "the service that behaves well", || {
            let answer = http::get_from(entrance, &host, "/").ok()?;
            (answer.status == 200 && answer.body.contains(&host)).then_some(())
        })
        .unwrap_or_else(|error| {
            let log = gatewright.log();
            panic!(
                "{error} seed {seed}, round {round}\n{entered}{:?}\n{log}",
                setup.status()
            )
        });
        slowest = slowest.max(begun.elapsed());
        good.push(backend);
        for name in good.iter().map(Backend::name) {
            let answer = http::get_from(entrance, name, "/").map(|answer| answer.status);
            let log = gatewright.log();
            assert!(
                matches!(answer, Ok(200)),
                "{name} {answer:?} seed {seed}, round {round}\n{entered}{log}"
            );
        }
        (_, most) = usage::memory(gatewright.process().pid()).unwrap();
        assert!(most < MOST_MEMORY, "{most} MB, seed {seed}, round {round}");
        let log = gatewright.log();
        assert!(
            !log.contains("killed (signal") && !log.contains("panicked"),
            "seed {seed}, round {round}\n{log}"
        );
    }
    let note = |what, value| measured::note(C::NAME, what, value);
    note("most memory", format!("{most:.0} MB"));
    note("entries taken", catalog.taken().to_string());
    note(
        "slowest good service",
        format!("{:.1} s", slowest.as_secs_f64()),
    );
}

/// What all here have in common; HAProxy listens at the second.
fn set_up(source: &str, more: &str) -> (Setup, SocketAddr) {
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let setup = Setup::new().unwrap();
    setup
        .settings(&format!(
            "{source}[apply]\nreload_interval = \"200ms\"\n\
             [haproxy]\nmode = \"supervise\"\nbinary = {:?}\nmaster_socket = \"{{dir}}master.sock\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n{more}",
            oldest().program()
        ))
        .unwrap();
    (setup, entrance)
}

/// Disturbs a catalog beside `run --routes`.
fn routes_beside(mut catalog: impl Catalog) {
    let (setup, entrance) = set_up(&catalog.settings(), "");
    let listen = entrance.to_string();
    let setup = ["--routes", "--listen", &listen]
        .into_iter()
        .fold(setup, Setup::argument);
    holds(&mut catalog, &setup, entrance);
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

/// The body of a backend: the servers of its service.
const SERVERS: &str = "{{#each (service Name)}}
    server {{serverName this}} {{serverAddress this}} id {{serverId this}} weight {{Weights.Passing}}
{{/each}}
";
/// The same with what their tags say.
const TAGS: &str = "{{#each (service Name)}}
    # {{ID}} has {{join Tags \", \"}}
    server {{serverName this}} {{serverAddress this}}
{{#each (limit Tags 5)}}
    http-response set-header X-Tag \"{{this}}\"
{{/each}}
{{/each}}
";
/// The same by what stands in their metadata.
const METADATA: &str = "{{#each (byMeta \"note\" (service Name))}}
    # {{@key}}
{{servers this options=\"check\"}}
{{/each}}
{{servers (service Name status=\"critical\") options=\"check\"}}
";

/// A template of one's own that writes this into the backend of each service.
fn template_beside(mut catalog: impl Catalog, body: &str) {
    let template =
        "[[template]]\nsource = \"haproxy.cfg.hbs\"\ndestination = \"{dir}haproxy.cfg\"\n";
    let (setup, entrance) = set_up(&catalog.settings(), template);
    let begin = BEGIN.replace("@bind@", &entrance.to_string());
    setup
        .file("haproxy.cfg.hbs", &format!("{begin}{body}{{{{/each}}}}\n"))
        .unwrap();
    holds(&mut catalog, &setup, entrance);
}

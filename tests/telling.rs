//! It tells: metrics, health and the page follow what happens, whoever asks delays nothing, nothing that is
//! secret is told, and the log neither ends nor delays nor floods anybody.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::backend::Backend;
use support::consul::Consul;
use support::gatewright::{Setup, binary};
use support::haproxies::oldest;
use support::haproxy::HAProxy;
use support::{http, measured, ports, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// What must never be told.
const TOKEN: &str = "canary-token-6a1e";
const SECRET: &str = "canary-secret-93bd";

/// Everything that was read from the listener, looked through at the end.
struct Listener {
    address: SocketAddr,
    heard: std::sync::Mutex<String>,
}

impl Listener {
    /// Where the sidecar says that it listens.
    fn of(setup: &Setup) -> Listener {
        let address = setup.wait_for_status(LIMIT, "an address", |status| {
            status["listening"].as_str()?.parse().ok()
        });
        Listener {
            address: address.unwrap(),
            heard: std::sync::Mutex::default(),
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let answer = http::get(self.address, path).unwrap();
        self.heard.lock().unwrap().push_str(&answer.body);
        (answer.status, answer.body)
    }

    /// The value of one series.
    fn metric(&self, series: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("{series} is not in:\n{text}"))
            .parse()
            .unwrap()
    }

    fn wait_for_metric(&self, series: &str, holds: impl Fn(f64) -> bool) {
        wait_for(LIMIT, series, || holds(self.metric(series)).then_some(()))
            .unwrap_or_else(|error| panic!("{error} It is {}.", self.metric(series)));
    }

    fn wait_for_answer(&self, path: &str, status: u16) -> String {
        wait_for(LIMIT, &format!("{status} of {path}"), || {
            let (now, body) = self.get(path);
            (now == status).then_some(body)
        })
        .unwrap()
    }
}

const TEMPLATE: &str = "\
global
    stats socket {{parameter \"stats\"}} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
userlist people
    user one insecure-password {{key \"secret\"}}
frontend in
    bind {{parameter \"entrance\"}}
    default_backend web
backend web
{{#each (service \"web\")}}
    server {{serverName this}} {{serverAddress this}}
{{/each}}
";

// P10 I05 M05 M09 L04 L14
#[test]
fn metrics_and_health_follow_what_happens_and_no_secret_is_told() {
    let mut consul = Consul::start().unwrap();
    let [port] = ports::free().unwrap();
    let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut haproxy = HAProxy::start(
        &oldest(),
        &format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend in\n bind {entrance}\n http-request return status 204\n"
        ),
    )
    .unwrap();
    let backends: Vec<Backend> = (0..3)
        .map(|number| Backend::start(&format!("web-{number}")).unwrap())
        .collect();
    consul.set_key("secret", SECRET).unwrap();
    for backend in &backends[..2] {
        consul
            .register_instance("web", backend.name(), backend.address())
            .unwrap();
    }
    let setup = Setup::new()
        .unwrap()
        .env("CONSUL_HTTP_ADDR", &consul.url())
        .env("CONSUL_HTTP_TOKEN", TOKEN);
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    setup
        .settings(&format!(
            "[haproxy]\nmode = \"master\"\nmaster_socket = \"{}\"\n\
             [apply]\nsettle = \"20ms\"\nreload_interval = \"200ms\"\ncompare_interval = \"1s\"\n\
             [state]\ndirectory = \"{{dir}}state\"\n[status]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n\
             [[template]]\nsource = \"{{dir}}haproxy.cfg.hbs\"\ndestination = \"{}\"\n\
             [parameters]\nstats = \"{{dir}}stats.sock\"\nentrance = \"{entrance}\"\n",
            haproxy.master_socket().display(),
            haproxy.config().display(),
        ))
        .unwrap();
    let mut gatewright = setup.run().unwrap();
    let told = Listener::of(&setup);

    // The first set: a reload, validated and confirmed.
    assert_eq!(told.wait_for_answer("/readyz", 200), "ready\n");
    assert_eq!(told.get("/healthz").0, 200);
    let first = "gatewright_reloads_total{cause=\"first\",result=\"confirmed\"}";
    told.wait_for_metric(first, |value| value == 1.0);
    assert_eq!(
        told.metric("gatewright_validations_total{result=\"valid\"}"),
        1.0
    );
    assert_eq!(
        told.metric("gatewright_query_items{query=\"service \\\"web\\\"\"}"),
        2.0
    );
    told.wait_for_metric("gatewright_haproxy_reachable", |value| value == 1.0);

    // A change by commands.
    let by_commands = "gatewright_changes_total{result=\"commands\"}";
    let third = &backends[2];
    consul
        .register_instance("web", third.name(), third.address())
        .unwrap();
    told.wait_for_metric(by_commands, |value| value >= 1.0);
    assert!(told.metric("gatewright_runtime_commands_total") >= 1.0);
    assert!(told.metric("gatewright_runtime_batches_total{result=\"done\"}") >= 1.0);

    // Whoever asks all the time delays nothing and is answered; each change is one by commands, and the
    // log sums them up.
    let change = |number: usize| {
        let before = setup.status().unwrap()["haproxy"]["by_commands"].as_u64();
        consul
            .maintenance(third.name(), number.is_multiple_of(2))
            .unwrap();
        let taken =
            |status: &Value| (status["haproxy"]["by_commands"].as_u64() > before).then_some(());
        setup.wait_for_status(LIMIT, "the change", taken).unwrap();
    };
    let begun = Instant::now();
    (0..4).for_each(change);
    let alone = begun.elapsed() / 4;
    let stop = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(http::get(told.address, "/metrics").unwrap().status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        (0..8).for_each(change);
        stop.store(true, Ordering::Relaxed);
    });
    measured::note(
        "m09",
        "changes while the listener is asked",
        format!(
            "8 applied, {} ms each with looking ({} ms without being asked), {} answers meanwhile, 0 failed",
            begun.elapsed().as_millis() / 8,
            alone.as_millis(),
            asked.load(Ordering::Relaxed)
        ),
    );
    told.wait_for_metric(by_commands, |value| value >= 13.0);
    assert_eq!(told.metric(first), 1.0, "nothing was reloaded");
    told.wait_for_metric("gatewright_log_lines_summed_up_total", |value| value >= 1.0);
    let log = gatewright.log();
    let applied = log.lines().filter(|line| line.contains("confirmed in"));
    assert!(applied.count() <= 11, "{log}");

    // A storm of SIGHUP: what is asked for while it is done is done once more, and nothing is reloaded.
    for _ in 0..200 {
        gatewright.process().signal(Signal::SIGHUP);
    }
    gatewright.process().signal(Signal::SIGUSR1);
    gatewright.process().signal(Signal::SIGUSR2);
    gatewright
        .wait_for_log(LIMIT, &["SIGUSR2 is not used here"])
        .unwrap();
    told.wait_for_answer("/readyz", 200);
    assert_eq!(told.metric("gatewright_settings_errors"), 0.0);
    let reloads = setup.status().unwrap()["haproxy"]["reloads"].as_u64();
    assert_eq!(reloads, Some(1));

    // HAProxy refuses, and its message would quote the secret.
    let broken = TEMPLATE.replace(
        "    default_backend web\n",
        "    http-request set-header X-Api-Key {{key \"secret\"}} {{key \"secret\"}}\n    default_backend web\n",
    );
    setup.file("haproxy.cfg.hbs", &broken).unwrap();
    told.wait_for_metric("gatewright_refused{by=\"validation\"}", |value| {
        value == 1.0
    });
    assert_eq!(told.get("/readyz").0, 200, "the last good set is in force");
    let held = setup.status().unwrap()["held"].clone();
    let why = held["why"][0].as_str().unwrap();
    assert!(why.contains("(hidden)"), "{why}");
    let kept = setup.path("state/rejected");
    let kept = format!("{kept}/{}", held["revision"].as_str().unwrap());
    let whole = files_with(std::path::Path::new(&kept), SECRET);
    assert!(!whole.is_empty(), "the whole set is in {kept}");
    assert!(whole.iter().all(|mode| mode & 0o077 == 0), "{whole:?}");
    let (_, json) = told.get("/status");
    let json: Value = serde_json::from_str(&json).unwrap();
    let at = json["held"]["why"][0].as_str().unwrap();
    assert!(at.contains("haproxy.cfg.hbs:"), "{at}");
    let (_, page) = told.get("/");
    assert!(page.contains("is refused by validation"), "{page}");
    setup.file("haproxy.cfg.hbs", TEMPLATE).unwrap();
    told.wait_for_metric("gatewright_refused{by=\"validation\"}", |value| {
        value == 0.0
    });

    // Consul goes: still ready, and the age grows.
    consul.kill();
    told.wait_for_metric("gatewright_queries_failing", |value| value == 2.0);
    told.wait_for_metric(
        "gatewright_consul_errors_total{class=\"unreachable\"}",
        |value| value >= 2.0,
    );
    told.wait_for_metric(
        "gatewright_query_age_seconds{query=\"service \\\"web\\\"\"}",
        |value| value > 0.0,
    );
    assert_eq!(told.get("/readyz").0, 200);
    assert!(
        told.get("/")
            .1
            .contains("Consul does not answer 2 of 2 queries")
    );

    // HAProxy goes: not ready, in words; alive all the same.
    haproxy.process().kill();
    let why = told.wait_for_answer("/readyz", 503);
    assert!(why.contains("no worker answers"), "{why}");
    assert_eq!(told.get("/healthz").0, 200);
    assert_eq!(told.metric("gatewright_ready"), 0.0);
    assert_eq!(told.metric("gatewright_state{state=\"unconfirmed\"}"), 1.0);

    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    let log = gatewright.log();
    assert!(log.contains("more lines of this kind in"), "{log}");
    let heard = told.heard.lock().unwrap();
    for secret in [TOKEN, SECRET] {
        assert!(!heard.contains(secret), "the listener told {secret}");
        assert!(!log.contains(secret), "the log holds {secret}: {log}");
    }
}

/// The permission bits of the files below a folder that hold this text.
fn files_with(folder: &std::path::Path, text: &str) -> Vec<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(text) {
            found.push(path.metadata().unwrap().permissions().mode() & 0o777);
        }
    }
    found
}

/// A sidecar that needs neither Consul nor HAProxy, with a log that the test has in its hands.
struct Alone {
    child: Child,
    setup: Setup,
}

impl Alone {
    fn settings(setup: &Setup, listen: &str, more: &str) {
        setup
            .settings(&format!(
                "[consul]\naddresses = [\"http://127.0.0.1:9\"]\n[haproxy]\nmode = \"none\"\nbinary = \"/bin/true\"\n\
                 [state]\ndirectory = \"{{dir}}state\"\n[status]\nlisten = \"{listen}\"\n\
                 [[template]]\nsource = \"{{dir}}t.hbs\"\ndestination = \"{{dir}}haproxy.cfg\"\n{more}"
            ))
            .unwrap();
    }

    fn start(setup: Setup, log: Stdio, environment: &[(&str, &str)]) -> Alone {
        let settings = setup.path("gatewright.toml");
        let child = Command::new(binary().unwrap())
            .args(["run", "-c", &settings, "--log-level", "debug"])
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .current_dir(setup.directory())
            .spawn()
            .unwrap();
        Alone { child, setup }
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Ends it by this signal and gives its exit code.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        wait_for(LIMIT, "the end", || self.child.try_wait().ok()?)
            .unwrap()
            .code()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alone(more: &str) -> Setup {
    let setup = Setup::new().unwrap();
    setup
        .file(
            "t.hbs",
            "frontend f\n bind :1\n{{#each (service \"web\")}}{{/each}}",
        )
        .unwrap();
    Alone::settings(&setup, "127.0.0.1:0", more);
    setup
}

// I04
#[test]
fn a_log_that_nobody_reads_or_that_is_closed_stops_nothing() {
    // The pipe is full before the first line, and nobody ever reads.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
    writer
        .write_all(&vec![b'.'; usize::try_from(size).unwrap()])
        .unwrap();
    let mut blocked = Alone::start(alone(""), writer.into(), &[]);
    let told = Listener::of(&blocked.setup);
    assert_eq!(told.get("/healthz").0, 200);
    for signal in [
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGCHLD,
        Signal::SIGPIPE,
        Signal::SIGHUP,
    ] {
        blocked.signal(signal);
    }
    told.wait_for_metric(
        "gatewright_consul_errors_total{class=\"unreachable\"}",
        |value| value >= 2.0,
    );
    assert_eq!(told.get("/healthz").0, 200);
    assert_eq!(blocked.end(Signal::SIGTERM), Some(0));
    drop(reader);

    // The reader goes in the middle.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut closed = Alone::start(alone(""), writer.into(), &[]);
    let mut first = [0; 16];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let told = Listener::of(&closed.setup);
    let errors = "gatewright_consul_errors_total{class=\"unreachable\"}";
    let before = told.metric(errors);
    closed.signal(Signal::SIGHUP);
    told.wait_for_metric(errors, |value| value > before);
    assert_eq!(closed.end(Signal::SIGINT), Some(0));
}

// I07
/// systemd, or what stands in for it, may stop reading: its queue is then full.
#[test]
fn a_systemd_that_reads_no_more_does_not_stop_the_loop() {
    let setup = alone("");
    Alone::settings(&setup, "127.0.0.1:0", "");
    let socket = setup.path("notify.sock");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let environment = [
        ("NOTIFY_SOCKET", socket.as_str()),
        ("WATCHDOG_USEC", "30000"),
    ];
    let mut sidecar = Alone::start(setup, Stdio::null(), &environment);
    sidecar
        .setup
        .wait_for_status(LIMIT, "an answer", |_| Some(()))
        .unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    filler.connect(&socket).unwrap();
    wait_for(LIMIT, "a full queue", || filler.send(b"x").err()).unwrap();
    for _ in 0..20 {
        sidecar.setup.status().unwrap();
    }
    // Once it reads again it hears that the loop turns.
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = [0; 256];
    let mut hear = || {
        let length = systemd.recv(&mut bytes).unwrap();
        bytes[..length].to_vec()
    };
    let heard: Vec<Vec<u8>> = std::iter::from_fn(|| Some(hear())).take(100).collect();
    assert!(heard.iter().any(|word| word == b"x"), "{heard:?}");
    assert!(heard.ends_with(&[b"WATCHDOG=1\n".to_vec()]), "{heard:?}");
    assert_eq!(sidecar.end(Signal::SIGTERM), Some(0));
}

// I07 L12 L13
#[test]
fn systemd_hears_of_us_and_the_listener_follows_the_settings() {
    let setup = alone("");
    // Certificates that expire, and TLS that was left unverified.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    setup.file("client.pem", &certificate.pem()).unwrap();
    setup.file("key.pem", &key.serialize_pem()).unwrap();
    let tls = "[consul.tls]\ninsecure_skip_verify = true\nclient_cert = \"{dir}client.pem\"\nclient_key = \"{dir}key.pem\"\n";
    Alone::settings(&setup, "127.0.0.1:0", tls);
    let socket = setup.path("notify.sock");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let environment = [
        ("NOTIFY_SOCKET", socket.as_str()),
        ("WATCHDOG_USEC", "600000"),
    ];
    let mut sidecar = Alone::start(setup, Stdio::null(), &environment);
    let hear = || {
        let mut bytes = [0; 256];
        let length = systemd.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    for _ in 0..5 {
        assert!(hear().contains("WATCHDOG=1"));
    }
    let told = Listener::of(&sidecar.setup);
    let file = sidecar.setup.path("client.pem");
    let expiry = format!(
        "gatewright_certificate_expiry_timestamp_seconds{{purpose=\"client\",file=\"{file}\"}}"
    );
    assert_eq!(told.metric(&expiry), 1_798_761_600.0);
    let warnings = sidecar.setup.status().unwrap()["warnings"].to_string();
    assert!(
        warnings.contains("certificate is not verified"),
        "{warnings}"
    );
    // Nothing was applied: alive, and not ready.
    assert_eq!(told.get("/healthz").0, 200);
    let why = told.wait_for_answer("/readyz", 503);
    assert_eq!(why, "No set was applied since the start.\n");
    let post = http::request(told.address, "POST", "/metrics", "x", LIMIT).unwrap();
    assert_eq!(post.status, 405);

    // Another address: the new one answers and the old one is given up.
    let [port] = ports::free().unwrap();
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Alone::settings(&sidecar.setup, &other.to_string(), tls);
    sidecar.signal(Signal::SIGHUP);
    wait_for(LIMIT, "the new address", || {
        (http::get(other, "/healthz").ok()?.status == 200).then_some(())
    })
    .unwrap();
    wait_for(LIMIT, "the end of the old one", || {
        http::get(told.address, "/healthz").err()
    })
    .unwrap();
    // One that is taken is told, and the former stays.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = (taken.local_addr().unwrap(), taken);
    Alone::settings(&sidecar.setup, &taken.0.to_string(), tls);
    sidecar.signal(Signal::SIGHUP);
    let word =
        |status: &Value, part: &str| status["warnings"].to_string().contains(part).then_some(());
    sidecar
        .setup
        .wait_for_status(LIMIT, "the error", |status| {
            word(status, "cannot listen on")
        })
        .unwrap();
    assert_eq!(http::get(other, "/healthz").unwrap().status, 200);

    // A broken settings file: the sidecar goes on, and is asked all the same.
    let whole = sidecar.setup.read("gatewright.toml").unwrap();
    sidecar
        .setup
        .file("gatewright.toml", &format!("{whole}[apply\nsettle = \n"))
        .unwrap();
    sidecar.signal(Signal::SIGHUP);
    let settings = sidecar.setup.path("gatewright.toml");
    let output = sidecar.setup.call(&["status", "-c", &settings]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("a sidecar is asked on"), "{said}");
    assert!(said.contains("error[syntax]"), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    for part in [
        "not ready",
        "served on  http://",
        "client certificate",
        "unreachable",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    sidecar
        .setup
        .wait_for_status(LIMIT, "the error", |status| {
            word(status, "This is not TOML")
        })
        .unwrap();
    assert_eq!(sidecar.end(Signal::SIGTERM), Some(0));

    // At the start a taken address is an error of the settings.
    sidecar.setup.file("gatewright.toml", &whole).unwrap();
    let output = sidecar.setup.call(&["run", "-c", &settings]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot listen on"), "{said}");
}

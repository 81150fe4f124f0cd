//! What the owner of one service, or of a page, writes into the catalog costs only that service or that page: the routes
//! of all others go on, also those of the first set.

use std::io::Write;

use super::*;
use support::gatewright::Gatewright;
use support::haproxies::haproxies;

/// `run --routes` with a service that behaves well for each step of a test.
struct Street {
    consul: Consul,
    setup: Setup,
    entrance: SocketAddr,
    gatewright: Gatewright,
    good: Vec<Backend>,
}

impl Street {
    /// Over what the catalog holds by then.
    fn start(consul: Consul, version: &Version) -> Street {
        Street::start_with(consul, version, "")
    }

    /// With more settings of HAProxy.
    fn start_with(consul: Consul, version: &Version, haproxy: &str) -> Street {
        let more = "[apply]\nreload_interval = \"200ms\"\n";
        let (setup, entrance) = routed_by(&consul, version, more);
        let settings = setup.read("gatewright.toml").unwrap();
        let settings = settings.replace("[haproxy]\n", &format!("[haproxy]\n{haproxy}"));
        setup.settings(&settings).unwrap();
        let gatewright = setup.run().unwrap();
        let good = Vec::new();
        let mut street = Street {
            consul,
            setup,
            entrance,
            gatewright,
            good,
        };
        street.serves_another("the first set");
        street
    }

    /// A service that is registered is in traffic.
    fn serves_another(&mut self, after: &str) {
        let name = format!("good-{}", self.good.len());
        let backend = Backend::start(&name).unwrap();
        let mut body = instance(&name, &name, backend.address());
        body["Tags"] = json!([format!("urlprefix-/{name}/")]);
        self.consul.register(&body).unwrap();
        self.good.push(backend);
        self.answers(after, &format!("/{name}/"), 200, &name);
    }

    fn answers(&self, after: &str, path: &str, status: u16, text: &str) {
        self.wait(&format!("{path} after {after}"), || {
            let answer = http::get(self.entrance, path).ok()?;
            (answer.status == status && answer.body.contains(text)).then_some(())
        });
    }

    /// Waits until the status names what is left out or closed by these words.
    fn tells(&self, words: &[&str]) {
        self.wait(&format!("{words:?} in the status"), || {
            let status = self.setup.status().ok()?;
            let told = [&status["quarantined"], &status["warnings"]];
            let mut told = told.iter().flat_map(|list| list.as_array()).flatten();
            let one = |text: &str| words.iter().all(|word| text.contains(word));
            told.any(|text| text.as_str().is_some_and(one))
                .then_some(())
        });
    }

    fn wait(&self, what: &str, probe: impl FnMut() -> Option<()>) {
        wait_for(LIMIT, what, probe).unwrap_or_else(|error| {
            panic!(
                "{error}\n{:?}\n{}",
                self.setup.status(),
                self.gatewright.log()
            )
        });
    }
}

/// Registers an instance that nothing listens for, at an address of its own.
fn register(consul: &Consul, service: &str, id: &str, tags: &Value) {
    let mut body = instance(service, id, at(9));
    let sum: u32 = id
        .bytes()
        .fold(0, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    body["Address"] = json!(Ipv4Addr::from(0x7f01_0000 + sum % 0xffff).to_string());
    body["Tags"] = tags.clone();
    consul.register(&body).unwrap();
}

#[haproxies]
fn a_name_that_consul_refuses_leaves_out_only_its_service(version: Version) {
    let consul = Consul::start().unwrap();
    // The last ones are in Unicode, but not yet in that of Consul's Go.
    let unaskable = [
        "a//b",
        "..",
        ".",
        "a/../b",
        "/",
        "hidden\u{200b}",
        "\u{202e}turned",
        "\u{feff}mark",
        "new\u{1fae9}",
        "\u{1c89}newer",
        "\u{1e5d0}",
    ];
    let askable = [
        "http.in",
        "tls.sni",
        "stats.in",
        "tcp.9000",
        "tcp::9000",
        "global",
        "defaults",
        "a b",
        "%2e%2e",
        "a?b",
        "a#b",
        "w/",
        "\u{e9}",
    ];
    for (number, name) in unaskable.iter().chain(&askable).enumerate() {
        let tags = json!([format!("urlprefix-/odd-{number}/")]);
        register(&consul, name, &format!("odd-{number}"), &tags);
    }
    let mut street = Street::start(consul, &version);
    for (number, name) in unaskable.iter().enumerate() {
        let path: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let asked = street.consul.get(&format!("/v1/health/service/{path}"));
        match asked.is_ok_and(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
            // Another Consul than the fetched one may take a newer letter.
            true => street.answers("the start", &format!("/odd-{number}/"), 503, ""),
            false => {
                let shown: String = name.escape_debug().collect();
                street.tells(&["is left out because", &shown]);
                street.answers("the start", &format!("/odd-{number}/"), 404, "");
            }
        }
    }
    let first = unaskable.len();
    for number in first..first + askable.len() {
        street.answers("the start", &format!("/odd-{number}/"), 503, "");
    }
    street.serves_another("all names");
    // A name that comes later.
    register(
        &street.consul,
        "late\u{1fae9}",
        "late",
        &json!(["urlprefix-/late"]),
    );
    street.serves_another("a late name");
    street.tells(&["is left out because", "late"]);
    street.consul.deregister("late").unwrap();
    street.wait("the late name to go", || {
        let status = street.setup.status().ok()?;
        let told = status["quarantined"].to_string().contains("late");
        (!told && status["state"] == "confirmed").then_some(())
    });
}

#[haproxies(ends)]
fn a_tag_of_any_length_costs_only_its_route(version: Version) {
    let consul = Consul::start().unwrap();
    let long = "x".repeat(70_000);
    let networks: Vec<String> = (0..3_500)
        .map(|number| format!("ip:10.{}.{}.0/24", number / 256, number % 256))
        .collect();
    let networks = networks.join(",");
    for (number, words) in [
        format!("strip=/{long}"),
        format!("prepend=/{long}"),
        format!("host={long}"),
        format!("redirect=301,http://a/{long}"),
        format!("grpcservername={long} proto=grpcs tlsskipverify=true"),
        format!("auth={long}"),
        format!("allow={long}"),
        format!("allow=ip:{long}"),
        format!("allow={networks}"),
        format!("deny={networks}"),
        format!("weight={long}"),
        format!("proto={long}"),
        format!("register={long}"),
        format!("{long}=1"),
    ]
    .iter()
    .enumerate()
    {
        let tags = json!([format!("urlprefix-/odd-{number}/ {words}")]);
        register(&consul, "odd", &format!("odd-{number}"), &tags);
        let tags = json!([format!("urlprefix-/single-{number}/ {words}")]);
        register(
            &consul,
            &format!("single-{number}"),
            &format!("single-{number}"),
            &tags,
        );
    }
    let tags = json!([
        long,
        format!("urlprefix-/{long}"),
        format!("urlprefix-{long}/"),
        format!("urlprefix-:{long}")
    ]);
    register(&consul, "odd", "odd", &tags);
    register(&consul, "odd", &format!("odd-{}", &long[..300]), &tags);
    let mut street = Street::start(consul, &version);
    street.serves_another("all tags");
    let status = street.setup.status().unwrap();
    let told = [&status["quarantined"], &status["warnings"]];
    for text in told.iter().flat_map(|list| list.as_array()).flatten() {
        let length = text.as_str().unwrap().len();
        assert!(length < 2_000, "{length} letters: {text}");
    }
}

#[haproxies(ends)]
fn a_page_that_cannot_be_one_gives_way_to_the_usual_page(version: Version) {
    let mut street = Street::start(Consul::start().unwrap(), &version);
    register(&street.consul, "down", "down", &json!(["urlprefix-/down/"]));
    for (key, path, status, usual) in [
        ("fabio/noroute.html", "/none", 404, "There is no such route"),
        (
            "fabio/unavailable.html",
            "/down/",
            503,
            "Nobody can answer at the moment",
        ),
    ] {
        let letters = |count: usize, letter: &str| format!("<p>{}</p>", letter.repeat(count));
        for (number, (page, fits)) in [
            ("<p>one</p>\r\n<p>two</p>\r\n".to_owned(), true),
            (letters(31_000, "x"), false),
            ("<p>a\tb</p>\n".to_owned(), true),
            ("a\0b".to_owned(), false),
            ("<p>\u{e9}\u{2603}</p>".to_owned(), true),
            ("a\rb".to_owned(), false),
            (letters(7_900, "x"), true),
            (letters(3_900, "\u{2603}"), false),
            (letters(1, "\u{2603}"), true),
            ("\u{1b}[2J".to_owned(), false),
            (letters(2, "y"), true),
            ("end\r".to_owned(), false),
            (letters(3, "y"), true),
            ("\u{9b}2J".to_owned(), false),
        ]
        .iter()
        .enumerate()
        {
            street.consul.set_key(key, page).unwrap();
            let text = if *fits { page.as_str() } else { usual };
            street.answers(&format!("page {number} of {key}"), path, status, text);
        }
        street.consul.delete_key(key).unwrap();
    }
    street.serves_another("all pages");
}

#[haproxies(ends)]
fn a_service_that_wants_reload_upon_reload_stops_nobodys_servers(version: Version) {
    let consul = Consul::start().unwrap();
    let mut street = Street::start_with(consul, &version, "max_old_workers = 1\n");
    // A client that does not end its request keeps the worker of its time.
    let mut client = std::net::TcpStream::connect(street.entrance).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    street.serves_another("another route");
    street.wait("an old worker", || {
        let status = street.setup.status().ok()?;
        (status["haproxy"]["old_workers"] == 1).then_some(())
    });
    let mut round = 0;
    let mut change = |street: &Street| {
        round += 1;
        let tags = json!([format!("urlprefix-/restless/ strip=/round-{round}")]);
        register(&street.consul, "restless", "restless", &tags);
    };
    // Its tags and the instances of another service change in turn.
    for at in ["one", "two", "three", "four"] {
        change(&street);
        let moved = Backend::start(at).unwrap();
        let mut body = instance("good-1", "good-1", moved.address());
        body["Tags"] = json!(["urlprefix-/good-1/"]);
        street.consul.register(&body).unwrap();
        street.answers("a change of tags that waits", "/good-1/", 200, at);
        street.good.push(moved);
    }
}

#[haproxies(ends)]
fn more_tags_than_fit_leave_a_service_its_first_routes(version: Version) {
    let consul = Consul::start().unwrap();
    for at in 0..3 {
        let tag = |n: usize| match n {
            0 => "urlprefix-/large/".to_owned(),
            n => format!("urlprefix-/large/{at}-{n}-{}/", "x".repeat(980)),
        };
        let tags: Vec<String> = (0..400).map(tag).collect();
        register(&consul, "large", &format!("large-{at}"), &json!(tags));
    }
    let mut street = Street::start(consul, &version);
    street.answers("the start", "/large/", 503, "");
    street.tells(&["A part of service large", "beyond the 256 KiB"]);
    street.tells(&["A part of the tags of service large", "too much room"]);
    street.serves_another("more than a megabyte of tags");
}

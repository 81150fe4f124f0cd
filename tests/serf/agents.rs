//! The way to Serf's agents: keys, fail-over, restarts, and what they are asked.

use std::time::Instant;

use super::stage::{Gateway, LIMIT, Stage, prepare, shows, template};
use support::consul::Consul;
use support::gatewright::Setup;
use support::measured;
use support::network::Network;
use support::serf::Agent;

#[test]
fn the_balancers_agent_restarts_and_nothing_is_lost() {
    let network = Network::default();
    let mut stage = Stage::start_on(&network, 3, "");
    let before = stage.changes();

    // It comes back alone, and sees nobody but itself: that is not believed. The others, who still know it, would
    // tell it of each other at some moment.
    let begun = Instant::now();
    network.isolate(stage.balancer.port());
    stage.balancer.restart(None).unwrap();
    let told = stage.status("an agent that is alone", |status| {
        let error = status["queries"][0]["error"].as_str()?;
        error.contains("is alone").then(|| error.to_owned())
    });
    assert!(
        told.contains("what was known before stays in force"),
        "{told}"
    );
    for name in ["gw0", "gw1", "gw2"] {
        stage.answers(name);
    }
    stage.nothing_failed();

    network.heal();
    stage
        .balancer
        .join(&stage.gateways[0].agent.gossip())
        .unwrap();
    stage.status("the members again", |status| {
        let query = &status["queries"][0];
        (query["error"].is_null() && status["consul"]["members"]["alive"] == 4).then_some(())
    });
    measured::note(
        "serf",
        "balancer's agent restarted: followed again after",
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    stage.has_changed(before);

    // And while it is gone, too.
    stage.balancer.kill();
    stage.status("a lost agent", |status| {
        let error = status["queries"][0]["error"].as_str()?;
        error.contains("cannot be reached").then_some(())
    });
    let Stage {
        gateways, balancer, ..
    } = &mut stage;
    balancer.restart(Some(&gateways[0].agent)).unwrap();
    stage.status("the members again", |status| {
        status["queries"][0]["error"].is_null().then_some(())
    });
    stage.has_changed(before);
    let gateway = Gateway::start("gw3", &stage.balancer, &[]);
    stage.gateways.push(gateway);
    stage.serves(&["gw0", "gw1", "gw2", "gw3"]);
    let requests = stage.quiet();
    measured::note(
        "serf",
        "balancer's agent restarted: requests failed",
        format!("0 of {requests}"),
    );
}

#[test]
fn another_agent_takes_over() {
    let balancer = Agent::start("lb", &[("role", "lb")], None).unwrap();
    let mut gateway = Gateway::start("gw0", &balancer, &[]);
    let setup = Setup::new().unwrap();
    let source = format!(
        "[catalog]\nsource = \"serf\"\n[serf]\naddresses = [\"{}\", \"{}\"]\n",
        gateway.agent.rpc(),
        balancer.rpc()
    );
    prepare(&setup, &source);
    let mut gatewright = setup.run().unwrap();
    shows(
        &setup,
        &format!("gw0:airavata-api {} weight 1 ", gateway.address),
    );
    gateway.agent.set_tags(&[("weight", "2")]).unwrap();
    shows(
        &setup,
        &format!("gw0:airavata-api {} weight 2 ", gateway.address),
    );
    gateway.agent.kill();
    let other = Gateway::start("gw1", &balancer, &[]);
    shows(
        &setup,
        &format!("gw1:airavata-api {} weight 1 ", other.address),
    );
    assert_eq!(
        setup.status().unwrap()["consul"]["address"],
        balancer.rpc(),
        "the address in use"
    );
    drop(other);
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
}

#[test]
fn a_key_is_needed_shown_nowhere_and_a_wrong_one_is_said() {
    const KEY: &str = "s3cret-of-the-agents";
    let tags = [("role", "airavata-api"), ("port", "8930"), ("tags", "prod")];
    let agent = Agent::start_with_key("lb", &tags, None, KEY).unwrap();
    let setup = Setup::new().unwrap();
    setup
        .file(
            "t.hbs",
            "# {{#each (service \"airavata-api\")}}{{Node}} {{Port}}{{/each}}\n",
        )
        .unwrap();
    let call = |setup: &Setup| {
        let template = setup.path("t.hbs");
        let output = setup.call(&["render", "-t", &template, "--serf-addr", &agent.rpc()]);
        let output = output.unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), out, err)
    };
    let (code, _, told) = call(&setup);
    assert_eq!(code, Some(6), "{told}");
    assert!(
        told.contains("Authentication required") && told.contains("serf.auth_key_file"),
        "{told}"
    );

    let setup = setup.env("SERF_RPC_AUTH", "wrong-key");
    let (code, _, told) = call(&setup);
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("Invalid authentication token"), "{told}");
    assert!(!told.contains("wrong-key"), "{told}");

    let setup = setup.env("SERF_RPC_AUTH", KEY);
    let (code, out, told) = call(&setup);
    assert_eq!((code, out.as_str()), (Some(0), "# lb 8930\n"), "{told}");

    // By a file, in a sidecar that waits until the right key stands in it.
    setup.file("key", "wrong-key\n").unwrap();
    prepare(
        &setup,
        &format!(
            "[catalog]\nsource = \"serf\"\n[serf]\naddresses = [\"{}\"]\nauth_key_file = \"{{dir}}key\"\n",
            agent.rpc()
        ),
    );
    let mut gatewright = setup.run().unwrap();
    gatewright
        .wait_for_log(LIMIT, &["Invalid authentication token"])
        .unwrap();
    setup.file("key", &format!("{KEY}\n")).unwrap();
    shows(&setup, "server lb:airavata-api 127.0.0.1:8930 ");
    let status = setup.status().unwrap().to_string();
    assert_eq!(gatewright.stop(LIMIT).unwrap(), 0);
    for text in [status, gatewright.log()] {
        assert!(!text.contains(KEY) && !text.contains("wrong-key"), "{text}");
    }
}

#[test]
fn the_same_template_gives_the_same_configuration_on_consul_and_on_serf() {
    let balancer = Agent::start("lb", &[("role", "lb")], None).unwrap();
    let consul = Consul::start().unwrap();
    let mut agents = Vec::new();
    for (name, port, weight) in [("gw1", 8931, 1), ("gw2", 8932, 50)] {
        let (port_tag, weight_tag) = (port.to_string(), weight.to_string());
        let tags = [
            ("role", "airavata-api"),
            ("port", &port_tag),
            ("address", "10.1.2.3"),
            ("weight", &weight_tag),
            ("tags", "prod,eu"),
        ];
        agents.push(Agent::start(name, &tags, Some(&balancer)).unwrap());
        consul
            .catalog_register(&serde_json::json!({
                "Node": name, "Address": "127.0.0.1",
                "Service": {
                    "ID": "airavata-api", "Service": "airavata-api", "Address": "10.1.2.3", "Port": port,
                    "Tags": ["prod", "eu"], "Weights": {"Passing": weight, "Warning": 1},
                },
            }))
            .unwrap();
    }
    let setup = Setup::new().unwrap();
    let text = template(&setup, "127.0.0.1:8080".parse().unwrap());
    setup.file("t.hbs", &text).unwrap();
    let path = setup.path("t.hbs");
    let render = |source: &[&str]| {
        let words = [&["render", "-t", &path], source].concat();
        let output = setup.call(&words).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{told}");
        String::from_utf8(output.stdout).unwrap()
    };
    let on_serf = render(&["--serf-addr", &balancer.rpc()]);
    let on_consul = render(&["--consul-addr", &consul.url()]);
    assert_eq!(on_serf, on_consul);
    assert!(
        on_serf.contains("server gw2:airavata-api 10.1.2.3:8932 weight 50 "),
        "{on_serf}"
    );

    // What was recorded gives it a third time.
    let file = setup.path("catalog.json");
    let words = [
        "capture",
        "-t",
        &path,
        "--serf-addr",
        &balancer.rpc(),
        "-o",
        &file,
    ];
    assert_eq!(setup.call(&words).unwrap().status.code(), Some(0));
    assert_eq!(render(&["--catalog", &file]), on_serf);
}

// C01 C02 C03 C05 C06
#[test]
fn hostile_tags_add_nothing_and_stop_nobody() {
    let balancer = Agent::start("lb", &[("role", "lb")], None).unwrap();
    let rpc = balancer.rpc();
    let (_, rpc) = rpc.rsplit_once(':').unwrap();
    // Of several tags with one name the last counts.
    fn tags<'a>(port: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let all = [("role", "airavata-api"), ("port", port), ("tags", "prod")];
        [&all, more].concat()
    }
    let hostile: [&[(&str, &str)]; 8] = [
        &[("address", "10.0.0.1:80\n    server evil 10.6.6.6:80")],
        &[("address", "169.254.169.254")],
        &[("address", "unix@/run/admin.sock")],
        &[
            ("id", "x\r\nglobal\n    user root"),
            ("address", "10.0.0.7"),
        ],
        &[
            ("id", "\"${HOME}\" # {{key \"x\"}}"),
            ("address", "10.0.0.8"),
        ],
        &[("port", "80 check disabled")],
        &[("port", rpc)],
        &[("port.airavata-api", rpc), ("address", "::ffff:127.0.0.1")],
    ];
    let mut agents = vec![Agent::start("good", &tags("8930", &[]), Some(&balancer)).unwrap()];
    for (number, more) in hostile.iter().enumerate() {
        let name = format!("bad{number}");
        let port = ["81", "82", "83", "84", "85", "86", "87", "88"][number];
        agents.push(Agent::start(&name, &tags(port, more), Some(&balancer)).unwrap());
    }
    balancer.sees("bad7", "alive").unwrap();
    let setup = Setup::new().unwrap();
    let text = template(&setup, "127.0.0.1:8080".parse().unwrap());
    setup.file("t.hbs", &text).unwrap();
    let path = setup.path("t.hbs");
    let output = setup
        .call(&["render", "-t", &path, "--serf-addr", &balancer.rpc()])
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        out.contains("server good:airavata-api 127.0.0.1:8930 weight 1 check"),
        "{out}"
    );
    let written: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("    server "))
        .collect();
    assert_eq!(written.len(), 2, "{out}");
    for line in written {
        // What an id becomes is one word, of letters that have no meaning to HAProxy.
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), 12, "{line}");
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        assert!(words[1].chars().all(plain), "{line}");
    }
    for word in [
        "evil",
        "user root",
        "169.254",
        "admin.sock",
        "${",
        "disabled",
    ] {
        assert!(!out.contains(word), "{word}:\n{out}");
    }
    for name in ["bad0", "bad1", "bad2", "bad3", "bad5", "bad6", "bad7"] {
        assert!(told.contains(name), "{name} is not named: {told}");
    }
}

#[test]
fn what_serf_cannot_answer_is_refused_when_the_template_is_loaded() {
    let setup = Setup::new().unwrap();
    let text = "# {{key \"a/b\"}}\n# {{#each (service \"web\" near=\"_agent\")}}{{/each}}\n";
    setup.file("t.hbs", text).unwrap();
    let path = setup.path("t.hbs");
    let output = setup
        .call(&["render", "-t", &path, "--serf-addr", "127.0.0.1:1"])
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("error[unanswerable]: The template asks for key \"a/b\", and Serf has no keys and values."), "{told}");
    assert!(told.contains("t.hbs:1:3"), "{told}");
    assert!(told.contains("Serf does not sort by distance"), "{told}");
}

#[test]
fn routes_come_from_members_tags() {
    let tags = [
        ("role", "web"),
        ("port", "8930"),
        ("tags", "urlprefix-/api,prod"),
    ];
    let agent = Agent::start("gw1", &tags, None).unwrap();
    let setup = Setup::new().unwrap();
    let output = setup
        .call(&["routes", "--serf-addr", &agent.rpc()])
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        out.contains("/api") && out.contains("127.0.0.1:8930"),
        "{out}"
    );
}

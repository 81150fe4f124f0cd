//! Data and sets as people have them: values with the line end of their file, passwords, empty metadata, byte order
//! marks, sets that listen for no request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;

use support::backend::Backend;
use support::consul::{Consul, instance};
use support::haproxies::{Version, haproxies};
use support::scene::Given;
use support::{http, ports};

const LIMIT: Duration = Duration::from_secs(30);

/// A front end with rules and servers whose options come from metadata and keys.
const OPTIONS: &str = r#"global
    httpclient.ssl.verify none
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s

frontend in
    bind @bind@
    http-request deny {{keyOrDefault "extra" ""}} if { path /denied }
    http-request allow {{keyOrDefault "extra" ""}} if { path /web }
    http-request allow {{keyOrDefault "extra" ""}} if { path /tls }
    http-request deny
    use_backend tls if { path /tls }
    default_backend web

backend web
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} cookie {{default ServiceMeta.cookie ""}} weight 10
{{/each}}

backend tls
{{#each (service "web")}}
    server {{serverName this}} {{serverAddress this}} {{default ServiceMeta.options ""}} ssl verify none
{{/each}}
"#;

// C02
/// Written as `""`, an empty value would end the line: everybody would be let in, the servers of `tls` would be
/// spoken to in the clear, and the cookie of one would be `weight`.
#[haproxies(ends)]
fn an_empty_value_takes_no_word_away_from_its_line(version: Version) {
    let consul = Consul::start().unwrap();
    let mut backends = Vec::new();
    for (id, cookie) in [("good", "c1"), ("bad", "")] {
        let backend = Backend::start(id).unwrap();
        let mut body = instance("web", id, backend.address());
        body["Meta"] = json!({"cookie": cookie, "options": ""});
        consul.register(&body).unwrap();
        backends.push(backend);
    }
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .template(OPTIONS)
        .run();
    let status = scene.confirmed("the first set", |status| {
        !status["quarantined"].as_array().unwrap().is_empty()
    });
    let left_out = status["quarantined"].to_string();
    for part in ["Instance bad", "The value is empty", "haproxy.cfg.hbs:20:"] {
        assert!(left_out.contains(part), "{left_out}");
    }
    let file = scene.file();
    assert!(!file.contains("\"\""), "{file}");
    let status = |path: &str| http::get(scene.entrance, path).unwrap().status;
    scene.wait("the good instance", || {
        (status("/web") == 200).then_some(())
    });
    assert_eq!((status("/denied"), status("/other")), (403, 403));
    // It does not speak TLS, so only a server in the clear would answer.
    let before: u64 = backends.iter().map(Backend::requests).sum();
    assert_eq!(status("/tls"), 503);
    assert_eq!(backends.iter().map(Backend::requests).sum::<u64>(), before);
    assert_eq!(backends[1].requests(), 0, "its cookie is not known");
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// C01
/// The template begins with a byte order mark, and each key ends with the line end of the file it came from.
#[haproxies(ends)]
fn values_with_the_line_end_of_their_file_are_what_they_say(version: Version) {
    let consul = Consul::start().unwrap();
    let passwords = ["-a%b$c\n", "{\r\n", "pass word # 'x'\n"];
    for (number, password) in passwords.iter().enumerate() {
        consul
            .set_key(&format!("password/{number}"), password)
            .unwrap();
    }
    consul.set_key("path", "/a%20b\n").unwrap();
    let mut scene = Given::consul(&consul.url())
        .binary(version.program())
        .template(
            "\u{feff}global\n    httpclient.ssl.verify none\nuserlist people\n\
             {{#each (ls \"password\")}}\n    user u{{Key}} insecure-password {{Value}}\n{{/each}}\n\
             frontend in\n    mode http\n    bind @bind@\n    timeout client 5s\n    \
             acl open path {{key \"path\"}}\n    http-request auth unless open or { http_auth(people) }\n    \
             http-request return status 200\n",
        )
        .run();
    scene.confirmed("the first set", |_| true);
    assert!(scene.file().starts_with("global\n"));
    let status = |path: &str, user: usize, password: &str| {
        let encoded = BASE64_STANDARD.encode(format!("u{user}:{password}"));
        let head = format!("GET {path} HTTP/1.0\r\nAuthorization: Basic {encoded}\r\n\r\n");
        let mut stream = TcpStream::connect(scene.entrance).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).and_then(|word| word.parse().ok())
    };
    scene.wait("an answer", || http::get(scene.entrance, "/").ok());
    for (user, password) in passwords.iter().enumerate() {
        assert_eq!(
            status("/", user, password.trim_end()),
            Some(200),
            "{password:?}"
        );
        assert_eq!(status("/", user, "wrong"), Some(401));
    }
    assert_eq!(status("/a%20b", 0, "wrong"), Some(200));
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
}

// F02
#[haproxies(ends)]
fn a_set_that_listens_for_no_request_is_confirmed(version: Version) {
    let consul = Consul::start().unwrap();
    let [port] = ports::free().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for sections in [
        format!(
            "peers p\n    peer here {address}\nbackend b\n    stick-table type ip size 1k store gpc0 peers p\n"
        ),
        format!("log-forward l\n    bind {address}\n    log 127.0.0.1:9 local0\n"),
        format!("log-forward l\n    dgram-bind {address}\n    log 127.0.0.1:9 local0\n"),
    ] {
        let mut scene = Given::consul(&consul.url())
            .binary(version.program())
            .template(&format!(
                "global\n    httpclient.ssl.verify none\n    localpeer here\n    # {{{{keyOrDefault \"note\" \"none\"}}}}\n{sections}"
            ))
            .run();
        scene.confirmed("the set", |status| status["applied"]["confirmed"] == true);
        assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    }
}

//! Targets that speak TLS, HTTP/2 or plain TCP, through a real HAProxy to real ones.

use super::*;
use support::haproxies::{Version, haproxies, oldest};

/// A certificate with its key, for HAProxy's `crt`.
fn certificate(setup: &Setup, file: &str, name: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let text = format!("{}{}", certificate.pem(), key.serialize_pem());
    setup.file(file, &text).unwrap();
}

#[haproxies]
fn targets_are_spoken_to_as_their_tags_say(version: Version) {
    let setup = Setup::new().unwrap();
    certificate(&setup, "trusted.pem", "inner.example.org");
    certificate(&setup, "strange.pem", "inner.example.org");
    let [plain_tcp, proxied, sni] = ports::free().unwrap();
    // What each speaks, and what it says of the request.
    let targets = [
        (
            "tls",
            "ssl crt {dir}trusted.pem alpn http/1.1",
            "tls sni=%[ssl_fc_sni] ver=%[req.ver]",
        ),
        (
            "passed",
            "ssl crt {dir}strange.pem",
            "passed sni=%[ssl_fc_sni]",
        ),
        (
            "strange",
            "ssl crt {dir}strange.pem alpn http/1.1",
            "strange ver=%[req.ver]",
        ),
        ("h2c", "proto h2", "h2c ver=%[req.ver] %[path]"),
        (
            "h2",
            "ssl crt {dir}trusted.pem alpn h2",
            "h2 alpn=%[ssl_fc_alpn] ver=%[req.ver]",
        ),
        ("raw", "", "raw src=%[src]"),
        ("proxied", "accept-proxy", "proxied src=%[src]"),
    ];
    let tags = json!({
        "tls": ["urlprefix-inner.example.org/tls proto=https", "urlprefix-other.example.org/ proto=https",
                "urlprefix-named.example.org/ proto=https host=inner.example.org"],
        "passed": ["urlprefix-passed.example.org/ proto=tcp", "urlprefix-*.wild.example.org/ proto=tcp"],
        "strange": ["urlprefix-inner.example.org/strange proto=https",
                    "urlprefix-inner.example.org/skip proto=https tlsskipverify=true"],
        "h2c": ["urlprefix-inner.example.org/h2c proto=grpc"],
        "h2": ["urlprefix-inner.example.org/h2 proto=grpcs",
               "urlprefix-foreign.example.org/ proto=grpcs grpcservername=inner.example.org"],
        "raw": [format!("urlprefix-:{plain_tcp} proto=tcp")],
        "proxied": [format!("urlprefix-:{proxied} proto=tcp pxyproto=true")],
    });
    let mut config = String::from(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\n",
    );
    let mut services = serde_json::Map::new();
    for (name, speaks, says) in targets {
        let [port] = ports::free().unwrap();
        let speaks = speaks.replace("{dir}", &setup.path(""));
        let _ = write!(
            config,
            "frontend {name}\n    bind 127.0.0.1:{port} {speaks}\n    http-request return status 200 content-type text/plain lf-string \"{says}\"\n"
        );
        let one = json!([{ "Address": "127.0.0.1", "Port": port, "Tags": tags[name] }]);
        services.insert(name.to_owned(), one);
    }
    // Clients that speak TLS, each asking for a name.
    let clients = [
        "passed.example.org",
        "PASSED.example.org",
        "a.b.wild.example.org",
        "unknown.example.org",
        "*.wild.example.org",
        "passed.example.org/",
        "a/b.wild.example.org",
    ]
    .map(|name| {
        let [port] = ports::free().unwrap();
        let _ = write!(
            config,
            "listen client-{port}\n    bind 127.0.0.1:{port}\n    retries 0\n    server s 127.0.0.1:{sni} ssl verify none sni str({name})\n"
        );
        port
    });
    let _targets = HAProxy::start(&oldest(), &config).unwrap();
    let catalog = json!({ "services": services });
    setup.file("catalog.json", &catalog.to_string()).unwrap();
    setup
        .settings(&format!(
            "[state]\ndirectory = \"{{dir}}\"\n[parameters]\nupstream_ca = \"{{dir}}trusted.pem\"\ntcp_ports = [{plain_tcp}, {proxied}]\nsni_listen = \"127.0.0.1:{sni}\"\n"
        ))
        .unwrap();
    let [port] = ports::free().unwrap();
    let entrance = at(port);
    let _haproxy = HAProxy::start(&version, &rendered(&setup, entrance)).unwrap();
    let asked = |at: SocketAddr, host: &str, path: &str, status: u16, text: &str| {
        let (got, whole) = ask(at, host, path, &[]);
        assert!(
            got == status && whole.contains(text),
            "{version}: {host}{path} got {got} {whole}"
        );
    };
    let inner = |path: &str, status, text| {
        asked(entrance, "inner.example.org", path, status, text);
    };
    inner("/tls", 200, "tls sni=inner.example.org ver=1.1");
    // Its certificate is for another name, or nobody's that is trusted.
    asked(entrance, "other.example.org", "/", 503, "");
    asked(
        entrance,
        "named.example.org",
        "/",
        200,
        "tls sni=inner.example.org",
    );
    inner("/strange", 503, "");
    inner("/skip", 200, "strange ver=1.1");
    inner("/h2c/x", 200, "h2c ver=2.0 /h2c/x");
    inner("/h2", 200, "h2 alpn=h2 ver=2.0");
    asked(entrance, "foreign.example.org", "/", 200, "h2 alpn=h2");
    asked(at(plain_tcp), "any.org", "/", 200, "raw src=127.0.0.1");
    asked(at(proxied), "any.org", "/", 200, "proxied src=127.0.0.1");
    let [exact, upper, wild, others @ ..] = clients.map(at);
    asked(exact, "any.org", "/", 200, "passed sni=passed.example.org");
    asked(upper, "any.org", "/", 200, "passed sni=PASSED.example.org");
    asked(wild, "any.org", "/", 200, "passed sni=a.b.wild");
    for unknown in others {
        asked(unknown, "any.org", "/", 503, "");
    }
}

/// With the system's own certificates, or left out: never a configuration that HAProxy refuses for all.
#[haproxies]
fn a_target_with_a_certificate_never_stops_the_others(version: Version) {
    use super::conformance::Gateway;
    for (settings, verified) in [("", true), ("[parameters]\nupstream_ca = \"\"\n", false)] {
        let tags = json!({ "web": ["urlprefix-a.b/"], "tls": ["urlprefix-a.b/tls proto=https"] });
        let gateway = Gateway::start(&version, &tags, settings);
        let (status, answer) = ask(gateway.entrance, "a.b", "/", &[]);
        assert_eq!(status, 200, "{version}: {answer}");
        // Whether this machine has a file of authorities decides about the first.
        let has = gateway.config.contains("verify required ca-file /etc/");
        assert_eq!(
            has,
            verified && std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").is_file()
        );
    }
}

//! gRPC and REST on one port: HTTP/2 without TLS (h2c), by a real HAProxy on each side. There is no gRPC library
//! here: HAProxy itself is the client that speaks HTTP/2 and the instance that takes it.

use super::gateway::LIMIT;
use super::{at, certificate, render};
use support::haproxies::{Version, haproxies, newest};
use support::haproxy::HAProxy;
use support::{http, ports, temp, wait_for};

const DEFAULTS: &str = "defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout server 20s
";

#[haproxies]
fn calls_of_grpc_go_by_http_2_and_others_by_http_1(version: Version) {
    // The client and the instance: before 2.8 `inspect-delay` waits for no request over HTTP.
    let others = newest();
    let directory = temp::directory().unwrap();
    let certificate = certificate(directory.path());
    let [instance, listen, tls, plain_client, tls_client] = ports::free().unwrap();
    // Says by which version of HTTP it was asked; what is slow takes longer than a call may.
    let _instance = HAProxy::start(
        &others,
        &format!(
            "{DEFAULTS}frontend instance\n    bind 127.0.0.1:{instance}\n    tcp-request inspect-delay 3s\n    \
             tcp-request content accept if WAIT_END or !{{ path_beg /slow }}\n    \
             http-request return status 200 content-type text/plain lf-string \
             \"HTTP/%[fc_http_major] %[req.hdr(x-forwarded-proto)]\"\n"
        ),
    )
    .unwrap();
    let catalog = format!(r#"{{"services": {{"airavata": ["127.0.0.1:{instance}"]}}}}"#);
    let parameters = format!(
        "listen = \"127.0.0.1:{listen}\"\ntls_listen = \"127.0.0.1:{tls}\"\ncertificate = \"{certificate}\"\n\
         check_interval = \"200ms\"\ntimeout_call = \"1s\"\n"
    );
    let gateway = HAProxy::start(&version, &render("grpc", &catalog, &parameters)).unwrap();
    let clients = [
        (plain_client, listen, "proto h2"),
        (tls_client, tls, "ssl verify none alpn h2"),
    ]
    .map(|(port, to, how)| {
        let config = format!(
            "{DEFAULTS}frontend client\n    bind 127.0.0.1:{port}\n    \
             http-request set-header content-type application/grpc+proto unless {{ path_end /rest }}\n    \
             default_backend gateway\nbackend gateway\n    server gateway 127.0.0.1:{to} {how}\n"
        );
        HAProxy::start(&others, &config).unwrap()
    });
    wait_for(LIMIT, "good checks", || {
        let text = gateway.ask("@1 show stat").ok()?;
        let well = text.lines().filter(|row| row.contains(",L7OK,"));
        (well.count() == 2).then_some(())
    })
    .unwrap_or_else(|error| panic!("{version}: {error} {:?}", gateway.ask("@1 show stat")));

    let asked = |port, path| {
        let answer = http::get(at(port), path).unwrap();
        (answer.status, answer.body)
    };
    let is = |status: u16, body: &str| (status, body.to_owned());
    let unary = "/org.apache.airavata.api.Service/call";
    let bus = "/slow/AgentCommunicationService/createMessageBus";
    assert_eq!(
        asked(plain_client, unary),
        is(200, "HTTP/2 http"),
        "{version}"
    );
    assert_eq!(
        asked(tls_client, unary),
        is(200, "HTTP/2 https"),
        "{version}"
    );
    // Asked by HTTP/2, and no call of gRPC.
    assert_eq!(
        asked(tls_client, "/api/v1/rest"),
        is(200, "HTTP/1 https"),
        "{version}"
    );
    // Asked by HTTP/1.1 at the same port.
    assert_eq!(
        asked(listen, "/api/v1/files"),
        is(200, "HTTP/1 http"),
        "{version}"
    );
    // The agents' stream may be silent for longer than a call.
    assert_eq!(asked(plain_client, "/slow/call").0, 504, "{version}");
    assert_eq!(
        asked(plain_client, bus),
        is(200, "HTTP/2 http"),
        "{version}"
    );
    drop(clients);
}

//! The certificate of the TLS port comes from a key of Consul, as another file of the set.

use super::gateway::{CERTIFICATE, Gateway, LIMIT, REPLY, Scene};
use super::self_signed;
use support::haproxies::{Version, haproxies};
use support::haproxy::HAProxy;
use support::thrift::{Client, Form};
use support::{ports, temp, wait_for};

/// Renewed in Consul, it is what new connections see, without a reload; connections of before go on.
#[haproxies]
fn a_renewed_certificate_costs_no_connection(version: Version) {
    let scene = Scene::new(&["a"]);
    let directory = temp::directory().unwrap();
    let authority = directory.path().join("authority.pem");
    let (first, key) = self_signed("one.example");
    let set = |certificate: &str, key: &str| {
        let both = [certificate, key].concat();
        scene.consul.set_key(CERTIFICATE, &both).unwrap();
    };
    set(&first, &key);
    let [tls, client] = ports::free().unwrap();
    let gateway = Gateway::start(&scene, &version, Some(tls));
    gateway.wait("the API", || {
        let client = Client::connect(gateway.address, &Form::default(), REPLY);
        client.is_ok_and(|mut client| client.version().is_ok())
    });
    let worker = gateway.worker();
    // A client that takes only the certificate of this name.
    let trusting = |name: &str, certificate: &str| {
        std::fs::write(&authority, certificate).unwrap();
        let config = format!(
            "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n\
             listen client\n    bind 127.0.0.1:{client}\n    server gateway 127.0.0.1:{tls} ssl no-ssl-reuse verify required verifyhost {name} ca-file {}\n",
            authority.display()
        );
        HAProxy::start(&version, &config).unwrap()
    };
    let call = || {
        let mut client = Client::connect(([127, 0, 0, 1], client).into(), &Form::default(), REPLY)?;
        client.version().map(|_| client)
    };
    let first_client = trusting("one.example", &first);
    let mut kept = call().unwrap();

    let (second, key) = self_signed("two.example");
    set(&second, &key);
    gateway.wait("new connections to see the new certificate", || {
        call().is_err()
    });
    assert_eq!(kept.version().as_deref(), Ok("a"), "{version}");
    drop((kept, first_client));
    let _second_client = trusting("two.example", &second);
    wait_for(LIMIT, "the new certificate", || call().ok()).unwrap();
    assert_eq!(gateway.worker(), worker, "{version} was reloaded");
}

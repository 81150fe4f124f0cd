//! Airavata's gateways as in `examples/airavata`: Thrift services whose instances hang, are killed, drain and
//! come back, behind the real program and every HAProxy.

mod certificates;
mod checks;
mod gateway;
mod grpc;
mod instances;
mod live;
mod set_ups;

use std::net::SocketAddr;
use std::path::Path;

use support::gatewright::Setup;
use support::tools;

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// What the template of a set-up makes of a catalog, without a stats socket.
fn render(set_up: &str, catalog: &str, parameters: &str) -> String {
    let setup = Setup::new().unwrap();
    let template = tools::root().join(format!("examples/airavata/{set_up}/haproxy.cfg.hbs"));
    setup.file("catalog.json", catalog).unwrap();
    setup
        .settings(&format!(
            "[[template]]\nsource = \"{}\"\ndestination = \"{{dir}}haproxy.cfg\"\n[parameters]\n{parameters}",
            template.display()
        ))
        .unwrap();
    let output = setup
        .call(&[
            "render",
            "-c",
            &setup.path("gatewright.toml"),
            "--catalog",
            "catalog.json",
        ])
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (without, rest) = text.split_once("    stats socket").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!("{without}{rest}")
}

/// A file with a certificate of its own making and its key.
fn certificate(folder: &Path) -> String {
    let path = folder.join("gateway.pem");
    let (certificate, key) = self_signed("localhost");
    std::fs::write(&path, certificate + &key).unwrap();
    path.display().to_string()
}

/// A certificate and its key.
fn self_signed(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

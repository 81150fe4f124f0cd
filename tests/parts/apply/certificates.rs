//! Certificates on real HAProxy: clients get the new ones, from the same worker.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatewright::apply::execute::{Applier, Means, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::set::{Candidate, REVISION_VARIABLE, Role, SetFile};
use gatewright::haproxy::runtime::{self, CertificateNames, Session};
use gatewright::haproxy::stats::WorkerSocket;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use support::haproxies::{Version, haproxies, oldest};

use super::bench::{Bench, Way, confirmed};
use crate::real::free_port;

const EACH: Duration = Duration::from_secs(5);

/// A certificate with its key.
#[derive(Clone)]
struct Pair {
    der: Vec<u8>,
    certificate: String,
    key: String,
}

impl Pair {
    fn new(name: &str) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&key).unwrap();
        Pair {
            der: certificate.der().to_vec(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

/// What is in the files.
#[derive(Clone)]
struct Wanted {
    list: String,
    pems: Vec<(&'static str, String)>,
}

struct Tls {
    bench: Bench,
    applier: Applier,
    port: u16,
    based: bool,
}

const NAMES: [&str; 3] = ["a.pem", "b.pem", "c.pem"];

impl Tls {
    async fn start(version: &Version, based: bool) -> Tls {
        let bench = Bench::with_haproxy(version).await;
        let mut options = bench.options(Way::Master);
        options
            .destinations
            .push((bench.path().join("list.txt"), Role::CrtList));
        for name in NAMES {
            options
                .destinations
                .push((bench.path().join(name), Role::Other));
        }
        Tls {
            applier: Applier::open(options, Rules::default()).unwrap(),
            port: free_port(),
            bench,
            based,
        }
    }

    fn set(&self, wanted: &Wanted) -> Candidate {
        let path = self.bench.path();
        let mut text = self.bench.text("one");
        let (port, list) = (self.port, path.join("list.txt"));
        text.push_str(&format!(
            "frontend tls\n    bind 127.0.0.1:{port} ssl crt-list {}\n    http-request return status 200\n",
            list.display()
        ));
        let prefix = match self.based {
            true => {
                let base = format!("global\n    crt-base {}\n", path.display());
                text = text.replacen("global\n", &base, 1);
                String::new()
            }
            false => format!("{}/", path.display()),
        };
        let file = |destination: PathBuf, role, text| SetFile {
            destination,
            role,
            mode: None,
            text,
        };
        let lines = wanted.list.lines().map(|line| format!("{prefix}{line}\n"));
        let mut files = vec![
            file(self.bench.main(), Role::Config, text),
            file(list, Role::CrtList, lines.collect()),
        ];
        for (name, text) in &wanted.pems {
            files.push(file(path.join(name), Role::Other, text.clone()));
        }
        Candidate::new(files)
    }

    async fn apply(&mut self, wanted: &Wanted) -> Verdict {
        let set = self.set(wanted);
        self.applier.apply(&set, Means::Any).await
    }

    /// Applied by the same worker; on the disk as well.
    async fn told(&mut self, wanted: &Wanted) {
        let before = self.pid().await;
        let verdict = self.apply(wanted).await;
        let Verdict::Confirmed {
            reloaded,
            means,
            took,
            ..
        } = &verdict
        else {
            panic!("{verdict:?}");
        };
        eprintln!("{}: {means} in {took:?}", self.bench.version);
        assert!(!reloaded, "{verdict:?}");
        assert_eq!(self.pid().await, before);
        self.assert_on_disk(wanted);
    }

    fn assert_on_disk(&self, wanted: &Wanted) {
        for file in self.set(wanted).files {
            let text = std::fs::read_to_string(&file.destination).unwrap();
            assert!(text == file.text, "{}", file.destination.display());
        }
        self.bench.assert_clean();
    }

    fn socket(&self) -> WorkerSocket {
        WorkerSocket::Stats(self.bench.path().join("stats.sock").into())
    }

    async fn pid(&self) -> i32 {
        self.socket()
            .running(EACH, REVISION_VARIABLE)
            .await
            .unwrap()
            .pid
    }

    /// The certificates that the worker holds.
    async fn names(&self) -> CertificateNames {
        let running = self
            .socket()
            .running(EACH, REVISION_VARIABLE)
            .await
            .unwrap();
        let session = Session {
            socket: self.socket(),
            version: runtime::Version::parse(&running.version).unwrap(),
            limit: EACH,
            variable: REVISION_VARIABLE.to_owned(),
        };
        session.certificates().await.unwrap()
    }

    /// Every one of many clients that ask for this name gets it.
    fn assert_served(&self, name: &str, pair: &Pair) {
        for _ in 0..20 {
            assert!(served(self.port, name) == pair.der, "{name}");
        }
    }
}

/// The certificate that a client gets who asks for `name`.
fn served(port: u16, name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    client.peer_certificates().unwrap()[0].to_vec()
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[haproxies]
async fn certificates_are_changed_added_and_removed_without_a_reload(version: Version) {
    for based in [false, true] {
        let mut tls = Tls::start(&version, based).await;
        let [a, b, newer, c] =
            ["a", "b", "b", "c"].map(|name| Pair::new(&format!("{name}.example")));
        let mut wanted = Wanted {
            list: "a.pem\nb.pem [alpn h2,http/1.1]\n".to_owned(),
            pems: vec![("a.pem", a.pem()), ("b.pem", b.pem())],
        };
        let verdict = tls.apply(&wanted).await;
        assert!(confirmed(&verdict), "{version}: {verdict:?}");
        tls.assert_served("b.example", &b);

        wanted.pems[1].1 = newer.pem();
        tls.told(&wanted).await;
        tls.assert_served("b.example", &newer);
        tls.assert_served("a.example", &a);

        let two = wanted.clone();
        wanted.list =
            "a.pem\nc.pem [alpn h2] c.example *.c.example\nb.pem [alpn h2,http/1.1]\n".to_owned();
        wanted.pems.push(("c.pem", c.pem()));
        tls.told(&wanted).await;
        tls.assert_served("www.c.example", &c);
        tls.assert_served("b.example", &newer);

        tls.told(&two).await;
        tls.assert_served("c.example", &a);
        let names = tls.names().await;
        assert_eq!(
            (names.held.len(), names.transaction),
            (2, None),
            "{:?}",
            names.held
        );

        // And what a load of the files makes of it is the same.
        let set = tls.set(&two);
        let verdict = tls.applier.apply(&set, Means::Reload).await;
        assert!(confirmed(&verdict), "{version}: {verdict:?}");
        tls.assert_served("b.example", &newer);
    }
}

/// One certificate has been changed and another one added when HAProxy refuses the third: all is as it
/// was.
#[haproxies(ends)]
async fn what_haproxy_refuses_is_undone(version: Version) {
    let mut tls = Tls::start(&version, false).await;
    let [a, other, b, c] = ["a", "a", "b", "c"].map(|name| Pair::new(&format!("{name}.example")));
    let wanted = Wanted {
        list: "a.pem\nc.pem\n".to_owned(),
        pems: vec![("a.pem", a.pem()), ("c.pem", c.pem())],
    };
    let verdict = tls.apply(&wanted).await;
    assert!(confirmed(&verdict), "{version}: {verdict:?}");
    let before = tls.pid().await;
    let bad = Wanted {
        list: "a.pem\nb.pem\nc.pem\n".to_owned(),
        pems: vec![
            ("a.pem", other.pem()),
            ("b.pem", b.pem()),
            ("c.pem", format!("{}{}", c.certificate, b.key)),
        ],
    };
    let verdict = tls.apply(&bad).await;
    assert!(
        matches!(verdict, Verdict::Refused { .. }),
        "{version}: {verdict:?}"
    );
    assert!(!format!("{verdict:?}").contains("PRIVATE KEY"));
    tls.assert_on_disk(&wanted);
    assert!(!tls.bench.path().join("b.pem").exists());
    assert_eq!(tls.pid().await, before);
    tls.assert_served("a.example", &a);
    tls.assert_served("b.example", &a);
    tls.assert_served("c.example", &c);
    let names = tls.names().await;
    assert_eq!((names.held.len(), names.transaction), (2, None));
    // What is good is told afterwards.
    let good = Wanted {
        pems: vec![bad.pems[0].clone(), bad.pems[1].clone(), ("c.pem", c.pem())],
        ..bad
    };
    tls.told(&good).await;
    tls.assert_served("b.example", &b);
    // Nor is it taken in a list that stays as it is.
    let mut bad = good.clone();
    bad.pems[1].1 = format!("{}{}", b.certificate, c.key);
    let verdict = tls.apply(&bad).await;
    assert!(
        matches!(verdict, Verdict::Refused { .. }),
        "{version}: {verdict:?}"
    );
    tls.assert_on_disk(&good);
    tls.assert_served("b.example", &b);
    assert_eq!(tls.pid().await, before);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_told_is_loaded_and_why() {
    let mut tls = Tls::start(&oldest(), false).await;
    let (a, long) = (Pair::new("a.example"), Pair::new("a.example"));
    let mut wanted = Wanted {
        list: "a.pem\n".to_owned(),
        pems: vec![("a.pem", a.pem())],
    };
    let verdict = tls.apply(&wanted).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    wanted.pems[0].1 = long.pem() + &"# more\n".repeat(2_000);
    let set = tls.set(&wanted);
    let verdict = tls.applier.apply(&set, Means::Commands).await;
    let Verdict::NeedsReload { reason } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(reason.contains("longer than HAProxy's buffer"), "{reason}");
    let verdict = tls.apply(&wanted).await;
    let Verdict::Confirmed {
        reloaded, story, ..
    } = &verdict
    else {
        panic!("{verdict:?}");
    };
    assert!(
        *reloaded && story.starts_with("changed a.pem (not by commands: "),
        "{story}"
    );
    tls.assert_served("a.example", &long);
}

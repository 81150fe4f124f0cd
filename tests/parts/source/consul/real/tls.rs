//! TLS to a real Consul: authorities, client certificates, server names, rotation.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::*;

/// A certificate authority that writes its own and others' certificates into a folder.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), cert.pem()).unwrap();
        Authority {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes `file.pem` and `file.key` for a DNS name.
    fn issue(&self, file: &str, name: &str) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.join(format!("{file}.pem")), cert.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// Starts an agent that also listens for HTTPS, and there asks for a certificate of the authority `ca`.
fn start(folder: &Path) -> (Agent, u16) {
    let [https] = support::ports::free().unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let agent = Agent::start_with(&[
        &format!("-hcl=ports {{ https = {https} }}"),
        &format!("-hcl=ca_file = \"{}\"", file("ca.pem")),
        &format!("-hcl=cert_file = \"{}\"", file("server.pem")),
        &format!("-hcl=key_file = \"{}\"", file("server.key")),
        "-hcl=verify_incoming_https = true",
    ]);
    (agent.unwrap(), https)
}

// A15
#[consuls]
async fn tls_with_a_private_authority_client_certificate_and_server_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path(), "ca");
    authority.issue("server", "server.dc1.consul");
    authority.issue("client", "gatewright.local");
    let stranger = Authority::new(folder.path(), "stranger");
    stranger.issue("strange", "gatewright.local");
    let (_agent, https) = start(folder.path());
    let address: Address = format!("https://127.0.0.1:{https}").parse().unwrap();
    let good = TlsOptions {
        ca_file: Some(path("ca.pem")),
        client_cert: Some(path("client.pem")),
        client_key: Some(path("client.key")),
        server_name: Some("server.dc1.consul".into()),
        ..TlsOptions::default()
    };
    let query = of(Kind::Datacenters { ignore_down: false });
    let outcome = async |tls: TlsOptions| {
        let consul = source_at(address.clone(), tls).unwrap();
        let read = consul.read_once(&query, PATIENCE).await;
        read.map(|(answer, _)| answer.len())
            .map_err(|error| error.class)
    };
    assert_eq!(outcome(good.clone()).await, Ok(1));
    let folder_of_authorities = tempfile::tempdir().unwrap();
    std::fs::copy(path("ca.pem"), folder_of_authorities.path().join("one.pem")).unwrap();
    let by_folder = TlsOptions {
        ca_file: None,
        ca_path: Some(folder_of_authorities.path().into()),
        ..good.clone()
    };
    assert_eq!(outcome(by_folder).await, Ok(1));
    let no_name = TlsOptions {
        server_name: None,
        ..good.clone()
    };
    assert_eq!(outcome(no_name.clone()).await, Err(ErrorClass::Tls));
    let careless = TlsOptions {
        insecure_skip_verify: true,
        ..no_name
    };
    assert_eq!(outcome(careless).await, Ok(1));
    let other_authority = TlsOptions {
        ca_file: Some(path("stranger.pem")),
        ..good.clone()
    };
    assert_eq!(outcome(other_authority).await, Err(ErrorClass::Tls));
    let no_certificate = TlsOptions {
        client_cert: None,
        client_key: None,
        ..good.clone()
    };
    assert_eq!(outcome(no_certificate).await, Err(ErrorClass::Tls));
    let strange = TlsOptions {
        client_cert: Some(path("strange.pem")),
        client_key: Some(path("strange.key")),
        ..good.clone()
    };
    assert_eq!(outcome(strange).await, Err(ErrorClass::Tls));
    // Plain HTTP to the TLS port is an error, and so is a pair that does not belong together.
    let plain = source_at(
        format!("127.0.0.1:{https}").parse().unwrap(),
        TlsOptions::default(),
    )
    .unwrap();
    let error = plain.read_once(&query, PATIENCE).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Rejected, "{error}");
    let mixed = TlsOptions {
        client_key: Some(path("strange.key")),
        ..good.clone()
    };
    assert!(matches!(
        source_at(address.clone(), mixed),
        Err(ConsulError::Tls(_))
    ));
}

// A16
#[consuls]
async fn a_rotated_client_certificate_is_taken_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path(), "ca");
    authority.issue("server", "server.dc1.consul");
    Authority::new(folder.path(), "stranger").issue("client", "gatewright.local");
    authority.issue("next", "gatewright.local");
    let (_agent, https) = start(folder.path());
    let address: Address = format!("https://127.0.0.1:{https}").parse().unwrap();
    let tls = TlsOptions {
        ca_file: Some(path("ca.pem")),
        client_cert: Some(path("client.pem")),
        client_key: Some(path("client.key")),
        server_name: Some("server.dc1.consul".into()),
        ..TlsOptions::default()
    };
    let consul = source_at(address, tls).unwrap();
    let (_watch, mut updates) = watch(&consul, of(Kind::Datacenters { ignore_down: false }));
    let first = timeout(PATIENCE, updates.recv()).await.unwrap().unwrap();
    assert!(
        matches!(&first, Update::Failed { error, .. } if error.class == ErrorClass::Tls),
        "{first:?}"
    );
    std::fs::copy(path("next.pem"), path("client.pem")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while consul.status().tls_problem.is_none() {
        assert!(
            Instant::now() < deadline,
            "the half-written pair was not noticed"
        );
        let _ = timeout(Duration::from_millis(20), updates.recv()).await;
    }
    std::fs::copy(path("next.key"), path("client.key")).unwrap();
    answer_where(&mut updates, |answer| answer.len() == 1).await;
    assert_eq!(consul.status().tls_problem, None);
}

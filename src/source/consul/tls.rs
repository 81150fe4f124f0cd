//! TLS towards Consul: trust, the client certificate, and one HTTP client an address.
//!
//! Certificate files are read again when they change. What does not parse, or a certificate and
//! key that do not belong together, leaves the clients that exist in use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::address::Address;
use super::{ConsulError, Options};
use crate::text;

/// TLS settings. With neither a CA file nor a CA directory, the system's own store is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file of trusted authorities.
    pub ca_file: Option<PathBuf>,
    /// Directory of such files.
    pub ca_path: Option<PathBuf>,
    /// PEM file of the client certificate and its chain.
    pub client_cert: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub client_key: Option<PathBuf>,
    /// The DNS name to send and to verify instead of the address's host.
    pub server_name: Option<String>,
    /// Accept any certificate. The status says so for as long as it is set.
    pub insecure_skip_verify: bool,
}

/// What the files looked like when the clients were made.
pub(super) type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// One way to reach Consul.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// As settings name it.
    pub(super) address: String,
    /// `scheme://host:port`, in front of each path.
    pub(super) origin: String,
    /// Its connections.
    pub(super) http: reqwest::Client,
}

/// The clients for all addresses, with the certificate files as they are now.
pub(super) fn endpoints(options: &Options) -> Result<Vec<Endpoint>, ConsulError> {
    let any_tls = options.addresses.iter().any(Address::is_tls);
    let config = client_config(&options.tls, any_tls)?;
    options
        .addresses
        .iter()
        .map(|address| endpoint(address, &config, options))
        .collect()
}

/// How the certificate files look now.
pub(super) fn stamp(tls: &TlsOptions) -> Stamp {
    let mut files: Vec<PathBuf> = [&tls.ca_file, &tls.client_cert, &tls.client_key]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    if let Some(folder) = &tls.ca_path {
        files.extend(certificate_files(folder).unwrap_or_default());
    }
    let look = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files
        .into_iter()
        .map(|path| {
            let seen = look(&path);
            (path, seen)
        })
        .collect()
}

fn endpoint(
    address: &Address,
    config: &ClientConfig,
    options: &Options,
) -> Result<Endpoint, ConsulError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("gatewright/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(options.connect_timeout)
        // Shorter than any idle limit in between, so that a dead connection is seldom reused; and Consul counts it.
        .pool_idle_timeout(Duration::from_secs(5))
        // Also for plain http: without a provider the builder panics.
        .tls_backend_preconfigured(config.clone());
    let origin = match (address, &options.tls.server_name) {
        (Address::Unix(path), _) => {
            builder = builder.unix_socket(path.clone());
            "http://localhost".to_owned()
        }
        (Address::Tcp { tls, host, port }, Some(name)) if *tls => {
            if name.parse::<std::net::IpAddr>().is_ok()
                || ServerName::try_from(name.as_str()).is_err()
            {
                return Err(ConsulError::Tls(format!(
                    "The TLS server name {name:?} is not a DNS name."
                )));
            }
            // The URL bears the name, so that it is sent and verified; connections go to the host.
            builder = builder.dns_resolver(Fixed {
                host: host.clone(),
                port: *port,
            });
            format!("https://{name}:{port}")
        }
        (address, _) => address.to_string(),
    };
    let http = builder
        .build()
        .map_err(|error| ConsulError::Tls(format!("The HTTP client cannot be made: {error}.")))?;
    Ok(Endpoint {
        address: address.to_string(),
        origin,
        http,
    })
}

fn client_config(tls: &TlsOptions, any_tls: bool) -> Result<ClientConfig, ConsulError> {
    let wrong = |error: rustls::Error| ConsulError::Tls(format!("TLS cannot be set up: {error}."));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = if tls.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(tls, any_tls)?)
    };
    match (&tls.client_cert, &tls.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            if chain.is_empty() {
                return Err(unreadable(cert, "there is no certificate in it"));
            }
            let key = PrivateKeyDer::from_pem_slice(&pem(key)?)
                .map_err(|error| unreadable(key, &error.to_string()))?;
            // rustls checks that the pair belongs together.
            builder.with_client_auth_cert(chain, key).map_err(wrong)
        }
        _ => Err(ConsulError::Tls(
            "A client certificate and its key must be given together.".to_owned(),
        )),
    }
}

fn roots(tls: &TlsOptions, any_tls: bool) -> Result<RootCertStore, ConsulError> {
    let mut found = Vec::new();
    if let Some(file) = &tls.ca_file {
        found = certificates(file)?;
        if found.is_empty() {
            return Err(unreadable(file, "there is no certificate in it"));
        }
    }
    if let Some(folder) = &tls.ca_path {
        for file in
            certificate_files(folder).map_err(|error| unreadable(folder, &error.to_string()))?
        {
            found.extend(certificates(&file)?);
        }
    }
    if tls.ca_file.is_none() && tls.ca_path.is_none() && any_tls {
        // Some entries of a system's store may be unreadable; what counts is that some are there.
        found = rustls_native_certs::load_native_certs().certs;
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 && any_tls {
        return Err(ConsulError::Tls(
            "No trusted certificate authority was found; name a CA file.".to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConsulError> {
    CertificateDer::pem_slice_iter(&pem(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(file, &error.to_string()))
}

fn pem(file: &Path) -> Result<Vec<u8>, ConsulError> {
    text::bytes(file, text::WRITTEN).map_err(|error| unreadable(file, &error.to_string()))
}

/// The regular files of a directory, sorted, without hidden ones.
fn certificate_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, why: &str) -> ConsulError {
    ConsulError::Tls(format!(
        "The file {} cannot be used: {why}.",
        path.display()
    ))
}

/// Resolves every name to one host, again at each connection.
struct Fixed {
    host: String,
    port: u16,
}

impl Resolve for Fixed {
    fn resolve(&self, _name: Name) -> Resolving {
        let (host, port) = (self.host.clone(), self.port);
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Accepts any certificate; in use only with `insecure_skip_verify`.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

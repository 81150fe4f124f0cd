//! Consul's own environment variables, as its command line reads them (Consul 1.8 documentation,
//! "Environment Variables" of the commands page), and Serf's two.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::source::Origin;

use super::model::Settings;
use super::types::SecretText;

/// The variables as the process got them; only UTF-8 ones.
pub type Environment = BTreeMap<String, String>;

/// Reads the process's environment once.
pub fn read() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Fills what the settings leave open from Consul's variables. Empty variables count as unset.
pub fn fill(settings: &mut Settings, environment: &Environment) -> Result<(), Vec<Diagnostic>> {
    let get = |name: &str| {
        environment
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    let mut wrong = Vec::new();
    let mut flag = |name: &'static str| match get(name).map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("1" | "t" | "true") => Some(true),
        Some("0" | "f" | "false") => Some(false),
        Some(other) => {
            wrong.push(
                Diagnostic::error(
                    "environment",
                    format!("The environment variable {name} is `{other}`, which is neither true nor false."),
                )
                .help("Write `true` or `false`, or unset it."),
            );
            None
        }
    };
    let ssl = flag("CONSUL_HTTP_SSL");
    let verify = flag("CONSUL_HTTP_SSL_VERIFY");

    let consul = &mut settings.consul;
    if consul.addresses.is_empty()
        && let Some(address) = get("CONSUL_HTTP_ADDR")
    {
        consul.addresses = vec![with_scheme(address, ssl == Some(true))];
    }
    if consul.token.is_none() && consul.token_file.is_none() {
        // consul-template's own names count after Consul's.
        let either = |name, other| get(name).or_else(|| get(other));
        consul.token_file =
            either("CONSUL_HTTP_TOKEN_FILE", "CONSUL_TOKEN_FILE").map(PathBuf::from);
        if consul.token_file.is_none() {
            consul.token = either("CONSUL_HTTP_TOKEN", "CONSUL_TOKEN")
                .map(|token| SecretText::new(token.to_owned()));
        }
    }
    let text = |name| get(name).map(str::to_owned);
    let path = |name| get(name).map(PathBuf::from);
    let http_auth = text("CONSUL_HTTP_AUTH").map(SecretText::new);
    consul.http_auth = consul.http_auth.take().or(http_auth);
    consul.namespace = consul.namespace.take().or_else(|| text("CONSUL_NAMESPACE"));
    consul.partition = consul.partition.take().or_else(|| text("CONSUL_PARTITION"));
    let tls = &mut consul.tls;
    tls.ca_file = tls.ca_file.take().or_else(|| path("CONSUL_CACERT"));
    tls.ca_path = tls.ca_path.take().or_else(|| path("CONSUL_CAPATH"));
    tls.client_cert = tls
        .client_cert
        .take()
        .or_else(|| path("CONSUL_CLIENT_CERT"));
    tls.client_key = tls.client_key.take().or_else(|| path("CONSUL_CLIENT_KEY"));
    tls.server_name = tls
        .server_name
        .take()
        .or_else(|| text("CONSUL_TLS_SERVER_NAME"));
    if verify == Some(false) {
        tls.insecure_skip_verify = true;
    }
    let serf = &mut settings.serf;
    if settings.catalog.source == Origin::Serf {
        if serf.addresses.is_empty() {
            serf.addresses = text("SERF_RPC_ADDR").into_iter().collect();
        }
        if serf.auth_key.is_none() && serf.auth_key_file.is_none() {
            serf.auth_key = text("SERF_RPC_AUTH").map(SecretText::new);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Consul takes `host:port` too; CONSUL_HTTP_SSL decides the scheme then.
fn with_scheme(address: &str, ssl: bool) -> String {
    if address.contains("://") {
        match address.strip_prefix("http://") {
            Some(rest) if ssl => format!("https://{rest}"),
            _ => address.to_owned(),
        }
    } else if ssl {
        format!("https://{address}")
    } else {
        format!("http://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pairs: &[(&str, &str)]) -> Result<Settings, Vec<Diagnostic>> {
        let environment = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut settings = Settings::default();
        fill(&mut settings, &environment).map(|()| settings)
    }

    #[test]
    fn consuls_variables_fill_what_is_open() {
        let settings = filled(&[
            ("CONSUL_HTTP_ADDR", "consul.example:8501"),
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_HTTP_TOKEN", "s3cret"),
            ("CONSUL_NAMESPACE", "team"),
            ("CONSUL_CACERT", "/ca.pem"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
            ("CONSUL_PARTITION", ""),
        ])
        .unwrap();
        assert_eq!(settings.consul.addresses, ["https://consul.example:8501"]);
        assert_eq!(settings.consul.token.unwrap().reveal(), "s3cret");
        assert_eq!(settings.consul.namespace.as_deref(), Some("team"));
        assert_eq!(settings.consul.partition, None);
        assert!(settings.consul.tls.insecure_skip_verify);
        assert_eq!(settings.consul.tls.ca_file, Some("/ca.pem".into()));
    }

    #[test]
    fn serfs_variables_count_where_serf_is_the_source() {
        let pairs = [
            ("SERF_RPC_ADDR", "10.0.0.1:7373"),
            ("SERF_RPC_AUTH", "s3cret"),
        ];
        assert!(filled(&pairs).unwrap().serf.addresses.is_empty());
        let mut settings = Settings::default();
        settings.catalog.source = Origin::Serf;
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        fill(&mut settings, &environment.into()).unwrap();
        assert_eq!(settings.serf.addresses, ["10.0.0.1:7373"]);
        assert_eq!(settings.serf.auth_key.unwrap().reveal(), "s3cret");
    }

    #[test]
    fn a_token_file_wins_over_a_token_and_a_wrong_flag_is_refused() {
        let settings =
            filled(&[("CONSUL_HTTP_TOKEN", "a"), ("CONSUL_HTTP_TOKEN_FILE", "/t")]).unwrap();
        assert!(settings.consul.token.is_none());
        assert_eq!(settings.consul.token_file, Some("/t".into()));
        let settings = filled(&[("CONSUL_TOKEN", "a")]).unwrap();
        assert_eq!(settings.consul.token.unwrap().reveal(), "a");
        let settings = filled(&[("CONSUL_TOKEN", "a"), ("CONSUL_HTTP_TOKEN", "b")]).unwrap();
        assert_eq!(settings.consul.token.unwrap().reveal(), "b");
        let settings = filled(&[("CONSUL_TOKEN_FILE", "/t")]).unwrap();
        assert_eq!(settings.consul.token_file, Some("/t".into()));
        assert!(filled(&[("CONSUL_HTTP_SSL", "maybe")]).is_err());
    }
}

//! What settings allow and somebody may have forgotten: told at the start and by the status for ever.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::haproxy::redact::names_a_secret;
use crate::settings::{Environment, Settings};
use crate::source::Origin;
use crate::source::consul::Address;

/// What the settings allow that somebody may have forgotten. `file` is the settings file.
pub fn standing(
    settings: &Settings,
    environment: &Environment,
    file: Option<&Path>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let consul = &settings.consul;
    if consul.tls.insecure_skip_verify {
        warnings.push(
            "Consul's certificate is not verified (consul.tls.insecure_skip_verify).".to_owned(),
        );
    }
    let secret =
        consul.token.is_some() || consul.token_file.is_some() || consul.http_auth.is_some();
    for address in of_source(settings, Origin::Consul, &consul.addresses) {
        let open = address
            .parse::<Address>()
            .is_ok_and(|address| !address.is_tls() && !address.is_local());
        if open {
            warnings.push(match secret {
                true => format!("The token or password goes to {address} unencrypted. Use https there."),
                false => format!("Consul is read from {address} without TLS, so another machine on the way can change what HAProxy loads. Use https there, or an agent on this machine."),
            });
        }
    }
    let serf = &settings.serf;
    let key = serf.auth_key.is_some() || serf.auth_key_file.is_some();
    for address in serf.addresses.iter().filter(|_| key) {
        if !is_local(address) {
            warnings.push(format!(
                "The key goes to Serf's agent at {address} unencrypted. Ask an agent on this machine."
            ));
        }
    }
    for file in [&consul.token_file, &serf.auth_key_file]
        .into_iter()
        .flatten()
        .filter(|file| is_open(file))
    {
        warnings.push(format!(
            "Everybody on this machine can read the token file {}. Take the rights of others away (chmod o= {}).",
            file.display(),
            file.display()
        ));
    }
    let open = file.filter(|file| is_open(file));
    for variable in &settings.haproxy.environment {
        let name = &variable.name;
        if name.starts_with("CONSUL_") || name == "SERF_RPC_AUTH" {
            warnings.push(format!(
                "haproxy.environment gives HAProxy {name}. A template, and everyone who may use HAProxy's sockets, can read it there. Remove it."
            ));
        }
        if let (Some(file), Some(_)) = (open, &variable.value)
            && names_a_secret(name)
        {
            warnings.push(format!(
                "Everybody on this machine can read the settings file {}, which has the value of {name} in haproxy.environment. Take the rights of others away (chmod o= {}), or write \"{name}\" alone and set it where Gatewright is started.",
                file.display(),
                file.display()
            ));
        }
        if variable.value.is_none() && !environment.contains_key(name) {
            warnings.push(format!(
                "haproxy.environment names {name}, which Gatewright's own environment does not have. Set it where Gatewright is started, or write \"{name}=VALUE\"."
            ));
        }
    }
    if let Some(listen) = settings.status.listen
        && !listen.0.ip().is_loopback()
    {
        warnings.push(format!(
            "The status is served on {}, which other machines may reach (status.listen).",
            listen.0
        ));
    }
    warnings
}

/// The addresses of a source that is read.
fn of_source<'a>(
    settings: &Settings,
    origin: Origin,
    addresses: &'a [String],
) -> impl Iterator<Item = &'a String> {
    let is_read = settings.catalog.source == origin;
    addresses.iter().filter(move |_| is_read)
}

/// Whether others than its owner and its group have rights on a file.
fn is_open(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}

/// Whether `host:port` is on this machine for certain.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::types::SecretText;

    // L12 K03
    #[test]
    fn what_is_open_is_told() {
        let mut settings = Settings::default();
        let pairs = ["LB_ADDR", "CONSUL_HTTP_TOKEN"];
        let environment = pairs.map(|name| (name.to_owned(), "canary".to_owned()));
        let environment = Environment::from(environment);
        settings.haproxy.environment = ["LB_ADDR", "STAGE=test"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        settings.consul.addresses = vec![
            "http://127.0.0.1:8500".to_owned(),
            "http://localhost:8500".to_owned(),
            "http://[::1]:8500".to_owned(),
            "unix:///run/consul.sock".to_owned(),
            "https://consul.example".to_owned(),
        ];
        settings.consul.token = Some(SecretText::new("canary".to_owned()));
        settings.status.listen = Some("127.0.0.1:9877".parse().unwrap());
        assert_eq!(
            standing(&settings, &environment, None),
            Vec::<String>::new()
        );

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "canary").unwrap();
        let bits = |bits| std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(&file, bits(0o640)).unwrap();
        settings.consul.token_file = Some(file.clone());
        assert_eq!(
            standing(&settings, &environment, None),
            Vec::<String>::new()
        );

        std::fs::set_permissions(&file, bits(0o644)).unwrap();
        settings.consul.tls.insecure_skip_verify = true;
        settings
            .consul
            .addresses
            .push("http://consul.example:8500".to_owned());
        settings.status.listen = Some("0.0.0.0:9877".parse().unwrap());
        for text in ["CONSUL_HTTP_TOKEN", "NOWHERE"] {
            settings.haproxy.environment.push(text.parse().unwrap());
        }
        let told = standing(&settings, &environment, None);
        let parts = [
            "not verified",
            "unencrypted",
            "can read the token file",
            "gives HAProxy CONSUL_HTTP_TOKEN",
            "names NOWHERE",
            "0.0.0.0:9877",
        ];
        assert_eq!(told.len(), parts.len(), "{told:?}");
        for (sentence, part) in told.iter().zip(parts) {
            assert!(sentence.contains(part), "{sentence}");
            assert!(!sentence.contains("canary"), "{sentence}");
        }
    }

    // L12
    #[test]
    fn consul_without_tls_on_another_machine_is_told() {
        let told = |address: &str| {
            let mut settings = Settings::default();
            settings.consul.addresses = vec![address.to_owned()];
            standing(&settings, &Environment::new(), None)
        };
        for address in [
            "http://consul.example:8500",
            "http://10.0.0.1:8500",
            "http://[2001:db8::1]:8500",
            "http://127.example:8500",
        ] {
            let told = told(address);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].contains(address) && told[0].contains("https"),
                "{told:?}"
            );
        }
        for address in [
            "http://127.0.0.1:8500",
            "http://127.8.0.1:8500",
            "http://localhost:8500",
            "http://[::1]:8500",
            "unix:///run/consul.sock",
            "https://consul.example:8501",
        ] {
            assert_eq!(told(address), Vec::<String>::new(), "{address}");
        }
        // The address of a Consul that is not read needs no warning.
        let mut settings = Settings::default();
        settings.catalog.source = Origin::File;
        settings.consul.addresses = vec!["http://10.0.0.1:8500".to_owned()];
        assert!(standing(&settings, &Environment::new(), None).is_empty());
    }

    // L07 L12
    #[test]
    fn a_secret_in_a_settings_file_that_everybody_can_read_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gatewright.toml");
        std::fs::write(&file, "").unwrap();
        let mut settings = Settings::default();
        settings.haproxy.environment = ["LB_ADDR=10.0.0.1", "API_TOKEN=canary", "DB_PASSWORD"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let environment = Environment::from([("DB_PASSWORD".to_owned(), "canary".to_owned())]);
        for (bits, count) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
            let bits = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(&file, bits).unwrap();
            let told = standing(&settings, &environment, Some(&file));
            assert_eq!(told.len(), count, "{told:?}");
            for sentence in told {
                assert!(sentence.contains("the value of API_TOKEN"), "{sentence}");
                assert!(!sentence.contains("canary"), "{sentence}");
            }
        }
    }
}

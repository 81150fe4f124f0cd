//! The options of a route: `strip=/api`, `proto=https`, `allow=ip:10.0.0.0/8`.

use std::collections::BTreeSet;

use super::Access;
use super::access::{MOST_NETWORKS, sorted};
use super::table::shown;
use crate::catalog::Network;

/// The longest name, path and address of a redirection that an option may hold, in bytes.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 1024;
const MAX_URL: usize = 2048;

/// How a target is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP.
    #[default]
    Http,
    /// HTTP in TLS.
    Https,
    /// HTTP/2 without TLS.
    Grpc,
    /// HTTP/2 in TLS.
    Grpcs,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Fabio's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Grpc => "grpc",
            Protocol::Grpcs => "grpcs",
            Protocol::Tcp => "tcp",
        }
    }

    /// Reads Fabio's word.
    pub fn parse(word: &str) -> Option<Protocol> {
        use Protocol::{Grpc, Grpcs, Http, Https, Tcp};
        [Http, Https, Grpc, Grpcs, Tcp]
            .into_iter()
            .find(|protocol| protocol.as_str() == word)
    }
}

/// What the Host header becomes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostHeader {
    /// This name.
    Name(String),
    /// The address of the target.
    Target,
}

/// Where a client is sent instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirect {
    /// From 300 to 399.
    pub code: u16,
    /// The address; `$path` and `$host` stand for those of the request.
    pub url: String,
}

/// Everything a route says beside where it comes from and leads to. Targets of one route whose options
/// differ are kept apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Options {
    /// `proto=`.
    pub protocol: Protocol,
    /// `strip=`: taken from the beginning of the path.
    pub strip: Option<String>,
    /// `prepend=`: put before the path, after `strip`.
    pub prepend: Option<String>,
    /// `host=`.
    pub host: Option<HostHeader>,
    /// `redirect=`.
    pub redirect: Option<Redirect>,
    /// `allow=` or `deny=`, and `auth=`.
    pub access: Access,
    /// `tlsskipverify=true`.
    pub skip_verify: bool,
    /// `grpcservername=`.
    pub server_name: Option<String>,
    /// `pxyproto=true`.
    pub proxy_protocol: bool,
}

impl Options {
    /// Whether the target's certificate is checked.
    pub fn is_verified(&self) -> bool {
        let tls = matches!(self.protocol, Protocol::Https | Protocol::Grpcs);
        tls && !self.skip_verify && self.redirect.is_none()
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// The options.
    pub options: Options,
    /// `weight=`, if it is above 0.
    pub weight: Option<f64>,
    /// What is odd about them, as sentences.
    pub notes: Vec<String>,
}

impl Read {
    /// Reads `key=value` words. An error is the end of a sentence that begins with what is refused. What has rules of access
    /// is closed instead: its requests would go to a less exact route without these rules.
    pub fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Read, String> {
        let mut read = Read::default();
        let (mut rules, mut has_rules, mut fault) = (0, false, None);
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            has_rules |= matches!(key, "allow" | "deny" | "auth");
            let outcome = read.field(key, value, &mut rules);
            fault = fault.or(outcome.err());
        }
        match fault {
            Some(reason) if has_rules => {
                read.options.access.close();
                read.notes.push(format!(
                    "It has a rule of access and an option that cannot be used, so it answers 403 to everybody: {reason}."
                ));
            }
            Some(reason) => return Err(reason),
            None => {}
        }
        if rules > 1 {
            read.options.access.close();
            read.notes.push("It has more than one rule of access, so it answers 403 to everybody. Write one of allow and deny, once.".to_owned());
        }
        Ok(read)
    }

    fn field(&mut self, key: &str, value: &str, rules: &mut usize) -> Result<(), String> {
        let options = &mut self.options;
        match key {
            // Fabio takes every other word for http.
            "proto" => match Protocol::parse(value) {
                Some(protocol) => options.protocol = protocol,
                None => self.notes.push(format!(
                    "`proto={}` is not known and taken for http. Known are tcp, https, grpc and grpcs.", shown(value)
                )),
            },
            "weight" => self.weight(value),
            "strip" => options.strip = Some(path(key, value)?),
            "prepend" => options.prepend = Some(path(key, value)?),
            "host" if value == "dst" => options.host = Some(HostHeader::Target),
            "host" => options.host = Some(HostHeader::Name(name(key, value)?)),
            "redirect" => options.redirect = Some(redirect(value)?),
            "allow" | "deny" => {
                *rules += 1;
                match (networks(value), key) {
                    (Ok(list), "allow") => options.access.allow = Some(list),
                    (Ok(list), _) => options.access.deny = list,
                    (Err(reason), _) => {
                        self.notes.push(format!(
                            "Its rule of access `{key}={}` cannot be read, so it answers 403 to everybody: {reason}", shown(value)
                        ));
                        options.access.close();
                    }
                }
            }
            "auth" => options.access.auth = BTreeSet::from([name(key, value)?]),
            "tlsskipverify" => options.skip_verify = value == "true",
            "grpcservername" => options.server_name = Some(name(key, value)?),
            "pxyproto" => options.proxy_protocol = value == "true",
            "register" => self.notes.push(format!(
                "`register={}` is left to others: Gatewright does not enter itself into Consul.", shown(value)
            )),
            _ => self
                .notes
                .push(format!("The option `{}` is not known and does nothing.", shown(key))),
        }
        Ok(())
    }

    fn weight(&mut self, value: &str) {
        match value.parse::<f64>() {
            Ok(weight) if weight.is_finite() => {
                self.weight = Some(weight).filter(|weight| *weight > 0.0);
            }
            _ => self.notes.push(format!(
                "`weight={}` is no number and does nothing.",
                shown(value)
            )),
        }
    }
}

/// Part of a path, which stands in the configuration.
fn path(key: &str, value: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._~@:+=-".contains(letter);
    if value.starts_with('/') && value.len() <= MAX_PATH && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    Err(format!(
        "`{key}=` wants a path of at most {MAX_PATH} bytes that begins with a slash and holds only letters, digits and `/ . _ ~ @ : + = -`"
    ))
}

/// A host's or a list's name, which stands in the configuration.
fn name(key: &str, value: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._:-".contains(letter);
    let fits = (1..=MAX_NAME).contains(&value.len());
    if fits && !value.starts_with('-') && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    Err(format!(
        "`{key}=` wants a name of at most {MAX_NAME} letters, digits and `. _ : -`"
    ))
}

/// `301,https://example.org$path`. Fabio passes requests on to the service where this is malformed.
fn redirect(value: &str) -> Result<Redirect, String> {
    let wrong = || {
        "`redirect=` wants a code from 300 to 399, a comma and an address, such as `301,https://example.org$path`".to_owned()
    };
    let (code, url) = value.split_once(',').ok_or_else(wrong)?;
    let code = code.parse().map_err(|_| wrong())?;
    // HAProxy sends these (configuration manual 2.6, 4.2 "redirect").
    if ![301, 302, 303, 307, 308].contains(&code) {
        return Err("HAProxy redirects by 301, 302, 303, 307 and 308 only".to_owned());
    }
    if url.len() > MAX_URL {
        return Err(format!(
            "the address of `redirect=` is longer than {MAX_URL} bytes"
        ));
    }
    let absolute = url.starts_with("https://") || url.starts_with("http://");
    let plain = |letter: char| letter.is_ascii_graphic() && !"%\\\"'#".contains(letter);
    if !(absolute || url.starts_with('/')) || !url.chars().all(plain) {
        return Err("the address of `redirect=` must begin with http://, https:// or a slash, and hold neither a percent sign, a quote, a backslash nor `#`".to_owned());
    }
    Ok(Redirect {
        code,
        url: url.to_owned(),
    })
}

/// `ip:10.0.0.0/8,ip:fd00::1`.
fn networks(value: &str) -> Result<Vec<Network>, String> {
    let mut list = Vec::new();
    for (number, part) in value.split(',').enumerate() {
        if number == MOST_NETWORKS {
            return Err(format!("it names more than {MOST_NETWORKS} networks."));
        }
        let text = part.trim().strip_prefix("ip:").ok_or_else(|| {
            format!(
                "each part begins with `ip:`, and `{}` does not.",
                shown(part)
            )
        })?;
        list.push(shown(text).parse()?);
    }
    Ok(sorted(list))
}

/// As Fabio writes them.
impl std::fmt::Display for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |networks: &[Network]| {
            let words: Vec<String> = networks.iter().map(|one| format!("ip:{one}")).collect();
            words.join(",")
        };
        let mut words = Vec::new();
        let mut push = |key: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{key}={value}")));
        };
        let told = self.protocol != Protocol::Http;
        push("proto", told.then(|| self.protocol.as_str().to_owned()));
        push("strip", self.strip.clone());
        push("prepend", self.prepend.clone());
        push(
            "host",
            self.host.as_ref().map(|host| match host {
                HostHeader::Name(name) => name.clone(),
                HostHeader::Target => "dst".to_owned(),
            }),
        );
        let redirect = self.redirect.as_ref();
        push(
            "redirect",
            redirect.map(|redirect| format!("{},{}", redirect.code, redirect.url)),
        );
        let Access { allow, deny, auth } = &self.access;
        match self.access.is_closed() {
            true => push("access", Some("closed".to_owned())),
            false => push("allow", allow.as_deref().map(list)),
        }
        push("deny", (!deny.is_empty()).then(|| list(deny)));
        for name in auth {
            push("auth", Some(name.clone()));
        }
        push("tlsskipverify", self.skip_verify.then(|| "true".to_owned()));
        push("grpcservername", self.server_name.clone());
        push("pxyproto", self.proxy_protocol.then(|| "true".to_owned()));
        out.write_str(&words.join(" "))
    }
}

//! One tag: `urlprefix-host/path strip=/path`.

use std::collections::BTreeSet;

use super::options::Read;
use super::{Access, Options, Protocol, Source};

/// Fabio's own beginning of tags that are routes.
pub const PREFIX: &str = "urlprefix-";

/// What a tag asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What comes in.
    pub source: Source,
    /// How it goes on.
    pub options: Options,
    /// A fixed share for this instance.
    pub weight: Option<f64>,
    /// What is odd about it, as sentences.
    pub notes: Vec<String>,
}

/// Reads a tag; `None` when it is no route. An error is the end of a sentence that begins with the tag.
pub fn parse(tag: &str, prefix: &str, datacenter: &str) -> Option<Result<Request, String>> {
    let rest = tag.trim().strip_prefix(prefix)?;
    let mut words = rest.split_whitespace();
    // `urlprefix- /path` is no source.
    let source = if rest.starts_with(char::is_whitespace) {
        ""
    } else {
        words.next().unwrap_or_default()
    };
    Some(request(source, words, datacenter))
}

/// Brings a source and its options together, as they are written in tags and in lines.
pub fn request<'a>(
    source: &str,
    options: impl Iterator<Item = &'a str>,
    datacenter: &str,
) -> Result<Request, String> {
    let mut source = Source::parse(source, datacenter)?;
    let Read {
        mut options,
        weight,
        mut notes,
    } = Read::parse(options)?;
    match &source {
        Source::Tcp { .. } if options.protocol != Protocol::Tcp => {
            // Fabio makes a target of HTTP that no listener for TCP can use.
            notes.push("It names a TCP port and lacks `proto=tcp`; it is taken so.".to_owned());
            options.protocol = Protocol::Tcp;
        }
        Source::Http { host, path } if options.protocol == Protocol::Tcp => {
            if host.is_empty() || path != "/" {
                return Err("`proto=tcp` wants a port, `:PORT proto=tcp`, or the name that clients of TLS ask for, `HOST/ proto=tcp`".to_owned());
            }
            let name = host.split(':').next().unwrap_or_default();
            source = Source::Sni {
                host: name.to_owned(),
            };
        }
        Source::Http { host, .. } if is_odd(host) => notes.push(format!(
            "Its host `{host}` has no dot, so only requests for exactly that name are taken. A service that speaks Thrift or another protocol over TCP is tagged `:PORT proto=tcp`; one for every host begins with a slash."
        )),
        _ => {}
    }
    if options.proxy_protocol && options.protocol != Protocol::Tcp {
        notes.push("`pxyproto=true` only concerns TCP and does nothing here.".to_owned());
        options.proxy_protocol = false;
    }
    if options.protocol == Protocol::Tcp {
        plain(&mut options, &mut notes);
    }
    Ok(Request {
        source,
        options,
        weight,
        notes,
    })
}

/// A host that was probably meant to be something else.
fn is_odd(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    !name.is_empty() && name != "localhost" && !name.contains(['.', '*'])
}

/// TCP has neither paths nor headers.
fn plain(options: &mut Options, notes: &mut Vec<String>) {
    let kept = Options {
        protocol: options.protocol,
        access: Access {
            auth: BTreeSet::new(),
            ..options.access.clone()
        },
        proxy_protocol: options.proxy_protocol,
        ..Options::default()
    };
    let has_users = !options.access.auth.is_empty();
    if kept != *options {
        notes.push("Of its options only those for TCP count: allow, deny and pxyproto.".to_owned());
        *options = kept;
    }
    if has_users {
        notes.push(
            "`auth` asks for a password, which TCP does not carry, so it answers 403 to everybody: no client can connect."
                .to_owned(),
        );
        options.access.close();
    }
}

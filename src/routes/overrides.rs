//! Lines in the key-value store that add, remove or weigh targets: `route add`, `route del`,
//! `route weight`.
//!
//! Each line is judged by itself. Where Fabio keeps its whole former table because of one bad line (and with
//! it instances that are long gone), only that line is left out here, and shown.

use super::options::Protocol;
use super::tag::{Request, request};
use super::{Source, table::shown};

/// One line that says something.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The key it stands in.
    pub key: String,
    /// Its number there, from 1.
    pub number: usize,
    /// What it asks for, or why it cannot be read, to follow "because".
    pub command: Result<Command, String>,
}

impl Line {
    /// What it is called in sentences.
    pub fn what(&self) -> String {
        format!("Line {} of the key {}", self.number, shown(&self.key))
    }
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Another target.
    Add(Box<Add>),
    /// Fewer targets.
    Delete(Select),
    /// A fixed share for all that are selected, together.
    Weigh(Select, f64),
}

/// A target that no instance of the catalog stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// The service's name, for people.
    pub service: String,
    /// Its route.
    pub request: Request,
    /// Where it is.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Which targets are meant: those that fit everything that is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Select {
    /// Of this service.
    pub service: Option<String>,
    /// Of this route.
    pub source: Option<Source>,
    /// At this address and port.
    pub target: Option<(String, u16)>,
    /// With all of these tags.
    pub tags: Vec<String>,
}

/// Reads the text of a key. Blank lines and comments say nothing.
pub fn parse(key: &str, text: &str, datacenter: &str) -> Vec<Line> {
    let said = |line: &str| !(line.is_empty() || line.starts_with('#') || line.starts_with("//"));
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| said(line))
        .map(|(number, line)| Line {
            key: key.to_owned(),
            number,
            command: command(line, datacenter),
        })
        .collect()
}

fn command(line: &str, datacenter: &str) -> Result<Command, String> {
    let words = words(line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["route", "add", service, source, target, rest @ ..] => {
            let clauses = Clauses::parse(rest, &["weight", "tags", "opts"])?;
            add(service, source, target, clauses, datacenter)
        }
        ["route", "del", rest @ ..] if !rest.is_empty() => {
            let at = rest.iter().position(|word| *word == "tags");
            let (place, clauses) = rest.split_at(at.unwrap_or(rest.len()));
            let mut select = Select {
                tags: Clauses::parse(clauses, &["tags"])?.tags,
                ..Select::default()
            };
            match place {
                [] => {}
                [service, place @ ..] => {
                    select.service = Some((*service).to_owned());
                    match place {
                        [] => {}
                        [source] => select.source = Some(Source::parse(source, datacenter)?),
                        [source, target] => {
                            select.source = Some(Source::parse(source, datacenter)?);
                            let (_, address, port) = address(target)?;
                            select.target = Some((address, port));
                        }
                        _ => return Err("it has more words than `route del` takes".to_owned()),
                    }
                }
            }
            Ok(Command::Delete(select))
        }
        ["route", "weight", source, "weight", rest @ ..] => {
            weigh(None, source, rest, datacenter)
        }
        ["route", "weight", service, source, "weight", rest @ ..] => {
            weigh(Some(service), source, rest, datacenter)
        }
        _ => Err("it is none of `route add SERVICE SOURCE TARGET`, `route del SERVICE`, `route weight SERVICE SOURCE weight SHARE`".to_owned()),
    }
}

fn weigh(
    service: Option<&str>,
    source: &str,
    rest: &[&str],
    datacenter: &str,
) -> Result<Command, String> {
    let (share, clauses) = rest
        .split_first()
        .ok_or_else(|| "it names no share after `weight`".to_owned())?;
    let select = Select {
        service: service.map(str::to_owned),
        source: Some(Source::parse(source, datacenter)?),
        target: None,
        tags: Clauses::parse(clauses, &["tags"])?.tags,
    };
    if select.service.is_none() && select.tags.is_empty() {
        return Err("it names neither a service nor tags".to_owned());
    }
    Ok(Command::Weigh(select, number(share)?))
}

fn add(
    service: &str,
    source: &str,
    target: &str,
    clauses: Clauses,
    datacenter: &str,
) -> Result<Command, String> {
    // A redirection's address is the target.
    let redirect = |field: &str| {
        field
            .strip_prefix("redirect=")
            .is_some_and(|code| !code.contains(','))
    };
    let mut fields: Vec<String> = clauses
        .options
        .split_whitespace()
        .map(|field| match redirect(field) {
            true => format!("{field},{target}"),
            false => field.to_owned(),
        })
        .collect();
    let (address, port) = if fields.iter().any(|field| field.starts_with("redirect=")) {
        (String::new(), 0)
    } else {
        let (protocol, address, port) = address(target)?;
        if !fields.iter().any(|field| field.starts_with("proto=")) {
            fields.push(format!("proto={}", protocol.as_str()));
        }
        (address, port)
    };
    let mut request = request(source, fields.iter().map(String::as_str), datacenter)?;
    if clauses.weight.is_some() {
        request.weight = clauses.weight.filter(|weight| *weight > 0.0);
    }
    Ok(Command::Add(Box::new(Add {
        service: service.to_owned(),
        request,
        address,
        port,
        tags: clauses.tags,
    })))
}

/// `http://10.0.0.1:8080/`.
fn address(text: &str) -> Result<(Protocol, String, u16), String> {
    let wrong = || {
        format!(
            "`{}` is no target: write `http://ADDRESS:PORT/`, or https, tcp, grpc or grpcs",
            shown(text)
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let protocol = Protocol::parse(scheme).ok_or_else(wrong)?;
    let place = rest.split('/').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong())?)
        }
        _ if protocol == Protocol::Http => (place, 80),
        _ if protocol == Protocol::Https => (place, 443),
        _ => return Err(wrong()),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok((protocol, host.to_owned(), port))
}

/// What may follow.
#[derive(Default)]
struct Clauses {
    weight: Option<f64>,
    tags: Vec<String>,
    options: String,
}

impl Clauses {
    fn parse(mut words: &[&str], known: &[&str]) -> Result<Clauses, String> {
        let mut clauses = Clauses::default();
        while let Some((name, rest)) = words.split_first() {
            let (value, rest) = rest
                .split_first()
                .ok_or_else(|| format!("nothing follows `{}`", shown(name)))?;
            match *name {
                name if !known.contains(&name) => {
                    return Err(format!("`{}` is not known there", shown(name)));
                }
                "weight" => clauses.weight = Some(number(value)?),
                "tags" => {
                    let tags = value.split(',').map(|tag| tag.trim().to_owned());
                    clauses.tags = tags.filter(|tag| !tag.is_empty()).collect();
                }
                _ => clauses.options = (*value).to_owned(),
            }
            words = rest;
        }
        Ok(clauses)
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("`{}` is no number", shown(text)))
}

/// Words, and texts between double quotes.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inner) => inner
                .split_once('"')
                .ok_or_else(|| "a quote is never closed".to_owned())?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

//! Health checks that speak Thrift: a call of a method without parameters, and what its reply begins with.

use std::fmt::Write;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::Value;

use super::haproxy::line_break;
use super::{describe, failed, refuse_missing, truthy};

/// The most letters of a name.
const LONGEST: usize = 128;
/// Message types of Thrift's binary protocol.
const CALL: u8 = 1;
/// The number of every call: replies carry it back.
const SEQUENCE: u32 = 1;
/// The end of a structure; alone, it is a structure without fields.
const STOP: u8 = 0;

/// `{{thriftCheck METHOD service="…" framed=true exception=true}}`: several lines, indented like the tag.
pub struct ThriftCheckHelper;

impl HelperDef for ThriftCheckHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let method = helper.param(0).map_or(&Value::Null, |param| param.value());
        let method = checked(method, "the name of a method")?;
        let service = match helper.hash_get("service") {
            Some(service) => Some(checked(
                service.value(),
                "the name of a service as service=",
            )?),
            None => None,
        };
        let is = |pair: &str| {
            helper
                .hash_get(pair)
                .is_some_and(|pair| truthy(pair.value()))
        };
        let lines = lines(method, service, is("framed"), is("exception"));
        Ok(ScopedJson::Derived(lines.join(&line_break(helper)).into()))
    }
}

/// A name as Thrift's language has them. Nothing else may come into these lines, which are not escaped.
fn checked<'a>(name: &'a Value, what: &str) -> Result<&'a str, RenderError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    let fits = |name: &&str| (1..=LONGEST).contains(&name.len()) && name.bytes().all(legal);
    name.as_str().filter(fits).ok_or_else(|| {
        let hint = match name.as_str() {
            Some(name) if name.contains(':') => " Its service goes into service=.",
            _ => "",
        };
        failed(format!(
            "`thriftCheck` wants {what}: up to {LONGEST} letters, digits, `_` and `.`; this is {}.{hint}",
            describe(name)
        ))
    })
}

/// The lines. `default` takes over what the server line says of TLS. `linger` ends the connection as a client
/// does: HAProxy's reset is an error in a server's log. With `min-recv`, a reply of another kind is judged at
/// once and not when the time is over.
fn lines(method: &str, service: Option<&str>, framed: bool, exception: bool) -> [String; 4] {
    let called = match service {
        Some(service) => format!("{service}:{method}"),
        None => method.to_owned(),
    };
    let mut call = header(CALL, &called);
    call.push(STOP);
    let mut sent = hex(&call);
    // TMultiplexedProcessor hands the call on without the service's name, so the reply has none.
    let mut reply = hex(&header(0, method));
    let kind = if exception { "(2|3)" } else { "2" };
    reply.replace_range(7..8, kind);
    let mut least = header(0, method).len();
    if framed {
        sent.insert_str(0, &format!("{:08X}", call.len()));
        reply.insert_str(0, ".{8}");
        least += 4;
    }
    [
        "option tcp-check".to_owned(),
        "tcp-check connect default linger".to_owned(),
        format!("tcp-check send-binary {sent} comment {called}"),
        format!("tcp-check expect min-recv {least} comment {called} rbinary ^{reply}"),
    ]
}

/// What a message of the strict binary protocol begins with.
fn header(kind: u8, name: &str) -> Vec<u8> {
    let mut bytes = vec![0x80, 0x01, 0x00, kind];
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(SEQUENCE.to_be_bytes());
    bytes
}

/// In capitals: `rbinary` compares with what HAProxy writes so (2.6 to 3.2).
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use crate::template::tests::rendered;

    const METHOD: &str = "0000000D67657441504956657273696F6E";

    /// `TMultiplexedProcessor` takes the service's name off, so the reply has the bare one.
    #[test]
    fn a_call_and_the_head_of_its_reply_are_written_in_hexadecimal_digits() {
        let (call, reply) = (
            format!("80010001{METHOD}0000000100"),
            format!("80010002{METHOD}00000001"),
        );
        for (pairs, called, sent, least, wanted) in [
            ("", "getAPIVersion", call.clone(), 25, reply.clone()),
            (
                " exception=true",
                "getAPIVersion",
                call.clone(),
                25,
                reply.replacen('2', "(2|3)", 1),
            ),
            (
                " framed=true",
                "getAPIVersion",
                format!("0000001A{call}"),
                29,
                format!(".{{8}}{reply}"),
            ),
            (
                " service=\"Api\" framed=false exception=false",
                "Api:getAPIVersion",
                format!("80010001000000114170693A{}0000000100", &METHOD[8..]),
                25,
                reply.clone(),
            ),
        ] {
            assert_eq!(
                rendered(
                    &format!(
                        "backend a\n    {{{{thriftCheck \"getAPIVersion\"{pairs}}}}}\n    server"
                    ),
                    &[]
                ),
                format!(
                    "backend a\n    option tcp-check\n    tcp-check connect default linger\n    \
                     tcp-check send-binary {sent} comment {called}\n    \
                     tcp-check expect min-recv {least} comment {called} rbinary ^{wanted}\n    server"
                ),
            );
        }
    }

    #[test]
    fn a_name_that_thrift_cannot_have_is_refused_with_its_place() {
        let long = "a".repeat(129);
        for (call, sentence) in [
            (
                r#"{{thriftCheck "get version"}}"#,
                "`thriftCheck` wants the name of a method: up to 128 letters, digits, `_` and `.`; this is a text of 11 letters.",
            ),
            (
                r#"{{thriftCheck "a:b"}}"#,
                "Its service goes into service=.",
            ),
            (
                r#"{{thriftCheck (key "words")}}"#,
                "wants the name of a method",
            ),
            (r#"{{thriftCheck ""}}"#, "this is a text of 0 letters."),
            (r#"{{thriftCheck 7}}"#, "this is the number 7."),
            (
                &format!("{{{{thriftCheck \"{long}\"}}}}"),
                "this is a text of 129 letters.",
            ),
            (
                r#"{{thriftCheck "a" service="b\nserver"}}"#,
                "wants the name of a service as service=",
            ),
            (r#"{{thriftCheck "a" service=null}}"#, "this is nothing."),
        ] {
            let shown = rendered(&format!("backend a\n    {call}"), &[]);
            assert!(shown.contains(sentence), "{shown}");
            assert!(shown.contains("--> t.hbs:2:"), "{shown}");
        }
    }
}

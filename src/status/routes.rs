//! What the listener answers to which request. Pure: a request's head and what is known go in, an answer
//! comes out. Reads are all there is; nothing here can change anything.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap};
use hyper::{Method, StatusCode, Uri, Version};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// The page for people.
    Page,
    /// The status as JSON.
    Status,
    /// For Prometheus.
    Metrics,
    /// Whether the loop turns.
    Alive,
    /// Whether HAProxy runs a confirmed set.
    Ready,
}

/// Why a request gets none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// What is said.
    pub text: &'static str,
}

const fn refused(status: StatusCode, text: &'static str) -> Refused {
    Refused { status, text }
}

/// Finds what a request asks for. `hosts` are the names that are allowed beside IP addresses and
/// `localhost`.
pub fn route(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
    hosts: &[String],
) -> Result<Route, Refused> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "Only GET and HEAD are answered here.\n",
        ));
    }
    let mut names = headers.get_all(HOST).iter();
    let host = match (names.next(), names.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 knows no Host: that is how HAProxy's own checks ask.
        (None, None) if version == Version::HTTP_10 => Some("localhost"),
        _ => None,
    };
    let Some(host) = host else {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            "The request must name one host.\n",
        ));
    };
    let in_uri = uri.authority().map(|authority| authority.as_str());
    if !std::iter::once(host)
        .chain(in_uri)
        .all(|host| is_allowed(host, hosts))
    {
        return Err(refused(
            StatusCode::MISDIRECTED_REQUEST,
            "This listener is not known under that name. Ask for its IP address or localhost, or add the name to status.hosts.\n",
        ));
    }
    match uri.path() {
        "/" => Ok(Route::Page),
        "/status" => Ok(Route::Status),
        "/metrics" => Ok(Route::Metrics),
        "/healthz" => Ok(Route::Alive),
        "/readyz" => Ok(Route::Ready),
        _ => Err(refused(
            StatusCode::NOT_FOUND,
            "There are /, /status, /metrics, /healthz and /readyz.\n",
        )),
    }
}

/// Whether a page of somebody else's could not have made a browser ask under this name: addresses and
/// `localhost` are nobody's to point here, other names must be set.
fn is_allowed(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(&host[name.len()..]) && !port.is_empty() => name,
            Some(_) => return false,
            None => host,
        },
    };
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let same = |known: &str| {
        let (known, name) = (known.trim_end_matches('.'), name.trim_end_matches('.'));
        !name.is_empty() && known.eq_ignore_ascii_case(name)
    };
    same("localhost") || hosts.iter().any(|known| same(known))
}

/// Nothing, or `:` and a number.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(method: &str, uri: &str, hosts: &[&str]) -> Result<Route, u16> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let known = ["gateway-1.example".to_owned()];
        route(
            &method,
            &uri.parse().unwrap(),
            Version::HTTP_11,
            &headers,
            &known,
        )
        .map_err(|refused| refused.status.as_u16())
    }

    // L04
    #[test]
    fn only_reads_under_known_names_are_answered() {
        for host in [
            "127.0.0.1:9877",
            "[::1]:9877",
            "10.1.2.3",
            "localhost",
            "LOCALHOST.:80",
            "Gateway-1.example:9877",
        ] {
            assert_eq!(
                asked("GET", "/metrics", &[host]),
                Ok(Route::Metrics),
                "{host}"
            );
        }
        for host in [
            "rebound.example",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example",
            "[::1].rebound.example",
            "[::1",
            "localhost:x",
            "127.0.0.1:80:80",
            "evil@127.0.0.1",
            "",
            ":80",
        ] {
            assert_eq!(asked("GET", "/metrics", &[host]), Err(421), "{host:?}");
        }
        let good = "127.0.0.1";
        assert_eq!(asked("GET", "/", &[]), Err(400));
        assert_eq!(asked("GET", "/", &[good, good]), Err(400));
        assert_eq!(asked("GET", "http://rebound.example/", &[good]), Err(421));
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "RELOAD",
        ] {
            assert_eq!(asked(method, "/", &[good]), Err(405), "{method}");
        }
        for path in [
            "/reload",
            "/release",
            "/..",
            "//",
            "/Metrics",
            "/metrics/",
            "/api/config",
        ] {
            assert_eq!(asked("GET", path, &[good]), Err(404), "{path}");
        }
        assert_eq!(asked("HEAD", "/readyz?verbose", &[good]), Ok(Route::Ready));
    }

    proptest! {
        // L04
        #[test]
        fn a_name_is_allowed_only_when_it_is_an_address_or_known(name in "[a-z.]{1,30}", port in any::<u16>()) {
            prop_assume!(name.trim_end_matches('.') != "localhost");
            let host = format!("{name}:{port}");
            prop_assert!(!is_allowed(&host, &[]));
            prop_assert_eq!(is_allowed(&host, std::slice::from_ref(&name)), !name.trim_end_matches('.').is_empty());
        }

        // L04
        #[test]
        fn no_host_makes_it_panic(host in ".{0,40}") {
            let _ = is_allowed(&host, &[]);
        }
    }
}

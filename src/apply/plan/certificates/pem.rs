//! A PEM file as a certificate for HAProxy: whether it can be given at run time, and what is compared
//! and weighed of it. Pure; reads no more of a certificate than its names and the kind of its key, and
//! never judges whether it is good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What counts of the first certificate of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-1 in upper-case digits, as `show ssl cert` tells it.
    pub fingerprint: String,
    /// The names it is for, in lower case: DNS names and common names, as HAProxy takes them (2.6
    /// configuration manual 5.1 "crt").
    pub names: Vec<String>,
    /// Of its key.
    pub kind: Kind,
}

/// The kind of a key. HAProxy looks for one certificate of each for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RSA.
    Rsa,
    /// An elliptic curve.
    Ec,
    /// Any other.
    Other,
}

impl Kind {
    /// Whether two certificates for the same name stand in each other's way.
    pub fn meets(self, other: Kind) -> bool {
        self == other || self == Kind::Other || other == Kind::Other
    }
}

/// Reads a file with a certificate, its chain and its private key. An error says what it is, in words
/// that follow its name.
pub fn read(text: &str) -> Result<Leaf, &'static str> {
    let blocks = blocks(text).ok_or("is no PEM that is understood")?;
    let is_key = |label: &str| label.ends_with("PRIVATE KEY");
    let encrypted = |(label, body): &(&str, String)| {
        is_key(label) && (label.starts_with("ENCRYPTED") || body.contains("ENCRYPTED"))
    };
    if blocks.iter().any(encrypted) {
        return Err("is encrypted");
    }
    let known = |(label, _): &(&str, String)| {
        is_key(label) || matches!(*label, "CERTIFICATE" | "DH PARAMETERS" | "EC PARAMETERS")
    };
    if !blocks.iter().all(known) {
        return Err("holds more than certificates and a key");
    }
    // Without its key HAProxy would look for it in another file.
    if blocks.iter().filter(|(label, _)| is_key(label)).count() != 1 {
        return Err("does not hold exactly one private key");
    }
    let leaf = blocks.iter().find(|(label, _)| *label == "CERTIFICATE");
    let (_, body) = leaf.ok_or("holds no certificate")?;
    let der = STANDARD
        .decode(body)
        .map_err(|_| "is no PEM that is understood")?;
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    let (names, kind) = subject(&der).ok_or("holds a certificate that is not understood")?;
    Ok(Leaf {
        fingerprint: digest.as_ref().iter().map(|b| format!("{b:02X}")).collect(),
        names,
        kind,
    })
}

/// The label and the lines of each block. Text between the blocks is none of it.
fn blocks(text: &str) -> Option<Vec<(&str, String)>> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim) {
        let label = |start: &str| line.strip_prefix(start)?.strip_suffix("-----");
        match (label("-----BEGIN "), label("-----END "), &mut open) {
            (Some(label), None, None) => open = Some((label, String::new())),
            (None, Some(label), Some((begun, _))) if label == *begun => blocks.extend(open.take()),
            (None, None, Some((_, body))) => body.push_str(line),
            (None, None, None) => {}
            _ => return None,
        }
    }
    (open.is_none() && !blocks.is_empty()).then_some(blocks)
}

const SEQUENCE: u8 = 0x30;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The names and the kind of the key of a certificate (RFC 5280 4.1).
fn subject(der: &[u8]) -> Option<(Vec<String>, Kind)> {
    let certificate = elements(one(der, SEQUENCE)?)?;
    let fields = elements(certificate.first().filter(|(tag, _)| *tag == SEQUENCE)?.1)?;
    let version = usize::from(fields.first()?.0 == 0xa0);
    let field = |at: usize| fields.get(version + at).filter(|(tag, _)| *tag == SEQUENCE);
    // Serial number, signature, issuer, validity, subject, key.
    let mut names = Vec::new();
    for (_, set) in elements(field(4)?.1)? {
        for (_, attribute) in elements(set)? {
            if let [(6, COMMON_NAME), (tag, value)] = elements(attribute)?[..] {
                // UTF-8, printable or IA5 text; others would have to be converted.
                let plain = matches!(tag, 0x0c | 0x13 | 0x16);
                names.push(text(value).filter(|_| plain)?);
            }
        }
    }
    let (_, algorithm) = *elements(field(5)?.1)?.first()?;
    let kind = match *elements(algorithm)?.first()? {
        (6, RSA) => Kind::Rsa,
        (6, EC) => Kind::Ec,
        _ => Kind::Other,
    };
    let extensions = fields.iter().find(|(tag, _)| *tag == 0xa3);
    for (_, extension) in match extensions {
        Some((_, extensions)) => elements(one(extensions, SEQUENCE)?)?,
        None => Vec::new(),
    } {
        let parts = elements(extension)?;
        if parts.first() != Some(&(6, ALTERNATIVE_NAMES)) {
            continue;
        }
        for (tag, value) in elements(one(parts.last()?.1, SEQUENCE)?)? {
            if tag == 0x82 {
                names.push(text(value)?);
            }
        }
    }
    names.sort();
    names.dedup();
    Some((names, kind))
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.to_ascii_lowercase())
}

/// The content of the single element of this tag.
fn one(der: &[u8], tag: u8) -> Option<&[u8]> {
    match elements(der)?[..] {
        [(found, content)] if found == tag => Some(content),
        _ => None,
    }
}

/// The tag and the content of each element in a row.
fn elements(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut elements = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let length = digits
                    .iter()
                    .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        elements.push((*tag, content));
        der = rest;
    }
    der.is_empty().then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pem(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Common.Example");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn names_and_fingerprint_are_read() {
        let (certificate, key) = pem(&["b.example", "*.a.example"]);
        let leaf = read(&format!("{key}\nsome text\n{certificate}")).unwrap();
        assert_eq!(leaf.names, ["*.a.example", "b.example", "common.example"]);
        assert_eq!(leaf.kind, Kind::Ec);
        assert_eq!(leaf.fingerprint.len(), 40);
        assert!(leaf.kind.meets(Kind::Other) && !leaf.kind.meets(Kind::Rsa));
    }

    #[test]
    fn what_cannot_be_given_is_told_in_words() {
        let (certificate, key) = pem(&["a.example"]);
        let labelled = |label: &str| key.replace("PRIVATE KEY", label);
        let why = |text: String| read(&text).unwrap_err();
        assert_eq!(
            why(certificate.clone()),
            "does not hold exactly one private key"
        );
        assert_eq!(why(key.clone()), "holds no certificate");
        assert_eq!(
            why(format!(
                "{certificate}{}",
                labelled("ENCRYPTED PRIVATE KEY")
            )),
            "is encrypted"
        );
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(why(format!("{certificate}{old}")), "is encrypted");
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert_eq!(why(text.to_owned()), "is no PEM that is understood");
        }
        let torn = format!("-----BEGIN CERTIFICATE-----\nMAMw\n-----END CERTIFICATE-----\n{key}");
        assert_eq!(why(torn), "holds a certificate that is not understood");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "(?s).*") {
            subject(&bytes);
            let _ = read(&text);
        }
    }
}

//! When the certificates that are shown to Consul, or by which it is trusted, expire: read off their DER
//! encoding (RFC 5280, section 4.1) as far as the field `notAfter`. Verifies nothing: rustls does.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::TlsOptions;
use crate::text;

/// One file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `client`, or `ca` for the authorities.
    pub purpose: &'static str,
    /// The file.
    pub file: PathBuf,
    /// When the first of its certificates expires, in seconds since 1970.
    pub not_after: i64,
}

/// The files that the settings name, as they are now. One that cannot be read is left out; loading it
/// says why.
pub(super) fn in_use(tls: &TlsOptions) -> Vec<Certificate> {
    let named = [("client", &tls.client_cert), ("ca", &tls.ca_file)];
    named
        .into_iter()
        .filter_map(|(purpose, file)| {
            let file = file.as_ref()?;
            Some(Certificate {
                purpose,
                file: file.clone(),
                not_after: first_to_expire(file)?,
            })
        })
        .collect()
}

fn first_to_expire(file: &Path) -> Option<i64> {
    let text = text::bytes(file, text::WRITTEN).ok()?;
    CertificateDer::pem_slice_iter(&text)
        .filter_map(|certificate| not_after(&certificate.ok()?))
        .min()
}

/// The field `notAfter`; `None` for anything that is no certificate.
fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (tag, certificate, _) = element(certificate)?;
    let (inner, to_be_signed, _) = element(certificate)?;
    if tag != SEQUENCE || inner != SEQUENCE {
        return None;
    }
    let mut rest = to_be_signed;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // The serial number, the signature's algorithm and the issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity).filter(|_| tag == SEQUENCE)?;
    let (tag, text, _) = element(rest)?;
    time(tag, text)
}

/// Tag, content and what follows of the first element, with a length of up to four bytes.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `UTCTime` (two digits of the year, 1950 to 2049) or `GeneralizedTime`, both with seconds and in UTC.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let year = match tag {
        0x17 => 2,
        0x18 => 4,
        _ => return None,
    };
    let digits = text.strip_suffix('Z')?;
    if digits.len() != year + 10 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| digits[year + at..year + at + 2].parse::<i8>().ok();
    let year: i16 = match digits[..year].parse::<i16>().ok()? {
        short if year == 2 && short < 50 => 2000 + short,
        short if year == 2 => 1900 + short,
        long => long,
    };
    let civil =
        jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0);
    let moment = civil.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(moment.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(year: i32) -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
        parameters.self_signed(&key).unwrap()
    }

    // L13
    #[test]
    fn the_first_certificate_to_expire_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chain.pem");
        // Beyond 2049 the encoding is another one.
        let chain = format!("{}{}", certificate(2061).pem(), certificate(2031).pem());
        std::fs::write(&file, chain).unwrap();
        let tls = TlsOptions {
            client_cert: Some(file.clone()),
            ca_file: Some(folder.path().join("missing.pem")),
            ..TlsOptions::default()
        };
        assert_eq!(
            in_use(&tls),
            [Certificate {
                purpose: "client",
                file,
                not_after: 1_927_843_200
            }]
        );
        assert_eq!(not_after(certificate(2061).der()), Some(2_874_614_400));
    }

    proptest! {
        // L13
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..400, byte: u8) {
            let _ = not_after(&bytes);
            bytes = certificate(2031).der().to_vec();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let _ = not_after(&bytes);
            let _ = not_after(&bytes[..at]);
        }
    }
}

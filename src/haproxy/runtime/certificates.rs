//! What a worker tells about its certificates: `show ssl cert` and `show ssl crt-list`, which look the
//! same on 2.6.12, 2.8.25, 3.0.11 and 3.2.26.
//!
//! HAProxy never tells a private key, so nothing here holds one. Never panics on any text.

use super::state::Strange;

/// `show ssl cert`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The file name of each certificate that the worker holds, with `crt-base` before it.
    pub held: Vec<String>,
    /// The one whose new content was set and neither committed nor aborted.
    pub transaction: Option<String>,
}

/// `show ssl cert FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// `Used`, `Unused` or `Empty`.
    pub status: String,
    /// SHA-1 of the first certificate, in upper-case digits. `None` while it is empty.
    pub fingerprint: Option<String>,
    /// Whether an OCSP response was loaded with it.
    pub ocsp: bool,
}

/// One line of `show ssl crt-list -n LIST`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrtListEntry {
    /// The certificate's file name, with `crt-base` before it.
    pub file: String,
    /// The names it is for, as the list writes them. HAProxy spells its options its own way; they are
    /// left out.
    pub filters: Vec<String>,
}

/// Reads `show ssl cert`: `# transaction`, `*FILE`, `# filename`, `FILE`…
pub fn parse_certificates(text: &str) -> CertificateNames {
    let mut names = CertificateNames::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix('*'), line.starts_with("# ")) {
            (Some(name), _) => names.transaction = Some(name.to_owned()),
            (None, true) => {}
            (None, false) => names.held.push(line.to_owned()),
        }
    }
    names
}

/// Reads `show ssl cert FILE`.
pub fn parse_certificate(text: &str) -> Option<CertificateInfo> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    Some(CertificateInfo {
        status: value("Status")?.to_owned(),
        fingerprint: value("SHA1 FingerPrint").map(str::to_owned),
        ocsp: value("OCSP Response Key").is_some_and(|key| !key.is_empty()),
    })
}

/// Reads `show ssl crt-list`.
pub fn parse_crt_lists(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Reads `show ssl crt-list -n LIST`: `# LIST`, then `FILE:LINE [options ] filters` for each line.
pub fn parse_crt_list(text: &str) -> Result<Vec<CrtListEntry>, Strange> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("# "))
        .map(|(index, line)| parse_entry(line).ok_or_else(|| Strange::new(index + 1, line)))
        .collect()
}

fn parse_entry(line: &str) -> Option<CrtListEntry> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (file, number) = name.rsplit_once(':')?;
    number.parse::<u32>().ok()?;
    let filters = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.1,
        None => rest,
    };
    Some(CrtListEntry {
        file: file.to_owned(),
        filters: filters.split_whitespace().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn certificates_are_read() {
        let names = parse_certificates("# transaction\n*c/b.pem\n# filename\nc/a.pem\nc/b.pem\n\n");
        assert_eq!(names.held, ["c/a.pem", "c/b.pem"]);
        assert_eq!(names.transaction.as_deref(), Some("c/b.pem"));
        let text = "Filename: a.pem\nCrt filename: a.pem\nStatus: Used\nSerial: 01\nSubject Alternative Name: \n\
            SHA1 FingerPrint: 00B6E3\nSubject: /CN=a.example\nOCSP Response Key: \n\n";
        let info = parse_certificate(text).unwrap();
        assert_eq!(info.fingerprint.as_deref(), Some("00B6E3"));
        assert!(!info.ocsp);
        let empty = "Filename: b.pem\nStatus: Empty\nOCSP Response Key: 303b\n\n";
        let info = parse_certificate(empty).unwrap();
        assert!(info.fingerprint.is_none() && info.ocsp && info.status == "Empty");
        let missing =
            "Can't display the certificate: Not found or the certificate is a bundle!\n\n";
        assert_eq!(parse_certificate(missing), None);
    }

    #[test]
    fn lines_of_a_list_are_read() {
        let text =
            "# list.txt\nc/a.pem:3\nc/c.pem:4 [alpn h2,http/1.1 ] c.example !d.example\nx:5  e\n\n";
        let entry = |file: &str, filters: &[&str]| CrtListEntry {
            file: file.into(),
            filters: filters.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            parse_crt_list(text),
            Ok(vec![
                entry("c/a.pem", &[]),
                entry("c/c.pem", &["c.example", "!d.example"]),
                entry("x", &["e"])
            ])
        );
        assert!(parse_crt_list("didn't find the specified filename\n").is_err());
        assert_eq!(parse_crt_lists("list.txt\n\n"), ["list.txt"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*", line in "[*#a:1 \\[\\]\n]*") {
            for text in [text, line] {
                parse_certificates(&text);
                parse_certificate(&text);
                let _ = parse_crt_list(&text);
            }
        }
    }
}

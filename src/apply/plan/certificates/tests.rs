//! What is told about certificates, and what is not for what reason.

use super::*;
use crate::apply::plan::{Doubt, Policy};
use crate::apply::plan::{Known, Plan, compare};
use crate::haproxy::runtime::Version;

const MAIN: &str = "\
global
    stats socket /s.sock level admin
frontend web
    bind :443 ssl crt-list /etc/list.txt
";
const LIST: &str = "/c/a.pem\n/c/b.pem [alpn h2]\n";

fn pem(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = params.self_signed(&key).unwrap();
    certificate.pem() + &key.serialize_pem()
}

fn file(path: &str, role: Role, text: &str) -> SetFile {
    SetFile {
        destination: path.into(),
        role,
        mode: None,
        text: text.into(),
    }
}

struct Set {
    main: String,
    list: String,
    pems: Vec<(&'static str, String)>,
}

impl Set {
    fn new() -> Set {
        Set {
            main: MAIN.to_owned(),
            list: LIST.to_owned(),
            pems: vec![
                ("/c/a.pem", pem("a.example")),
                ("/c/b.pem", pem("b.example")),
            ],
        }
    }

    fn files(&self) -> Vec<SetFile> {
        let mut files = vec![
            file("/etc/h.cfg", Role::Config, &self.main),
            file("/etc/list.txt", Role::CrtList, &self.list),
        ];
        files.extend(
            self.pems
                .iter()
                .map(|(path, text)| file(path, Role::Other, text)),
        );
        files
    }

    fn with(&self, change: impl FnOnce(&mut Set)) -> Set {
        let mut set = Set {
            main: self.main.clone(),
            list: self.list.clone(),
            pems: self.pems.clone(),
        };
        change(&mut set);
        set
    }

    fn to(&self, new: &Set) -> Result<CertificateSteps, String> {
        let known = Known {
            version: Version::new(2, 6, 12),
            rows: &[],
            leaving: &BTreeMap::new(),
            doubtful: &Doubt::None,
        };
        match compare(&self.files(), &new.files()).plan(known, Policy::default()) {
            Plan::Commands(steps) => {
                assert_eq!(steps.cost.commands, steps.certificates.commands());
                Ok(steps.certificates)
            }
            Plan::Reload { reason } => Err(reason),
            Plan::Nothing => Ok(CertificateSteps::default()),
        }
    }

    fn why_not(&self, change: impl FnOnce(&mut Set)) -> String {
        let new = self.with(change);
        let why = self.to(&new).unwrap_err();
        assert!(new.to(self).is_err(), "neither can it be taken back: {why}");
        why
    }
}

#[test]
fn a_changed_certificate_is_told_and_its_key_is_not_shown() {
    let old = Set::new();
    let text = pem("b.example");
    let steps = old
        .to(&old.with(|new| new.pems[1].1 = text.clone()))
        .unwrap();
    assert_eq!(steps.commands(), 2);
    let [step] = &steps.contents[..] else {
        panic!("{steps:?}");
    };
    assert_eq!(step.destination, Path::new("/c/b.pem"));
    assert_eq!(
        (step.new.as_ref(), step.pem.as_str()),
        (None, text.as_str())
    );
    let secret = text.lines().rev().nth(1).unwrap();
    assert!(!format!("{steps:?}").contains(secret));
    assert!(steps.lists.is_empty() && steps.forgotten.is_empty());
    let commented = old.with(|new| new.list = format!("# hello\n{LIST}\n"));
    let steps = old.to(&commented).unwrap();
    assert_eq!(steps.commands(), 0);
}

#[test]
fn a_line_is_added_with_its_certificate_and_taken_back() {
    let old = Set::new();
    let new = old.with(|new| {
        new.list = "/c/a.pem\n/c/c.pem  [alpn h2] c.example\n/c/b.pem [alpn h2]\n".to_owned();
        new.pems.push(("/c/c.pem", pem("c.example")));
    });
    let steps = old.to(&new).unwrap();
    assert_eq!(steps.contents.len(), 1);
    assert_eq!(steps.contents[0].new.as_deref(), Some("/c/c.pem"));
    let line = "/c/c.pem [alpn h2] c.example".to_owned();
    assert_eq!(steps.lists[0].added, [("/c/c.pem".to_owned(), line)]);
    assert_eq!(steps.lists[0].entries.len(), 3);
    let back = new.to(&old).unwrap();
    assert_eq!(back.lists[0].removed, ["/c/c.pem"]);
    assert_eq!(back.forgotten, [PathBuf::from("/c/c.pem")]);
    assert!(back.contents.is_empty());
}

#[test]
fn names_are_those_that_haproxy_has() {
    let based = |set: &mut Set| {
        set.main = MAIN.replace("global\n", "global\n    crt-base /c\n");
        set.list = set.list.replace("/c/", "");
    };
    let old = Set::new().with(based);
    let new = old.with(|new| {
        new.list.push_str("c.pem\n");
        new.pems.push(("/c/c.pem", pem("c.example")));
    });
    let steps = old.to(&new).unwrap();
    assert_eq!(
        steps.lists[0].added,
        [("/c/c.pem".to_owned(), "/c/c.pem".to_owned())]
    );
    let relative = |set: &mut Set| set.list = set.list.replace("/c/", "c/");
    let old = Set::new().with(relative);
    let new = old.with(|new| {
        new.list.push_str("c/c.pem\n");
        new.pems.push(("/c/c.pem", pem("c.example")));
    });
    let steps = old.to(&new).unwrap();
    assert_eq!(steps.contents[0].new.as_deref(), Some("c/c.pem"));
}

#[test]
fn what_is_not_certain_is_loaded_and_why() {
    let old = Set::new();
    let long = |set: &mut Set| set.pems[1].1 = pem("b.example") + &"# more\n".repeat(2_000);
    for (change, why) in [
        (
            Box::new(long) as Box<dyn FnOnce(&mut Set)>,
            "the certificate /c/b.pem is longer than HAProxy's buffer is sure to hold",
        ),
        (
            Box::new(|set| set.pems[1].1 = set.pems[1].1.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            "the certificate /c/b.pem is encrypted",
        ),
        (
            Box::new(|set| set.pems[1].1 = "hello".to_owned()),
            "the certificate /c/b.pem is no PEM that is understood",
        ),
        (
            Box::new(|set| set.pems[1].1 = pem("a.example")),
            "the certificates /c/b.pem and /c/a.pem are both for a.example, so that their order counts",
        ),
        (
            Box::new(|set| set.list = LIST.replace("[alpn h2]", "[alpn http/1.1]")),
            "the line of /c/b.pem in /etc/list.txt differs",
        ),
        (
            Box::new(|set| set.list = "/c/b.pem [alpn h2]\n/c/a.pem\n".to_owned()),
            "the first line of /etc/list.txt differs",
        ),
        (
            Box::new(|set| set.list = format!("{LIST}/c/elsewhere.pem\n")),
            "the certificate /c/elsewhere.pem is no file of the set",
        ),
        (
            Box::new(|set| set.list = format!("{LIST}/c/b.pem \"x\"\n")),
            "/etc/list.txt: line 3 is not certain",
        ),
        (
            Box::new(|set| set.list = format!("{LIST}/c/b.pem x\n")),
            "the line of /c/b.pem in /etc/list.txt differs",
        ),
        (
            Box::new(|set| set.pems.push(("/c/503.http", "503".to_owned()))),
            "added 503.http",
        ),
        (
            Box::new(|set| set.pems.push(("/c/c.pem", pem("c.example")))),
            "added c.pem",
        ),
        (
            Box::new(|set| {
                set.main = MAIN.replace("443", "444");
                set.pems[1].1 = pem("b.example");
            }),
            "no longer listens on *:443 ssl crt-list /etc/list.txt in frontend web; listens on *:444 ssl crt-list /etc/list.txt in frontend web; changed b.pem",
        ),
    ] {
        let got = old.why_not(change);
        let got = got.replace("removed", "added");
        assert_eq!(got, why);
    }
}

#[test]
fn what_else_the_configuration_says_counts() {
    for (main, why) in [
        (
            MAIN.replace(" ssl crt-list /etc/list.txt", ""),
            "no line of the set's configuration leads to the certificate /c/b.pem",
        ),
        (
            MAIN.replace("ssl crt-list", "ssl ca-file /c/b.pem crt-list"),
            "line 4 of the configuration may take the certificate /c/b.pem for something else",
        ),
        (
            MAIN.replace("ssl crt-list", "ssl crt c/b.pem crt-list"),
            "the certificate /c/b.pem is written in several ways",
        ),
        (
            MAIN.replace("ssl crt-list", "ssl crt /d/x.pem crt-list"),
            "the names of the certificate /d/x.pem are not known",
        ),
        (
            MAIN.replace("ssl crt-list", "ssl crt \"$PEM\" crt-list"),
            "an environment variable names a certificate",
        ),
        (
            format!("{MAIN}crt-store\n    load crt x.pem\n"),
            "a `crt-store` names certificates",
        ),
        (
            format!("{MAIN}.if defined(A)\n    bind :1\n.endif\n"),
            "conditional blocks may name certificates",
        ),
        (
            MAIN.replace("global\n", "global\n    crt-base c\n"),
            "`crt-base` is no absolute path",
        ),
    ] {
        let old = Set::new().with(|set| set.main = main);
        assert_eq!(old.why_not(|set| set.pems[1].1 = pem("b.example")), why);
    }
    let old = Set::new().with(|set| set.main = MAIN.replace(" ssl crt-list /etc/list.txt", ""));
    assert_eq!(
        old.why_not(|set| set.list = "/c/a.pem\n".to_owned()),
        "no line of the set's configuration names /etc/list.txt"
    );
    // Alone on its line it may have any name; a server's certificate has none that counts.
    let direct = MAIN.replace("crt-list /etc/list.txt", "crt /c/b.pem")
        + "backend api\n    server a 10.0.0.1:80 ssl verify none crt /c/a.pem\n";
    let old = Set::new().with(|set| set.main = direct);
    for at in [0, 1] {
        let steps = old.to(&old.with(|set| set.pems[at].1 = pem("a.example")));
        assert_eq!(steps.unwrap().contents.len(), 1);
    }
}

use proptest::prelude::*;

use super::*;

fn set(text: &str) -> Vec<SetFile> {
    vec![SetFile {
        destination: "/h.cfg".into(),
        role: Role::Config,
        mode: None,
        text: text.to_owned(),
    }]
}

fn all_lost(new: &[SetFile], good: &[SetFile]) -> Vec<Lost> {
    lost(&configuration(new).binds(), &configuration(good).binds())
}

/// Keeps all that is lost.
fn kept(new: &str, good: &str) -> Result<String, CannotKeep> {
    let (new, good) = (set(new), set(good));
    let lost = all_lost(&new, &good);
    let wanted: Vec<Wanted<'_>> = lost.iter().map(|lost| Wanted { lost, since: 7 }).collect();
    let candidate = keep(&new, &good, &wanted)?;
    Ok(without_marker(&candidate.files[0].text).to_owned())
}

const GOOD: &str = "\
defaults
    mode tcp
frontend in
    bind :80
    default_backend web
listen extra
    # about this one
    bind :81
    bind :82
    default_backend old

    # about the next one
backend web
    server a h:1
backend old
    server b h:2
";

// G18
#[test]
fn a_section_is_kept_with_its_defaults_and_its_backend() {
    let new = "defaults\n    mode http\nfrontend in\n    bind :80\n    default_backend web\nbackend web\n    server a h:1\n";
    let expected = format!(
        "{new}
# Kept by Gatewright with what follows.
defaults
    mode tcp

# Kept by Gatewright for a listener that waits.
backend old
    server b h:2

# Kept by Gatewright since 7: run `gatewright release --listener '*:81' --listener '*:82'` to remove it.
listen extra
    # about this one
    bind :81
    bind :82
    default_backend old
"
    );
    assert_eq!(kept(new, GOOD), Ok(expected.clone()));
    // The set that keeps it is the measure next time.
    assert_eq!(kept(new, &expected), Ok(expected.clone()));
    let since = kept_since(&set(&expected));
    assert_eq!(since, [(("listen".into(), "extra".into()), 7)].into());
    assert_eq!(kept(GOOD, &expected), Ok(GOOD.to_owned()), "it is back");
}

#[test]
fn a_section_of_the_same_name_waits_and_gives_its_servers() {
    let good = "defaults a\n mode tcp\ndefaults b from a\n timeout client 1s\nlisten x from b\n bind :80\n server old h:1\n option tcplog\nfrontend y\n bind :90\n";
    let new = "defaults a\n mode http\nlisten x from a\n bind :81\n server new h:2\nfrontend y\n bind :90\n";
    let expected = "defaults a
 mode http
frontend y
 bind :90

# Kept by Gatewright with what follows.
defaults
 mode tcp
 timeout client 1s

# Kept by Gatewright since 7: run `gatewright release --listener '*:80'` to remove it.
listen x
 bind :80
 option tcplog
 server new h:2
";
    assert_eq!(kept(new, good).as_deref(), Ok(expected));
    assert_eq!(kept(new, expected).as_deref(), Ok(expected));
}

#[test]
fn what_cannot_stand_in_the_new_set_is_not_kept() {
    let clash = kept(
        "frontend y\n bind :90\nbackend x\n",
        "listen x\n bind :80\n",
    );
    let expected = CannotKeep::Clash {
        kind: "listen".into(),
        name: "x".into(),
        new: "backend".into(),
    };
    assert_eq!(clash, Err(expected));
    for good in [
        "frontend x\n bind :80\n .if defined(A)\n maxconn 1\n .endif\n",
        "defaults\n .if defined(A)\n maxconn 1\n .endif\nfrontend x\n bind :80\n",
    ] {
        let kept = kept("frontend y\n bind :90\n", good);
        assert!(
            matches!(kept, Err(CannotKeep::Conditional { .. })),
            "{kept:?}"
        );
    }
    let good = "listen x\n bind :80\n bind 10.0.0.1:81-85\n";
    for new in [
        "frontend y\n bind 10.0.0.1:81-85\n bind 10.0.0.2:80\n",
        "frontend y\n bind :84\n",
        "frontend y\n bind [::]:80\n",
    ] {
        let kept = kept(new, good);
        assert!(matches!(kept, Err(CannotKeep::Overlap { .. })), "{kept:?}");
    }
    assert!(kept("frontend y\n bind 10.0.0.2:81\n bind quic4@:80\n", good).is_ok());
    let own = kept(
        "frontend x\n .if defined(A)\n bind :81\n .endif\n",
        "frontend x\n bind :80\n",
    );
    assert!(
        matches!(own, Err(CannotKeep::Conditional { .. })),
        "{own:?}"
    );
}

#[test]
fn lines_that_decide_where_a_set_listens_are_all_there() {
    let lines = |text: &str| listening_lines(&set(text));
    let servers = GOOD.replace("server a h:1", "server c h:3\n    server d h:4\n    # x");
    assert_eq!(lines(GOOD), lines(&servers));
    assert_eq!(lines(GOOD), lines(&Candidate::new(set(GOOD)).files[0].text));
    for other in [
        GOOD.replace(":81", ":83"),
        GOOD.replace("default_backend old", "disabled"),
        GOOD.replace("bind :81", ".if defined(A)\n    bind :81\n    .endif"),
        GOOD.replace("bind :81", "\"bind\" :83"),
        GOOD.replace("listen extra", "backend extra"),
    ] {
        assert_ne!(lines(GOOD), lines(&other), "{other}");
    }
}

/// The section that makes way listens where another one of the last good set did.
#[test]
fn a_section_is_not_kept_in_place_of_one_that_is_needed() {
    let kept = kept(
        "frontend c\n bind :2\n",
        "frontend a\n bind :2\nfrontend c\n bind :3\n",
    );
    assert_eq!(kept, Err(CannotKeep::StillLost));
}

/// Sections with names and addresses that often clash.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => (1..9u16).prop_map(|port| format!(" bind :{port}")),
        1 => (1..9u16).prop_map(|port| format!(" bind 10.0.0.1:{port},:{port}-9 ssl")),
        2 => "[ab]".prop_map(|name| format!(" default_backend {name}")),
        1 => (1..3u16).prop_map(|number| format!(" server s{number} h:{number}")),
        1 => Just(" # a comment\n".to_owned()),
        1 => Just(" disabled".to_owned()),
        1 => Just(" .if defined(A)\n maxconn 1\n .endif".to_owned()),
    ];
    let kind = prop_oneof![
        Just("frontend"),
        Just("listen"),
        Just("backend"),
        Just("defaults"),
        Just("peers")
    ];
    let section = (kind, "[abc]", prop::collection::vec(line, 0..5))
        .prop_map(|(kind, name, lines)| format!("{kind} {name}\n{}\n", lines.join("\n")));
    prop::collection::vec(section, 1..7).prop_map(|sections| sections.concat())
}

proptest! {
    // G18
    #[test]
    fn a_set_that_keeps_what_it_lost_has_lost_nothing_and_stays_the_same(new in text(), good in text()) {
        let Ok(first) = kept(&new, &good) else {
            return Ok(());
        };
        let sure = |lost: Vec<Lost>| lost.into_iter().filter(|one| !one.conditional).count();
        prop_assert_eq!(sure(all_lost(&set(&first), &set(&good))), 0, "{}", first);
        prop_assert_eq!(kept(&new, &first), Ok(first.clone()));
        // What the new set has besides is there, but for sections that wait.
        let names = |text: &str| -> BTreeSet<(String, String)> {
            configuration(&set(text)).sections.iter().map(key).collect()
        };
        prop_assert!(names(&first).is_superset(&names(&new)), "{}", first);
    }

    #[test]
    fn sets_with_the_same_lines_listen_at_the_same_addresses(one in text(), other in text()) {
        let (one, other) = (set(&one), set(&other));
        if listening_lines(&one) == listening_lines(&other) {
            prop_assert_eq!(all_lost(&one, &other), vec![]);
        }
    }
}

/// Keeps all that is lost but for these ports, in files `/1`, `/2` and so on.
fn kept_in(new: &[&str], good: &[&str], goes: &[u16]) -> Result<Vec<String>, CannotKeep> {
    let files = |texts: &[&str]| -> Vec<SetFile> {
        let numbered = texts.iter().enumerate();
        let file = |(number, text): (usize, &&str)| SetFile {
            destination: format!("/{}", number + 1).into(),
            ..set(text).remove(0)
        };
        numbered.map(file).collect()
    };
    let (new, good) = (files(new), files(good));
    let mut lost = all_lost(&new, &good);
    lost.retain(|one| !matches!(one.endpoint, Endpoint::Inet { low, .. } if goes.contains(&low)));
    let wanted: Vec<Wanted<'_>> = lost.iter().map(|lost| Wanted { lost, since: 7 }).collect();
    let candidate = keep(&new, &good, &wanted)?;
    let texts = candidate.files.iter();
    Ok(texts
        .map(|file| without_marker(&file.text).to_owned())
        .collect())
}

// G18
#[test]
fn a_section_that_is_kept_loses_the_addresses_that_are_removed() {
    let new = "frontend in\n bind :80\n";
    let good =
        "frontend in\n bind :80\nlisten x\n bind :81\n bind :82,:83\n maxconn 5\n bind :84\n";
    let kept = kept_in(&[new], &[good], &[81, 82, 83]).unwrap().remove(0);
    assert!(
        kept.ends_with("--listener '*:84'` to remove it.\nlisten x\n maxconn 5\n bind :84\n"),
        "{kept}"
    );
    assert_eq!(kept_in(&[new], &[&kept], &[]), Ok(vec![kept]));
    let partly = kept_in(&[new], &[good], &[82]);
    assert!(
        matches!(partly, Err(CannotKeep::Partly { .. })),
        "{partly:?}"
    );
    // What listens there now is no reason to refuse an address that is removed.
    let moved = "frontend in\n bind :80\nfrontend other\n bind 10.0.0.1:81\n";
    assert!(kept_in(&[moved], &[good], &[81]).is_ok());
    assert!(kept_in(&[moved], &[good], &[]).is_err());
}

// G18
#[test]
fn a_section_of_several_files_is_kept_in_its_own() {
    let base = "defaults\n mode tcp\nbackend web\n server a h:1\n";
    let extra = "defaults\n timeout client 1s\nfrontend in\n bind :80\n";
    let lost = format!("{extra}listen x\n bind :81\n");
    let last = "frontend z from d\n bind :90\n";
    let kept = kept_in(&[base, extra, last], &[base, &lost, last], &[]).unwrap();
    assert_eq!((kept[0].as_str(), kept[2].as_str()), (base, last));
    let added = kept[1].strip_prefix(extra).unwrap();
    let expected = "
# Kept by Gatewright with what follows.
defaults
 timeout client 1s

# Kept by Gatewright since 7: run `gatewright release --listener '*:81'` to remove it.
listen x
 bind :81
";
    assert_eq!(added, expected);
    let files: Vec<&str> = kept.iter().map(String::as_str).collect();
    assert_eq!(kept_in(&[base, extra, last], &files, &[]), Ok(kept.clone()));

    // Its `defaults` may be those of another file, or would reach into one, or its file is gone.
    let bare = "frontend in\n bind :80\n";
    let of_base = format!("{bare}listen x\n bind :81\n");
    let elsewhere = kept_in(&[base, bare], &[base, &of_base], &[]);
    assert!(
        matches!(elsewhere, Err(CannotKeep::DefaultsElsewhere { .. })),
        "{elsewhere:?}"
    );
    let open = kept_in(&[base, extra, bare], &[base, &lost, bare], &[]);
    let expected = CannotKeep::OpenFile { file: "/3".into() };
    assert_eq!(open, Err(expected));
    let gone = kept_in(&[base, bare], &[base, bare, &lost], &[]);
    assert!(matches!(gone, Err(CannotKeep::FileGone { .. })), "{gone:?}");
    // One file that was several before takes all.
    let both = format!("{base}{bare}");
    assert!(kept_in(&[&both], &[base, &lost], &[]).is_ok());
    // What takes no `defaults` changes nothing elsewhere.
    let peers = "peers p\n bind :91\n server a 10.0.0.1:1\n";
    let log = format!("{bare}{peers}");
    assert!(kept_in(&[base, bare], &[base, &log], &[]).is_ok());
}

//! What validates is what will load: the program, flags, files and directory of the running master; and
//! what is told when that is not so.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gatewright::apply::execute::{ApplyError, Means, Options, Verdict};
use gatewright::apply::gate::Rules;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::apply::tell::{Mode, Seen};
use gatewright::diagnostic::Severity;
use support::haproxies::{Version, haproxies, newest, oldest};
use support::script;

use super::bench::{Bench, Way, confirmed};
use super::open;
use crate::real::{Haproxy, eventually};

/// HAProxy with a first file, a folder of further ones and relative paths, started in a directory of its own.
async fn in_a_folder(bench: &mut Bench) {
    use std::os::unix::process::CommandExt;
    let directory = bench.path().to_owned();
    let path = |name: &str| directory.join(name);
    for folder in ["work/pages", "conf.d"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    let page = "HTTP/1.0 503 Unavailable\r\nContent-Length: 0\r\n\r\n";
    std::fs::write(path("work/pages/503.http"), page).unwrap();
    let base = format!(
        "global\n    stats socket {}/stats.sock level admin\ndefaults base\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n",
        bench.path().display()
    );
    std::fs::write(path("first.cfg"), base).unwrap();
    std::fs::write(path("conf.d/h.cfg"), in_folder(bench, "by-hand")).unwrap();
    let child = Command::new(bench.version.program())
        .args(["-W", "-db", "-n", "200", "-S"])
        .arg(format!("{},mode,0600", path("master.sock").display()))
        .args(["-f", "../first.cfg", "-f", "../conf.d"])
        .current_dir(path("work"))
        .stdin(std::process::Stdio::null())
        .stderr(std::fs::File::create(path("haproxy.log")).unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    bench.haproxy = Some(Haproxy { child });
    let stats = path("stats.sock");
    eventually("HAProxy serves", || {
        std::os::unix::net::UnixStream::connect(&stats).is_ok()
    })
    .await;
}

/// Valid only after `first.cfg`, in the folder `work`, and in a master (`program`).
fn in_folder(bench: &Bench, word: &str) -> String {
    format!(
        "program idle\n    command sleep 600\nfrontend f from base\n    errorfile 503 pages/503.http\n    bind 127.0.0.1:{}\n    http-request return status 200 content-type text/plain string {word}\n",
        bench.port
    )
}

// F03
#[tokio::test]
async fn a_set_is_validated_as_the_running_master_will_load_it() {
    let mut bench = Bench::new(&oldest());
    in_a_folder(&mut bench).await;
    let main = bench.path().join("conf.d/h.cfg");
    let mut options = bench.options(Way::Master);
    options.destinations = vec![(main.clone(), Role::Config)];
    let rules = Rules {
        complete: false,
        ..Rules::default()
    };
    let mut applier = open(options, rules);
    let set = |text: String| {
        Candidate::new(vec![SetFile {
            destination: main.clone(),
            role: Role::Config,
            mode: None,
            text,
        }])
    };
    let verdict = applier
        .apply(&set(in_folder(&bench, "one")), Means::Any)
        .await;
    assert!(confirmed(&verdict), "{verdict:?}");
    bench.serves("one").await;
    let other = in_folder(&bench, "two").replace("pages/503", "work/pages/503");
    let verdict = applier.apply(&set(other), Means::Any).await;
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    bench.serves("one").await;
}

// F04
/// An upgrade of the package replaces the program under the running process.
#[tokio::test]
async fn another_version_on_the_disk_than_runs_is_told() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let mut applier = bench.applier(Way::Master);
    assert_eq!(applier.observe().await.notes, [""; 0]);
    drop(applier);
    let newer = newest().program().to_owned();
    let mut options = bench.options(Way::Master);
    options.binary = newer.clone();
    let mut applier = open(options, Rules::default());
    let notes = applier.observe().await.notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    let (runs, is) = (
        format!("HAProxy runs version {}.", oldest().name()),
        format!("but {}, which", newer.display()),
    );
    assert!(
        notes[0].starts_with(&runs) && notes[0].contains(&is),
        "{notes:?}"
    );
    // It is no reason to stand still.
    let text = bench.text("one");
    let verdict = bench.apply(&mut applier, text).await;
    assert!(confirmed(&verdict), "{verdict:?}");
}

// F09
#[haproxies(ends)]
async fn warnings_pass_and_are_told_or_refuse_where_the_settings_say_so(version: Version) {
    let mut bench = Bench::with_haproxy(&version).await;
    let text = bench.text("one").replace("    timeout client 5s\n", "");
    assert_ne!(text, bench.text("one"));
    let strict = Rules {
        strict_warnings: true,
        ..Rules::default()
    };
    let mut applier = open(bench.options(Way::Master), strict);
    let verdict = bench.apply(&mut applier, text.clone()).await;
    let Verdict::Refused { findings, .. } = verdict else {
        panic!("{version}: {verdict:?}");
    };
    let help = findings[0].help.clone().unwrap_or_default();
    assert!(help.contains("strict_warnings"), "{findings:?}");
    bench.serves("by-hand").await;
    drop(applier);

    let mut applier = bench.applier(Way::Master);
    let verdict = bench.apply(&mut applier, text).await;
    let Verdict::Confirmed { findings, .. } = verdict else {
        panic!("{version}: {verdict:?}");
    };
    assert!(!findings.is_empty());
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Warning)
    );
    let notes = applier.observe().await.notes;
    assert!(
        notes[0].starts_with("The set in force was warned of: "),
        "{notes:?}"
    );
    // The next one without is quiet again.
    let text = bench.text("two");
    assert!(confirmed(&bench.apply(&mut applier, text).await));
    assert_eq!(applier.observe().await.notes, [""; 0]);
}

// I11
#[tokio::test]
async fn a_program_that_cannot_be_started_holds_and_goes_on_when_it_can() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let program = bench.path().join("validator");
    let haproxy = bench.version.program().display();
    script::write(&program, &format!("#!/bin/sh\nexec {haproxy} \"$@\"\n")).unwrap();
    let busy = std::fs::File::options().write(true).open(&program).unwrap();
    let mut options = bench.options(Way::Master);
    options.binary = program;
    let mut applier = open(options, Rules::default());
    let text = bench.text("one");
    let verdict = bench.apply(&mut applier, text.clone()).await;
    let failed = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::Failed {
                error: ApplyError::Check(_)
            }
        )
    };
    assert!(failed(&verdict), "{verdict:?}");
    bench.assert_clean();
    bench.serves("by-hand").await;
    drop(busy);
    let verdict = bench.apply(&mut applier, text).await;
    assert!(confirmed(&verdict), "{verdict:?}");
}

// I12 H01
/// What is missing is named before it is needed.
#[tokio::test]
async fn what_would_fail_is_named_by_the_first_look() {
    let bench = Bench::with_haproxy(&oldest()).await;
    let told = async |options: Options| {
        let mut applier = open(options, Rules::default());
        applier.observe().await.notes.join("\n")
    };
    let mut options = bench.options(Way::Master);
    options.binary = "no-such-haproxy".into();
    options.destinations[0].0 = bench.path().join("haproxy.cfg");
    // The master's own program is used.
    assert_eq!(told(options.clone()).await, "");
    options.binary = "/no/such/haproxy".into();
    let notes = told(options).await;
    assert!(
        notes.contains("The program /no/such/haproxy, which validates each set, was not found"),
        "{notes}"
    );

    let mut options = bench.options(Way::Command);
    options.mode = Mode::Command {
        argv: vec!["no-such-command".into()],
    };
    let notes = told(options).await;
    assert!(
        notes.contains("The reload command no-such-command was not found"),
        "{notes}"
    );

    std::fs::write(
        bench.path().join("pid"),
        format!("{}\n", std::process::id()),
    )
    .unwrap();
    let notes = told(bench.options(Way::Signal)).await;
    assert!(notes.contains("are never signalled"), "{notes}");

    // A socket that only tells: every change is a reload, and the status says so.
    let operator = bench.text("one").replace("level admin", "level operator");
    drop(bench);
    let mut bench = Bench::new(&oldest());
    let directory = bench.path().display().to_string();
    let old = operator.split("/stats.sock").next().unwrap();
    let old = old.rsplit(' ').next().unwrap().to_owned();
    let operator = operator.replace(&old, &directory);
    std::fs::write(bench.main(), operator).unwrap();
    bench.haproxy = Some(Haproxy::start(&bench.version, bench.path(), &bench.main()).await);
    let notes = told(bench.options(Way::Command)).await;
    assert!(
        notes.contains("has no socket that takes commands, so each change"),
        "{notes}"
    );
    std::fs::remove_file(bench.path().join("stats.sock")).unwrap();
    let mut applier = bench.applier(Way::Master);
    // Through the master all is well.
    assert!(matches!(applier.observe().await.seen, Seen::Running(_)));
}

// L08
/// The reload command is a list of words, and no shell reads it.
#[tokio::test]
async fn a_reload_command_is_given_its_words_as_they_are() {
    let mut bench = Bench::with_haproxy(&oldest()).await;
    let command = bench.path().join("reload");
    let text = format!(
        "#!/bin/sh\nprintf '<%s>' \"$@\" > {0}/words\nkill -USR2 $(cat {0}/pid)\n",
        bench.path().display()
    );
    script::write(&command, &text).unwrap();
    let evil = bench.path().join("evil").display().to_string();
    let words = [
        format!("; touch {evil}"),
        format!("$(touch {evil})"),
        format!("`touch {evil}`"),
        "a b\n|&".to_owned(),
    ];
    let mut options = bench.options(Way::Command);
    options.mode = Mode::Command {
        argv: std::iter::once(command.into())
            .chain(words.iter().map(OsString::from))
            .collect(),
    };
    let mut applier = open(options, Rules::default());
    // A plain SIGUSR2 kills a HAProxy that has just started (see `process`).
    let started = Instant::now();
    eventually("HAProxy is ready", || {
        started.elapsed() > Duration::from_secs(1)
    })
    .await;
    let text = bench.text("one");
    let verdict = bench.apply(&mut applier, text).await;
    assert!(confirmed(&verdict), "{verdict:?}");
    let given = std::fs::read_to_string(bench.path().join("words")).unwrap();
    let wanted: String = words.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(given, wanted);
    assert!(!Path::new(&evil).exists());
}

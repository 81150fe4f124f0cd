//! What machines read: the formats of `check`, held to their schemas, completions in a real shell, manual pages.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::gatewright::{Setup, binary};
use support::haproxies::oldest;
use support::tools;

/// Two catalogs of which one fails, a warning, and a template in a folder with a blank.
fn repository() -> Setup {
    let setup = Setup::new().unwrap();
    let template = "global\n    hard-stop-after 30s\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 5s\n    timeout server 5s\nfrontend in\n    bind 127.0.0.1:18080\n    default_backend web\nbackend web\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}} check on-error {{ServiceMeta.error}}\n{{/each}}\n";
    setup
        .file("my templates/haproxy.cfg.hbs", template)
        .unwrap();
    let instance = |error: &str, port: u32| {
        format!(
            r#"{{"Address": "10.0.0.1", "Port": {port}, "ID": "é<&>", "ServiceMeta": {{"error": "{error}"}}}}"#
        )
    };
    for (name, instances) in [
        ("good", instance("mark-down", 80)),
        ("bad", instance("50%", 80).replace("50%", "heavy")),
        (
            "odd",
            format!(
                "{}, {}",
                instance("mark-down", 80),
                instance("mark-down", 99_999)
            ),
        ),
    ] {
        let text = format!(r#"{{"services": {{"web": [{instances}]}}}}"#);
        setup
            .file(&format!("my templates/fixtures/{name}.json"), &text)
            .unwrap();
    }
    setup
}

fn check(setup: &Setup, format: &str) -> String {
    let haproxy = oldest().program().display().to_string();
    let words = [
        "check",
        ".",
        "--no-made",
        "--allow",
        "no-idle-close",
        "--allow",
        "no-else",
        "--haproxy",
        &haproxy,
        "--format",
        format,
    ];
    let output = setup.call(&words).unwrap();
    assert_eq!(output.status.code(), Some(5), "{format}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with what the schema refuses.
fn hold(schema: Value, value: &Value) {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("schema.json", schema).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(value, index) {
        panic!("{error:#}\n{value:#}");
    }
}

fn schema(setup: &Setup, name: &str) -> Value {
    let output = setup.call(&["schema", name]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_keeps_to_its_schema() {
    let setup = repository();
    let value: Value = serde_json::from_str(&check(&setup, "json")).unwrap();
    hold(schema(&setup, "check"), &value);
    let cases = value["cases"].as_array().unwrap();
    let codes: Vec<_> = cases
        .iter()
        .map(|case| case["exitCode"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [5, 0, 0], "bad, good, odd");
    assert_eq!(
        (&cases[0]["templates"][0], &cases[0]["catalog"]),
        (
            &"my templates/haproxy.cfg.hbs".into(),
            &"my templates/fixtures/bad.json".into()
        )
    );
    let told = &cases[0]["diagnostics"][0];
    assert_eq!(told["place"]["path"], "my templates/haproxy.cfg.hbs");
    assert_eq!(
        (&told["place"]["line"], &told["place"]["column"]),
        (&13.into(), &70.into())
    );
}

#[test]
fn sarif_keeps_to_the_standard_s_schema() {
    let setup = repository();
    let log: Value = serde_json::from_str(&check(&setup, "sarif")).unwrap();
    let path = tools::root().join("tests/golden/schemas/sarif-2.1.0.json");
    let text = std::fs::read_to_string(path).unwrap();
    hold(serde_json::from_str(&text).unwrap(), &log);
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "haproxy");
    let physical = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        physical["artifactLocation"]["uri"],
        "my%20templates/haproxy.cfg.hbs"
    );
    assert_eq!(physical["region"]["startLine"], 13);
    for result in log["runs"][0]["results"].as_array().unwrap() {
        let physical = &result["locations"][0]["physicalLocation"];
        assert!(physical["region"]["startLine"].is_u64(), "{result:#}");
        assert!(
            physical["artifactLocation"]["uri"].is_string(),
            "{result:#}"
        );
    }
}

#[test]
fn junit_is_xml_with_a_case_for_each_catalog() {
    let xml = check(&repository(), "junit");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let suite = document.root_element().first_element_child().unwrap();
    assert_eq!(
        suite.attribute("name"),
        Some("my templates/haproxy.cfg.hbs")
    );
    assert_eq!(
        (suite.attribute("tests"), suite.attribute("failures")),
        (Some("3"), Some("1"))
    );
}

#[test]
fn github_gets_one_command_a_line() {
    let text = check(&repository(), "github");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(
            "::error file=my templates/haproxy.cfg.hbs,line=13,endLine=13,col=70,endColumn=91,title=haproxy::"
        ),
        "{text}"
    );
    assert!(
        lines[1].starts_with(
            "::warning file=my templates/fixtures/odd.json,title=quarantined::Instance "
        ),
        "{text}"
    );
    assert_eq!(lines[2], "1 error and 1 warning in 3 cases.");
}

#[test]
fn the_schema_of_catalogs_takes_what_the_program_takes() {
    let setup = repository();
    let schema = schema(&setup, "catalog");
    let golden = tools::root().join("tests/golden");
    let mut read = 0;
    let mut folders = vec![golden];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("schemas") {
                folders.push(path);
                continue;
            }
            let is_catalog = path.file_name().is_some_and(|name| name == "catalog.json");
            // Of the broken ones those that are wrong in themselves are refused by both.
            let folder = path
                .parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if !is_catalog || folder.starts_with("catalog-") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            hold(schema.clone(), &serde_json::from_str(&text).unwrap());
            read += 1;
        }
    }
    assert!(read > 50, "{read} catalogs");
    for short in [
        r#"{"$schema": "./catalog.schema.json", "services": {"web": 3, "api": ["10.0.0.1:80", "[fd00::1]:80"]}}"#,
        r#"{"answers": {"key \"a\"": null, "nodes": [{"Node": "n"}], "services": {"web": ["a"]}}}"#,
    ] {
        hold(schema.clone(), &serde_json::from_str(short).unwrap());
        setup.file("short.json", short).unwrap();
        let haproxy = oldest().program().display().to_string();
        setup.file("plain.hbs", "frontend f\n    bind :1\n    mode http\n    timeout client 1s\n    http-request return status 200\n").unwrap();
        let words = [
            "check",
            "plain.hbs",
            "short.json",
            "--no-made",
            "--haproxy",
            &haproxy,
        ];
        let output = setup.call(&words).unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let setup = Setup::new().unwrap();
    let script = setup.call(&["completions", "bash"]).unwrap();
    setup
        .file("completion", &String::from_utf8(script.stdout).unwrap())
        .unwrap();
    let complete = |words: &[&str]| -> Vec<String> {
        let list = words.join(" ");
        let script = format!(
            "source {}; COMP_WORDS=({list}); COMP_CWORD={}; _gatewright gatewright \"{}\" \"{}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            setup.path("completion"),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2]
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["gatewright", "che"]), ["check"]);
    assert_eq!(complete(&["gatewright", "check", "--form"]), ["--format"]);
    assert_eq!(
        complete(&["gatewright", "check", "--format", "sa"]),
        ["sarif"]
    );
    for shell in ["zsh", "fish"] {
        let script = setup.call(&["completions", shell]).unwrap();
        assert!(
            String::from_utf8_lossy(&script.stdout).contains("check"),
            "{shell}"
        );
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let setup = Setup::new().unwrap();
    let folder = setup.path("man1");
    assert_eq!(
        setup
            .call(&["man", "--dir", &folder])
            .unwrap()
            .status
            .code(),
        Some(0)
    );
    let help = Command::new(binary().unwrap())
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    for command in commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let page = Path::new(&folder).join(format!("gatewright-{command}.1"));
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains(".SH NAME"), "{command}");
        typeset(&page);
    }
    let page = setup.call(&["man", "check"]).unwrap();
    let text = String::from_utf8_lossy(&page.stdout).into_owned();
    let title = format!(
        ".TH gatewright-check 1 \"\" \"gatewright {}\" Gatewright\n",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.starts_with(&title), "{text}");
    setup.file("check.1", &text).unwrap();
    let Some(shown) = typeset(Path::new(&setup.path("check.1"))) else {
        return;
    };
    for part in [
        "\n         gatewright check . --format sarif > gatewright.sarif\n",
        "Each set of templates is rendered from each of its catalogs",
    ] {
        assert!(shown.contains(part), "{part:?}\n{shown}");
    }
}

/// The page as a reader of manuals sees it, where groff is there; it may warn of nothing.
fn typeset(page: &Path) -> Option<String> {
    let output = Command::new("groff")
        .args(["-man", "-ww", "-Tascii", "-P-c", "-rLL=200n"])
        .arg(page)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(0), ""),
        "{page:?}"
    );
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(&output.stdout).chars() {
        match letter {
            // Bold is a letter, a step back and the letter again.
            '\u{8}' => {
                shown.pop();
            }
            letter => shown.push(letter),
        }
    }
    Some(shown)
}

#[test]
fn help_is_about_commands_and_topics() {
    let setup = Setup::new().unwrap();
    let told = |words: &[&str]| {
        let output = setup.call(words).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for (words, part) in [
        (&["help"][..], "Usage: gatewright"),
        (&["help", "check"], "Usage: gatewright check"),
        (&["help", "templates"], "serverName"),
        (&["help", "codes"], "\nhostile-value\n  "),
        (&["help", "lints"], "\nno-else\n  "),
        (&["help", "exit-codes"], "haproxy -c or the gate refused"),
        (&["help", "metrics"], "\n  * `gatewright_ready` (gauge): "),
    ] {
        let (code, out, _) = told(words);
        assert_eq!(code, Some(0), "{words:?}");
        assert!(out.contains(part), "{words:?}: {out}");
    }
    for (wrong, near) in [("chekc", "check"), ("metric", "metrics")] {
        let (code, _, error) = told(&["help", wrong]);
        assert_eq!(code, Some(2));
        let said = format!(
            "error[topic]: There is no help about `{wrong}`.\n |\n = help: Did you mean `{near}`?\n\n"
        );
        assert_eq!(error, said);
    }
    let (_, both, _) = told(&["help", "status"]);
    assert!(
        both.contains("Usage: gatewright status") && both.contains("\nThe status\n"),
        "{both}"
    );
    let (_, list, _) = told(&["--help"]);
    assert!(
        list.contains("\n  metrics          every metric for Prometheus\n"),
        "{list}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let (_, completions, _) = told(&["completions", shell]);
        assert!(completions.contains("troubleshooting"), "{shell}");
    }
}

#[test]
fn a_git_hook_refuses_a_commit_with_a_broken_template() {
    let setup = repository();
    let git = |words: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(words)
            .current_dir(setup.directory())
            .env("HOME", setup.directory())
            .env("GATEWRIGHT", binary().unwrap())
            .env("HAPROXY", oldest().program())
            .env_remove("GIT_DIR")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), error)
    };
    assert!(git(&["init", "-q"]).0);
    let hook = tools::root().join("examples/ci/pre-commit");
    std::fs::copy(hook, setup.directory().join(".git/hooks/pre-commit")).unwrap();
    // The bad catalog is not part of the commit, and so it does not count.
    assert!(
        git(&[
            "add",
            "my templates/haproxy.cfg.hbs",
            "my templates/fixtures/good.json"
        ])
        .0
    );
    let (taken, error) = git(&["commit", "-qm", "good"]);
    assert!(taken, "{error}");
    assert!(git(&["add", "."]).0);
    let (taken, error) = git(&["commit", "-qm", "bad"]);
    assert!(!taken);
    assert!(
        error.contains("error[haproxy]: ") && error.contains("The commit is refused"),
        "{error}"
    );
    // So does an expected text that is not the rendered one.
    assert!(git(&["reset", "-q"]).0);
    let expected = "my templates/fixtures/good.expected/haproxy.cfg";
    setup.file(expected, "frontend other\n").unwrap();
    assert!(git(&["add", expected]).0);
    let (taken, error) = git(&["commit", "-qm", "expected"]);
    assert!(!taken && error.contains("[unexpected-output]"), "{error}");
    setup.file("notes.txt", "nothing of ours").unwrap();
    assert!(git(&["reset", "-q"]).0 && git(&["add", "notes.txt"]).0);
    let (taken, error) = git(&["commit", "-qm", "other"]);
    assert!(taken, "{error}");
}

#[test]
fn the_examples_for_ci_are_yaml() {
    for name in [
        "github-actions.yml",
        "gitlab-ci.yml",
        "pre-commit-hooks.yaml",
    ] {
        let path = tools::root().join("examples/ci").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let parser = saphyr_parser::Parser::new_from_str(&text);
        let events: Result<Vec<_>, _> = parser.collect();
        assert!(events.is_ok_and(|events| events.len() > 10), "{name}");
    }
}

/// How the calls of an example end, in order, each in a shell as it stands there, with HAProxy 2.6.
fn calls(setup: &Setup, name: &str) -> Vec<Option<i32>> {
    let path = tools::root().join("examples/ci").join(name);
    let program = binary().unwrap().display().to_string();
    let haproxy = oldest().program().display().to_string();
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let (start, rest) = line.split_once("gatewright check ")?;
            let rest = rest.replace("/usr/sbin/haproxy", &haproxy);
            let called = ["run: ", "- ", "- .cargo-install/bin/", "entry: "];
            assert!(called.contains(&start.trim_start()), "{line}");
            let call = format!("\"{program}\" check --no-made {rest}");
            let mut shell = Command::new("bash");
            let shell = shell.args(["-eo", "pipefail", "-c", &call]);
            let path = format!(
                "{}:{}",
                Path::new(&haproxy).parent().unwrap().display(),
                std::env::var("PATH").unwrap_or_default()
            );
            let shell = shell.current_dir(setup.directory()).env("PATH", path);
            Some(shell.output().unwrap().status.code())
        })
        .collect()
}

#[test]
fn the_calls_of_the_examples_fail_where_they_should_and_leave_their_reports() {
    let setup = repository();
    // The second call of a workflow writes or shows the same again, and does not fail for it.
    let endings = [
        ("github-actions.yml", [Some(5), Some(0)].as_slice()),
        ("gitlab-ci.yml", &[Some(5), Some(0)]),
        ("pre-commit-hooks.yaml", &[Some(5)]),
    ];
    for (name, endings) in endings {
        assert_eq!(calls(&setup, name), endings, "{name}");
    }
    let log: Value = serde_json::from_str(&setup.read("gatewright.sarif").unwrap()).unwrap();
    assert_eq!(log["runs"][0]["invocations"][0]["exitCode"], 5);
    let xml = setup.read("junit.xml").unwrap();
    let report = roxmltree::Document::parse(&xml).unwrap();
    assert_eq!(report.root_element().attribute("failures"), Some("1"));

    std::fs::remove_file(setup.path("my templates/fixtures/bad.json")).unwrap();
    for (name, endings) in endings {
        let good = vec![Some(0); endings.len()];
        assert_eq!(calls(&setup, name), good, "{name}");
    }
}

use super::*;
use crate::diagnostic::render;

const EXAMPLE: &str = include_str!("../../examples/settings/gatewright.toml");

fn wrong(source: &str) -> String {
    let path = Path::new("gatewright.toml");
    let diagnostics = match parse(path, source) {
        Err(diagnostic) => vec![diagnostic],
        Ok(settings) => check::check(&settings, path, source),
    };
    diagnostics.iter().map(|one| render(one, false)).collect()
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    let path = Path::new("gatewright.toml");
    let settings = parse(path, EXAMPLE).unwrap_or_else(|wrong| panic!("{}", render(&wrong, false)));
    assert_eq!(check::check(&settings, path, EXAMPLE), []);

    // A line `# key = value` shows a default. Uncommented, the whole must be the defaults plus
    // what the example sets.
    let full: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("#: ") {
            Some(key) => format!("{key}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let shown = parse(path, &full).unwrap_or_else(|wrong| panic!("{}", render(&wrong, false)));
    let mut expected = Settings {
        template: shown.template.clone(),
        parameters: shown.parameters.clone(),
        ..Settings::default()
    };
    // Keys without a default are shown with an example value.
    expected.consul.addresses = shown.consul.addresses.clone();
    expected.consul.token_file = shown.consul.token_file.clone();
    expected.consul.http_auth = shown.consul.http_auth.clone();
    expected.consul.datacenter = shown.consul.datacenter.clone();
    expected.consul.namespace = shown.consul.namespace.clone();
    expected.consul.partition = shown.consul.partition.clone();
    expected.consul.tls = shown.consul.tls.clone();
    expected.templates.partials = shown.templates.partials.clone();
    expected.templates.files = shown.templates.files.clone();
    expected.templates.environment = shown.templates.environment.clone();
    expected.gate.min_servers = shown.gate.min_servers.clone();
    expected.guard.services = shown.guard.services.clone();
    expected.haproxy.master_socket = shown.haproxy.master_socket.clone();
    expected.haproxy.stats_socket = shown.haproxy.stats_socket.clone();
    expected.haproxy.pid_file = shown.haproxy.pid_file.clone();
    expected.haproxy.command = shown.haproxy.command.clone();
    expected.haproxy.config_files = shown.haproxy.config_files.clone();
    expected.haproxy.arguments = shown.haproxy.arguments.clone();
    expected.haproxy.working_directory = shown.haproxy.working_directory.clone();
    expected.haproxy.drain.backends = shown.haproxy.drain.backends.clone();
    expected.state.directory = shown.state.directory.clone();
    expected.status = shown.status.clone();
    assert_eq!(shown, expected, "a shown default is not the real one");

    // And no key of the model is missing from the example: the reader lists the keys it knows
    // when it meets an unknown one.
    for table in [
        "consul",
        "consul.tls",
        "catalog",
        "templates",
        "gate",
        "guard",
        "guard.services.airavata-api",
        "haproxy",
        "apply",
        "state",
        "status",
        "log",
    ] {
        let error =
            toml::from_str::<Settings>(&format!("[{table}]\nzzzzzzzzzz = 1\n")).unwrap_err();
        let known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
        assert!(!known.is_empty(), "{table}: {error}");
        for key in known
            .iter()
            .filter(|key| !["tls", "token", "services"].contains(*key))
        {
            let keys: Vec<&str> = table.split('.').chain([*key]).collect();
            assert!(
                error::locate(&full, &keys).is_some(),
                "examples/settings/gatewright.toml does not show `{}`",
                keys.join(".")
            );
        }
    }
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_one() {
    assert_eq!(
        wrong("[consul]\nadresses = [\"http://x:1\"]\n"),
        "\
error[unknown-key]: There is no setting `adresses` here.
 --> gatewright.toml:2:1
  |
2 | adresses = [\"http://x:1\"]
  | ^^^^^^^^
  |
  = help: Did you mean `addresses`?
"
    );
}

#[test]
fn a_wrong_type_and_an_impossible_value_point_at_the_value() {
    assert_eq!(
        wrong("[consul]\nwait = 60\n"),
        "\
error[wrong-type]: The value has the wrong type: integer `60`, expected a string.
 --> gatewright.toml:2:8
  |
2 | wait = 60
  |        ^^
  |
  = help: See examples/settings/gatewright.toml for each key and its form.
"
    );
    assert_eq!(
        wrong("[consul]\nwait = \"1 minute\"\n"),
        "\
error[wrong-value]: `1 minute` is no length of time. Write a number with a unit: `250ms`, `30s`, `1m30s` or `2h`.
 --> gatewright.toml:2:8
  |
2 | wait = \"1 minute\"
  |        ^^^^^^^^^^
"
    );
    assert_eq!(
        wrong("[haproxy]\nmode = \"sginal\"\n"),
        "\
error[wrong-value]: `sginal` is not one of the values here.
 --> gatewright.toml:2:8
  |
2 | mode = \"sginal\"
  |        ^^^^^^^^
  |
  = help: Did you mean `signal`?
"
    );
}

#[test]
fn keys_that_contradict_each_other_are_all_named() {
    let text = wrong(
        "[consul]\ntoken = \"a\"\ntoken_file = \"/t\"\nwait = \"11m\"\n[haproxy]\nmode = \"signal\"\n[apply]\nsettle = \"2s\"\n",
    );
    for part in [
        "error[conflict]: Both `token` and `token_file` are set.",
        "gatewright.toml:3:14",
        "error[out-of-range]: `consul.wait` is 11m, which is out of range.",
        "Choose from 1s to 10m.",
        "error[conflict]: `mode = \"signal\"` needs `haproxy.pid_file`.",
        "error[conflict]: `apply.settle` (2s) is longer than `apply.max_settle` (1s).",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn two_templates_may_not_write_one_file() {
    let text = wrong(
        "[[template]]\nsource = \"a\"\ndestination = \"/x\"\n[[template]]\nsource = \"b\"\ndestination = \"/x\"\nkind = \"map\"\n",
    );
    assert!(text.contains("Template 1 already writes `/x`."), "{text}");
    assert!(text.contains("gatewright.toml:6:15"), "{text}");
}

#[test]
fn text_that_is_no_toml_is_an_error_with_a_place() {
    let text = wrong("[consul\naddresses = 1\n");
    assert!(
        text.starts_with("error[syntax]: This is not TOML:"),
        "{text}"
    );
    assert!(text.contains("gatewright.toml:1:"), "{text}");
}

#[test]
fn an_address_must_be_one() {
    for address in [
        "ftp://x",
        "http://",
        "http://u:p@x",
        "unix://rel",
        "x y",
        "http://x?y",
    ] {
        let text = wrong(&format!("[consul]\naddresses = [{address:?}]\n"));
        assert!(
            text.contains("is no address of Consul"),
            "{address}: {text}"
        );
        assert!(text.contains("gatewright.toml:2:14"), "{address}: {text}");
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    std::fs::write(
        &path,
        "[consul]\nnamespace = \"file\"\ntoken_file = \"token\"\n[templates]\npartials = \"p\"\n",
    )
    .unwrap();
    let environment = [
        ("CONSUL_NAMESPACE", "environment"),
        ("CONSUL_PARTITION", "environment"),
        ("CONSUL_HTTP_TOKEN", "environment"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let sources = Sources {
        file: Some(&path),
        environment: &environment,
    };
    let settings = sources
        .load(|settings| settings.consul.datacenter = Some("flag".to_owned()))
        .unwrap();
    assert_eq!(settings.consul.namespace.as_deref(), Some("file"));
    assert_eq!(settings.consul.partition.as_deref(), Some("environment"));
    assert_eq!(settings.consul.datacenter.as_deref(), Some("flag"));
    assert!(
        settings.consul.token.is_none(),
        "the file names a token file"
    );
    assert_eq!(
        settings.consul.token_file,
        Some(folder.path().join("token"))
    );
    assert_eq!(settings.templates.partials, Some(folder.path().join("p")));
    assert_eq!(settings.consul.addresses, [DEFAULT_CONSUL]);
}

#[test]
fn a_token_in_a_file_that_others_can_read_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    std::fs::write(&path, "[consul]\ntoken = \"canary-5f2a\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let environment = Environment::new();
    let sources = Sources {
        file: Some(&path),
        environment: &environment,
    };
    let text: String = sources
        .load(|_| {})
        .unwrap_err()
        .iter()
        .map(|one| render(one, false))
        .collect();
    assert!(text.contains("readable-secret"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = sources.load(|_| {}).unwrap();
    assert!(!format!("{settings:?}").contains("canary-5f2a"));
}

#[test]
fn templates_may_not_be_given_the_token() {
    let text = wrong("[templates]\nenvironment = [\"HOME\", \"CONSUL_HTTP_TOKEN\"]\n");
    assert!(text.contains("`CONSUL_HTTP_TOKEN` is a secret"), "{text}");
    assert!(text.contains("gatewright.toml:2:24"), "{text}");
}

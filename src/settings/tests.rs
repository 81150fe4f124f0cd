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
    expected.serf.addresses = shown.serf.addresses.clone();
    expected.serf.auth_key_file = shown.serf.auth_key_file.clone();
    expected.catalog.file = shown.catalog.file.clone();
    expected.catalog.allow_addresses = shown.catalog.allow_addresses.clone();
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
    expected
        .haproxy
        .environment
        .clone_from(&shown.haproxy.environment);
    expected.state.directory = shown.state.directory.clone();
    expected.status = shown.status.clone();
    assert_eq!(shown, expected, "a shown default is not the real one");

    // And no key of the model is missing from the example: the reader lists the keys it knows
    // when it meets an unknown one.
    for table in [
        "consul",
        "consul.tls",
        "serf",
        "serf.tags",
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
            .filter(|key| !["tls", "token", "services", "auth_key"].contains(*key))
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

// K01
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
fn a_lint_that_there_is_not_is_shown_with_the_nearest_one() {
    assert_eq!(
        wrong("[check]\nallow = [\"no-check\", \"no-els\"]\n"),
        "\
error[unknown-lint]: There is no lint `no-els`.
 --> gatewright.toml:2:22
  |
2 | allow = [\"no-check\", \"no-els\"]
  |                      ^^^^^^^^
  |
  = help: Did you mean `no-else`?
"
    );
}

// K01
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
  = help: `gatewright help settings` shows each key and its form.
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

// K02
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

// K08
#[test]
fn two_templates_may_not_write_one_file() {
    let text = wrong(
        "[[template]]\nsource = \"a\"\ndestination = \"/x\"\n[[template]]\nsource = \"b\"\ndestination = \"/x\"\nkind = \"map\"\n",
    );
    assert!(text.contains("Template 1 already writes `/x`."), "{text}");
    assert!(text.contains("gatewright.toml:6:15"), "{text}");
}

// K01
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

// K03
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

// K01
#[test]
fn a_repeated_key_and_an_empty_file_are_refused() {
    let text = wrong("[apply]\nsettle = \"1s\"\nsettle = \"2s\"\n");
    assert!(text.contains("gatewright.toml:3:1"), "{text}");
    assert!(text.contains("duplicate key"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    for empty in ["", "\n \n", "# only\n  # comments"] {
        std::fs::write(&path, empty).unwrap();
        let sources = Sources {
            file: Some(&path),
            environment: &Environment::new(),
        };
        let refused = sources.load(|_| {}).unwrap_err();
        assert_eq!(refused[0].code, "empty", "{empty:?}");
    }
}

// K02
#[test]
fn hosts_without_a_listener_and_what_is_no_host_are_refused() {
    let text = wrong("[status]\nhosts = [\"a.example\"]\n");
    assert!(
        text.contains("`status.hosts` is set and `status.listen` is not."),
        "{text}"
    );
    let text = wrong("[status]\nlisten = \"[::1]:80\"\nhosts = [\"a\", \"b:80\"]\n");
    assert!(text.contains("`b:80` is no host name."), "{text}");
    assert!(text.contains("gatewright.toml:3:15"), "{text}");
    let text = wrong("[status]\nlisten = \"9877\"\n");
    assert!(
        text.contains("`9877` is no address to listen on."),
        "{text}"
    );
    assert!(text.contains("gatewright.toml:2:10"), "{text}");
}

// K04
#[test]
fn nothing_in_the_settings_is_expanded() {
    let text = "[consul]\ndatacenter = \"${HOME}$(id)`id`\"\n[haproxy]\nbinary = \"$HOME/haproxy\"\n\
                [parameters]\na = \"{{env \\\"HOME\\\"}} %h ~\"\n";
    let settings = parse(Path::new("gatewright.toml"), text).unwrap();
    assert_eq!(
        settings.consul.datacenter.as_deref(),
        Some("${HOME}$(id)`id`")
    );
    assert_eq!(settings.haproxy.binary, Path::new("$HOME/haproxy"));
    assert_eq!(
        settings.parameters["a"].as_str(),
        Some("{{env \"HOME\"}} %h ~")
    );
}

// K05
#[test]
fn a_command_is_a_list_of_words() {
    let text = wrong("[haproxy]\ncommand = \"systemctl reload haproxy\"\n");
    assert!(text.contains("error[wrong-type]"), "{text}");
    assert!(text.contains("gatewright.toml:2:11"), "{text}");
    let text = wrong("[haproxy]\ncommand = [\"\", \"x\"]\n");
    assert!(
        text.contains("The first word of `haproxy.command` is empty."),
        "{text}"
    );
}

// K06
#[test]
fn every_path_is_absolute_after_the_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    let text = "[consul]\ntoken_file = \"t\"\n[consul.tls]\nca_file = \"t\"\nca_path = \"t\"\nclient_cert = \"t\"\nclient_key = \"t\"\n\
                [templates]\npartials = \"t\"\nfiles = \"t\"\n\
                [haproxy]\nbinary = \"./t\"\nmaster_socket = \"t\"\nstats_socket = \"t\"\npid_file = \"t\"\nworking_directory = \"t\"\nconfig_files = [\"t\"]\n\
                [state]\ndirectory = \"t\"\n[status]\nsocket = \"t\"\n\
                [[template]]\nsource = \"t\"\ndestination = \"d//./t\"\n";
    std::fs::write(&path, text).unwrap();
    let sources = Sources {
        file: Some(&path),
        environment: &Environment::new(),
    };
    let settings = sources.load(|_| {}).unwrap();
    // Whatever path is in it is shown with quotes.
    let shown = format!("{settings:?}");
    let relative = ["\"t\"", "\"./t\"", "\"d/"];
    assert!(!relative.iter().any(|path| shown.contains(path)), "{shown}");
    assert_eq!(
        shown.matches("/t\"").count(),
        text.matches("t\"").count(),
        "{shown}"
    );
    assert_eq!(settings.template[0].destination, folder.path().join("d/t"));
}

// K07
#[test]
fn every_limit_has_a_range() {
    // Each key with a number or a time in the example, with values that nobody can mean.
    let mut table = "";
    let mut seen = 0;
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("#: ").unwrap_or(line);
        if line.starts_with('[') {
            table = line;
            continue;
        }
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        let is_time = value.trim_matches('"').parse::<types::Time>().is_ok();
        let is_size = !is_time && value.trim_matches('"').parse::<types::Size>().is_ok();
        let worst: &[&str] = match value.parse::<i64>() {
            Ok(_) => &["-1", "18446744073709551616", "1e400"],
            Err(_) if is_time => &["\"-1s\"", "\"367d\"", "\"99999999999999999999s\"", "0"],
            Err(_) if is_size => &[
                "\"-1KiB\"",
                "\"0\"",
                "\"17GiB\"",
                "\"99999999999999999999GiB\"",
            ],
            Err(_) => continue,
        };
        if table == "[parameters]" || key == "mode" {
            continue;
        }
        seen += 1;
        for value in worst {
            let text = wrong(&format!("{table}\n{key} = {value}\n"));
            assert!(
                text.contains("gatewright.toml:2:"),
                "{table} {key} = {value}: {text:?}"
            );
        }
    }
    assert!(seen >= 20, "{seen}");
    for (text, range) in [
        ("[apply]\naudit_interval = \"1ms\"", "Choose from 1s to 1d."),
        ("[consul]\nmax_stale = \"2d\"", "Choose from 0s to 1d."),
        ("[state]\nkeep = 1001", "Choose from 1 to 1000."),
        ("[haproxy]\nmax_old_workers = 0", "Choose from 1 to 1000."),
        ("[consul]\nmax_answer = \"2GiB\"", "Choose from 1 to 1GiB."),
        ("[haproxy.drain]\ntime = \"25h\"", "Choose from 0s to 1d."),
        (
            "[haproxy.drain]\nbackends = { a = \"25h\" }",
            "Choose from 0s to 1d.",
        ),
    ] {
        let told = wrong(text);
        assert!(told.contains(range), "{text}: {told}");
        assert!(told.contains("gatewright.toml:2:"), "{text}: {told}");
    }
}

// K08
#[test]
fn two_ways_to_one_file_are_one_destination() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    std::fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
    for other in ["real/../real/h.cfg", "link/h.cfg"] {
        let text = format!(
            "[[template]]\nsource = \"a\"\ndestination = \"real/h.cfg\"\n[[template]]\nsource = \"b\"\ndestination = \"{other}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            file: Some(&path),
            environment: &Environment::new(),
        };
        let refused = sources.load(|_| {}).unwrap_err();
        let told = render(&refused[0], false);
        assert!(told.contains("Template 1 already writes"), "{told}");
        assert!(told.contains("gatewright.toml:6:15"), "{told}");
    }
}

#[test]
fn the_status_socket_is_found_in_settings_that_are_wrong_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatewright.toml");
    let found = |text: &str| {
        std::fs::write(&path, text).unwrap();
        status_socket_of(&path, &Environment::new()).unwrap()
    };
    let here = folder.path();
    assert_eq!(
        found("[apply\nx=\n[status]\n# socket = \"no\"\n socket = \"s.sock\" # here\n"),
        here.join("s.sock")
    );
    assert_eq!(
        found("[state]\ndirectory = '/var/x'\nkeep = nonsense\n"),
        Path::new("/var/x/status.sock")
    );
    assert_eq!(
        found("[other]\nsocket = \"s.sock\"\n"),
        Settings::default().status_socket(&Environment::new())
    );
    assert_eq!(
        status_socket_of(&here.join("missing"), &Environment::new()),
        None
    );
}

// P7
#[test]
fn a_misspelt_secret_is_not_shown() {
    for text in [
        "[consul]\ntoken = \"canary",
        "[consul]\ntokn = \"canary\"\n",
        "[consul]\ntoken = [\"canary\"]\n",
        "[consul]\ntoken = 4711\n",
        "[consul]\nhttp_auth = canary\n",
        "[consul]\ntoken = \"canary\" x\n",
        "[consul]\npassword = \"canary\"\n",
    ] {
        let told = wrong(text);
        assert!(told.contains("gatewright.toml:2:"), "{told}");
        assert!(!told.contains("canary") && !told.contains("4711"), "{told}");
    }
}

// D12
#[test]
fn a_destination_that_templates_read_is_refused() {
    let template = |source: &str, destination: &str| {
        format!("[[template]]\nsource = \"{source}\"\ndestination = \"{destination}\"\n")
    };
    let itself = wrong(&template("/t/a.hbs", "/t/a.hbs"));
    assert!(
        itself.contains("The destination is a template itself."),
        "{itself}"
    );
    let other = wrong(&format!(
        "{}{}",
        template("/t/a.hbs", "/t/b.hbs"),
        template("/t/b.hbs", "/t/c")
    ));
    assert!(
        other.contains("The destination is a template itself."),
        "{other}"
    );
    let partial = wrong(&format!(
        "{}[templates]\npartials = \"/p\"\n",
        template("/t/a.hbs", "/p/x.hbs")
    ));
    assert!(partial.contains("would be a partial"), "{partial}");
}

// C05
#[test]
fn networks_are_read() {
    let told = wrong("[catalog]\nallow_addresses = [\"10.0.0.0/33\"]\n");
    assert!(told.contains("`10.0.0.0/33` is no network."), "{told}");
}

// L02
#[test]
fn values_of_variables_are_not_shown() {
    for list in [
        "[\"ADMIN=pa55word\", \"LB-ADDR=x\"]",
        "[\"ADMIN=pa55]\", \"ADMIN=pa55word\"]",
        "[\n  \"A=1\",\n  \"DSN=postgres://u:pa55word@h\",\n  \"DSN=pa55\"\n]",
        "[\"ADMIN=pa55word\", 7]",
        "[\"ADMIN=pa55word\",",
        "{ ADMIN = \"pa55word\" }",
        "\"ADMIN=pa55word\"",
        "[\"ADMIN\\u0000=pa55word\"]",
    ] {
        let told = wrong(&format!("[haproxy]\nenvironment = {list}\n"));
        assert!(!told.is_empty(), "{list}");
        assert!(!told.contains("pa55"), "{told}");
    }
}

// L07
#[test]
fn a_user_without_a_home_has_no_state_where_everybody_writes() {
    let of = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        of_user(&pairs.collect())
    };
    for pairs in [
        &[][..],
        &[("HOME", "")],
        &[("HOME", "home")],
        &[("HOME", "/tmp")],
        &[("HOME", "/tmp/me")],
        &[("HOME", "/var/tmp/me"), ("XDG_STATE_HOME", "/dev/shm")],
    ] {
        assert_eq!(of(pairs), None, "{pairs:?}");
    }
    let home = Some("/home/me/.local/state/gatewright".into());
    assert_eq!(of(&[("HOME", "/home/me")]), home);
    assert_eq!(
        of(&[("HOME", "/home/me"), ("XDG_STATE_HOME", "/tmp/x")]),
        home
    );
    let own = Some("/home/me/state/gatewright".into());
    assert_eq!(
        of(&[("HOME", "/tmp"), ("XDG_STATE_HOME", "/home/me/state")]),
        own
    );
}

#[test]
fn a_state_directory_is_spelt_as_configurations_spell_its_files() {
    let mut settings = Settings::default();
    settings.state.directory = Some("/a//b/./c/".into());
    let directory = settings.state_directory(&Environment::default());
    assert_eq!(directory.as_os_str(), "/a/b/c");
}

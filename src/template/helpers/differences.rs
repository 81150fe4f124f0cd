//! What a person who comes from consul-template finds under another name, done otherwise, or not at
//! all, and why. What is not here works under its own name with its own meaning; a test holds this
//! and the table of helpers to the names that consul-template 0.42 knows.

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// How templates are written.
    Syntax,
    /// Fields of what the catalog gives.
    Fields,
    /// Functions.
    Functions,
    /// What happens with values and answers.
    Meaning,
    /// How the program is run.
    Modes,
    /// The command line and the settings.
    Settings,
    /// Signals and exit codes.
    Process,
}

impl Part {
    /// All of them, in order.
    pub const ALL: [Part; 7] = [
        Part::Syntax,
        Part::Fields,
        Part::Functions,
        Part::Meaning,
        Part::Modes,
        Part::Settings,
        Part::Process,
    ];

    /// The heading in the reference.
    pub fn title(self) -> &'static str {
        match self {
            Part::Syntax => "Syntax",
            Part::Fields => "Fields",
            Part::Functions => "Functions",
            Part::Meaning => "Values and answers",
            Part::Modes => "Ways to run it",
            Part::Settings => "Command line and settings",
            Part::Process => "Signals and exit codes",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// What it is about.
    pub part: Part,
    /// What consul-template has.
    pub theirs: &'static str,
    /// The functions that it is about, by name; a `*` at the end stands for the rest of a name.
    pub names: &'static [&'static str],
    /// What there is here.
    pub here: &'static str,
    /// Why; empty where only the word is another one.
    pub why: &'static str,
}

const fn row(
    part: Part,
    theirs: &'static str,
    here: &'static str,
    why: &'static str,
) -> Difference {
    Difference {
        part,
        theirs,
        names: &[],
        here,
        why,
    }
}

const fn functions(
    names: &'static [&'static str],
    theirs: &'static str,
    here: &'static str,
    why: &'static str,
) -> Difference {
    Difference {
        names,
        ..row(Part::Functions, theirs, here, why)
    }
}

/// What to say to somebody who calls a function of consul-template that is not here.
pub fn absent_function(name: &str) -> Option<String> {
    let is_meant = |known: &&'static str| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    };
    let one = DIFFERENCES
        .iter()
        .find(|one| one.names.iter().any(is_meant))?;
    let here = match one.here {
        "—" => "It is not here.".to_owned(),
        here => format!("Here there is {here}."),
    };
    Some(match one.why {
        "" => format!("{here} `gatewright helpers --all` tells of the language."),
        why => format!("{here} {why}."),
    })
}

/// What to say of a field that consul-template has and that is left out here.
pub fn absent_field(name: &str) -> Option<&'static str> {
    match name {
        "Checks" => Some(
            "The checks of an instance are left out: their output may change at any time, and each change would be one of the configuration. Status is what Consul makes of them all, and (service \"…\" status=\"any\") gives instances of every state.",
        ),
        "CreateIndex" | "ModifyIndex" | "LockIndex" | "Flags" | "Session" => Some(
            "A key has Key, Path and Value. Indexes, flags and sessions are left out: they change without the value, and each change would be one of the configuration.",
        ),
        "EnableTagOverride" => Some(
            "A service of a node has ID, Service, Name, Tags, Meta, Address and Port; how Consul treats its tags is left out.",
        ),
        _ => None,
    }
}

const STABLE: &str = "Each change of them would be a change of the configuration";
const CONSUL_ONLY: &str = "Only Consul is read";

/// All of them.
#[rustfmt::skip] // One difference, one line.
pub static DIFFERENCES: &[Difference] = &[
    // Syntax.
    row(Part::Syntax, r#"`{{range service "web"}}{{.Address}}{{end}}`"#, r#"`{{#each (service "web")}}{{Address}}{{/each}}`"#, "Templates are Handlebars: they show what they make, and a value is escaped by where it stands"),
    row(Part::Syntax, r#"`{{range $i, $s := service "web"}}{{$s.ID}}{{end}}`"#, r#"`{{#each (service "web") as |s i|}}{{s.ID}}{{/each}}`"#, ""),
    row(Part::Syntax, r#"`{{range …}}…{{else}}…{{end}}`, `{{if}}…{{else if}}…{{end}}`"#, r#"`{{#each …}}…{{else}}…{{/each}}`, `{{#if}}…{{else if}}…{{/if}}`"#, ""),
    row(Part::Syntax, r#"`{{with node "n"}}…{{end}}`"#, r#"`{{#with (node "n")}}…{{/with}}`"#, ""),
    row(Part::Syntax, r#"`{{key "a" | trimSpace | toUpper}}`"#, r#"`{{toUpper (trimSpace (key "a"))}}`"#, "Handlebars has no pipes; the piped value is the last parameter"),
    row(Part::Syntax, r#"`{{$x := key "a"}}…{{$x}}`"#, r#"`{{#let (key "a") as |x|}}…{{x}}…{{/let}}`"#, "A name holds within its block and is never changed"),
    functions(&["define", "template", "block", "executeTemplate"], r#"`{{define "t"}}…{{end}}`, `{{template "t" .}}`, `executeTemplate`"#, r#"`{{#*inline "t"}}…{{/inline}}`, `{{> t}}`, `{{> t this a=1}}`, or `t.hbs` in templates.partials"#, "The name of a partial is written out, so that a cycle is found when it is loaded"),
    functions(&["break", "continue"], "`{{break}}`, `{{continue}}`", "`where`, `limit`, `uniq`, `first`, `{{#if}}`", "Handlebars has none"),
    row(Part::Syntax, "`{{- x -}}`", "`{{~ x ~}}`", "Mostly not needed: a line with nothing but a block tag leaves no line"),
    row(Part::Syntax, "`{{/* … */}}`", "`{{!-- … --}}`", ""),
    row(Part::Syntax, "left_delimiter, right_delimiter", "`\\{{` or `{{{{raw}}}}…{{{{/raw}}}}` for braces", "HAProxy's own syntax has no double braces"),

    // Fields.
    row(Part::Fields, "`.Checks` of an instance", "`Status`", "Their output may change at any time, and each change would be one of the configuration"),
    row(Part::Fields, "`.CreateIndex`, `.ModifyIndex`, `.LockIndex`, `.Flags`, `.Session` of a key", "`Key`, `Path`, `Value`", STABLE),
    row(Part::Fields, "`.EnableTagOverride` of a node's service", "—", "It says how Consul treats tags, nothing about the service"),
    row(Part::Fields, r#"`.Tags.Contains "a"`, `.Tags.ContainsAll`…"#, r#"`(contains "a" Tags)`, `(containsAll … Tags)`"#, "Values have fields and no methods"),
    row(Part::Fields, "`.Weights.Passing` as Consul has it", "from 0 to 256", "HAProxy takes no others"),

    // Functions.
    functions(&["range", "end"], "`range`, `end`", "`{{#each}}`, `{{/each}}`", ""),
    functions(&["else"], "`else`", "`{{else}}`", ""),
    functions(&["scratch", "scratch.Key", "scratch.Get", "scratch.Set", "scratch.SetX", "scratch.MapSet", "scratch.MapSetX", "scratch.MapValues"], "`scratch`", "`let` for a value, `where`, `uniq`, `byTag` and `mergeMap` for what is collected", "Parts whose data stays the same are not rendered again, so that no part may depend on what another one has left behind"),
    functions(&["partitions", "peerings", "exportedServices", "importedServices"], "`partitions`, `peerings`, `exportedServices`, `importedServices`", "partition= of every query; names in [parameters]", "Lists of Consul Enterprise and of peerings are not watched"),
    functions(&["caRoots", "caLeaf"], "`caRoots`, `caLeaf`", "—", "HAProxy's certificates come from files; Connect's are not fetched"),
    functions(&["secret", "secrets", "pkiCert"], "`secret`, `secrets`, `pkiCert`", "`file`, of what Vault's agent writes", "Only Consul is read: a token for Vault would make a gateway worth an attack"),
    functions(&["nomadService", "nomadServices", "nomadVar", "nomadVarList", "nomadVarListSafe", "nomadVarExists"], "`nomadService`, `nomadVar`…", "—", CONSUL_ONLY),
    functions(&["timestamp"], "`timestamp`", "—", "A file with the time in it is never the same"),
    functions(&["plugin", "writeToFile"], "`plugin`, `writeToFile`", "further [[template]] entries for further files", "Rendering only reads: it is tried, thrown away and done again at any time"),
    functions(&["toTOML"], "`toTOML`", "`toJSON`, `toYAML`", "HAProxy reads none of them"),
    functions(&["spew_dump", "spew_sdump", "spew_printf", "spew_sprintf"], "`spew_dump`…", "`toJSONPretty`, and `gatewright render --explain`", ""),
    functions(&["sprig_*"], "`sprig_…`", "`default`, `where`, `sortBy`, `uniq`, `first`, `last`, `limit`, `print`, `printf` and the others here", "A hundred functions of which a configuration needs few"),
    functions(&["html", "js", "urlquery", "println", "call"], "`html`, `js`, `urlquery`, `println`, `call` of Go", "—", "Values are escaped by where they stand; nothing here is a function"),
    functions(&[], "`node` without a name", "the name must be given", "The agent's own node is another one after a fail-over to another agent"),
    functions(&[], "`peer=` and `sameness-group=` in the name of a service", "—", "Peerings are not read yet; it is an error with these words"),
    functions(&[], "`sockaddr` with pipes and other functions of go-sockaddr", "`GetPrivateIP`, `GetPublicIP`, `GetInterfaceIP`, and these with an s", "Other addresses are written in [parameters]"),
    functions(&[], "`byPort` by number", "by digits: 10000 before 80", "Names of fields are texts"),
    functions(&[], "`len` and `slice` of a text count bytes", "letters", "A letter cut in two is no text"),
    functions(&[], "`printf` writes `%!d(string=x)` for what does not fit", "an error with the template's line", "It would stand in HAProxy's configuration"),
    functions(&[], "`regexMatch` and its kin with Unicode classes", "ASCII classes", "The tables would weigh more than a tenth of the program"),
    functions(&[], "numbers with a fraction: `1.5e+06`", "`1500000`", "HAProxy does not read exponents"),

    // Meaning.
    row(Part::Meaning, "a value is written as it is", "escaped by where it stands; `{{raw x}}` where templates.allow_raw is true", "A name, tag or key must not add a word or a line to the configuration"),
    row(Part::Meaning, "a missing field prints `<no value>`", "an error with a \"did you mean\"; `default` and `index` for what may be missing", "error_on_missing_key cannot be turned off"),
    row(Part::Meaning, r#"a computed name such as `printf "%s.web" .` is read as the short form"#, "a computed name is a name; tag=, dc=, status= and the other pairs take computed values", "A name from the catalog must not choose another datacenter or tag"),
    row(Part::Meaning, r#"`ls "app"` and `tree "app"` read `apple` too"#, "`app` is a folder", ""),
    row(Part::Meaning, "an instance is shown as it is", "one with an unfit address, port or name is left out and named in the status", "One bad registration must not stop the others"),
    row(Part::Meaning, "an empty answer empties the backend", "what vanishes in mass is held, see [guard] and `gatewright release`", "Consul says `[]` also when the token has lost its rights"),
    row(Part::Meaning, "env reads every variable", "those that templates.environment names", "The environment holds Consul's token"),
    row(Part::Meaning, "file reads every path; sandbox_path, function_denylist", "what is below templates.files; allow_raw, environment", "Nothing is allowed unless it is named"),

    // Modes.
    row(Part::Modes, "the daemon", "`gatewright run`", ""),
    row(Part::Modes, "`-once`", "`gatewright render -o FILE`; exit code 6 names the keys that are missing", "It waits for nothing and never for ever"),
    row(Part::Modes, "`-dry`", "`gatewright render`, `render --diff`", "It prints also what is there already"),
    row(Part::Modes, "`-parse-only`", "`gatewright check` with recorded catalogs and `haproxy -c`; `gatewright capture` records them", "That a template can be read says little about what it makes"),
    row(Part::Modes, "exec mode", r#"haproxy.mode = "supervise""#, "The child is always HAProxy, told by its master, and outlives no change"),
    row(Part::Modes, "`-dedup`", "—", "Each sidecar reads for itself; Consul's agent answers many alike"),
    row(Part::Modes, "systemd notify", "the same, also RELOADING, WATCHDOG and STOPPING", ""),
    row(Part::Modes, "embedding as a library; Windows service", "—", "It keeps the HAProxy of a Unix machine"),

    // Settings.
    row(Part::Settings, "`-config` (HCL or JSON, files and folders)", "`-c FILE` (TOML, one file), GATEWRIGHT_CONFIG", "One file says all; an unknown key is an error in both"),
    row(Part::Settings, "`-template in:out:command`", "`-t SOURCE[:DESTINATION]`, [[template]]", "All files of a set are validated, swapped in and told to HAProxy as one, so that no file has a command of its own"),
    row(Part::Settings, "`-consul-addr`, consul.address", "`--consul-addr`, consul.addresses", "Several agents are asked in turn when one fails"),
    row(Part::Settings, "`-consul-token`", "consul.token, `--token-file`, CONSUL_HTTP_TOKEN and CONSUL_TOKEN with their _FILE forms", "A token on the command line can be read by everybody on the machine"),
    row(Part::Settings, "`-consul-auth`, consul.auth", "consul.http_auth, CONSUL_HTTP_AUTH", "The same"),
    row(Part::Settings, "`-consul-retry…`, retry", "—", "Consul is asked for ever, with jitter; there is nothing to give up for"),
    row(Part::Settings, "`-consul-ssl`, `-ssl-…`, consul.ssl", "https:// in the address, [consul.tls], CONSUL_CACERT and its kin", ""),
    row(Part::Settings, "`-consul-transport-…`", "consul.connect_timeout, consul.body_timeout", "The rest follows from blocking queries"),
    row(Part::Settings, "consul.namespace", "consul.namespace, consul.partition, CONSUL_NAMESPACE, CONSUL_PARTITION", ""),
    row(Part::Settings, "`-max-stale` (2s, stale reads on)", "consul.stale = false, consul.max_stale", "A stale server may answer with nothing after its start"),
    row(Part::Settings, "block_query_wait", "consul.wait", ""),
    row(Part::Settings, "err_on_failed_lookup", "`gatewright render` and `check` end with code 6 or 4", ""),
    row(Part::Settings, "`-wait min:max`, wait{}, template.wait{}", "apply.settle, apply.max_settle, apply.reload_interval", "One rhythm for all files of one HAProxy; commands to the worker do not wait"),
    row(Part::Settings, "template.source, template.contents", "[[template]] source, a file", "Files are watched and named in messages"),
    row(Part::Settings, "template.destination, create_dest_dirs", "destination; its folder must exist", "A folder that was mistyped would hold a configuration that nobody reads"),
    row(Part::Settings, "template.perms, user, group", "mode; the owner of the file that is there is kept", "0600 for a new one: keys of the catalog may be secrets"),
    row(Part::Settings, "template.backup", "state.keep sets in the state directory", "The last good set is put back by itself"),
    row(Part::Settings, "template.command, command_timeout, exec{}", "haproxy.mode, haproxy.command, haproxy.command_timeout", "Told is not done: a change counts when the worker reports it"),
    row(Part::Settings, "template.error_fatal, `-template-error-fatal`", "never fatal after the start", "The last good set stays in force, and the status says what is wrong"),
    row(Part::Settings, "error_on_missing_key", "always", ""),
    row(Part::Settings, "`-exec-splay`, `-exec-kill-timeout`, kill_signal, env{}", "haproxy.stop_timeout; HAProxy gets a clean environment", "HAProxy ends gracefully by SIGUSR1"),
    row(Part::Settings, "`-log-level`, CONSUL_TEMPLATE_LOG", "`--log-level`, `--log-format`, [log]", "info by default"),
    row(Part::Settings, "`-log-file`, `-syslog`", "standard error; JSON where it is no terminal", "journald and containers keep it"),
    row(Part::Settings, "`-pid-file`", "`lock` in the state directory holds the process's number", "It is a lock as well, so that it is never stale"),
    row(Part::Settings, "`-reload-signal`, `-kill-signal`", "SIGHUP; SIGTERM and SIGINT", "The signals that everybody sends"),
    row(Part::Settings, "CT_LOCAL_CONFIG; `-vault-…`; nomad{}; deduplicate{}", "—", CONSUL_ONLY),

    // Process.
    row(Part::Process, "SIGINT ends with code 12, SIGTERM is passed on or lost", "both end with code 0", "systemd and containers send SIGTERM"),
    row(Part::Process, "SIGHUP stops the child and starts over; wrong settings end it with code 15", "settings and templates are read again; wrong ones leave the former in force", "A reload must not stop HAProxy"),
    row(Part::Process, "other signals are passed to the child", "SIGUSR1 and SIGUSR2 are ignored with a warning", "HAProxy's master takes signals itself"),
    row(Part::Process, "codes 11 to 15, and the child's own", "0 to 10, see `gatewright --help`", "Each class of failure has its own"),
];

#[cfg(test)]
mod tests {
    use super::super::{TABLE, find};
    use super::*;

    /// Every name that a template of consul-template 0.42 may use: its functions, the methods of
    /// `scratch`, and what Go's templates have themselves.
    const THEIRS: &str = "
        datacenters exportedServices importedServices file key keyExists keyOrDefault ls safeLs node nodes
        partitions peerings secret secrets service connect services tree safeTree caRoots caLeaf pkiCert
        nomadServices nomadService nomadVarList nomadVarListSafe nomadVar nomadVarExists
        scratch scratch.Key scratch.Get scratch.Set scratch.SetX scratch.MapSet scratch.MapSetX scratch.MapValues
        base64Decode base64Encode base64URLDecode base64URLEncode byKey byPort byTag contains containsAll
        containsAny containsNone containsNotAll env mustEnv envOrDefault executeTemplate explode explodeMap
        mergeMap mergeMapWithOverride in indent loop join trim trimPrefix trimSuffix trimSpace parseBool
        parseFloat parseInt parseJSON parseUint parseYAML plugin regexReplaceAll regexMatch replaceAll
        sha256Hex md5sum hmacSHA256Hex timestamp toLower toJSON toJSONPretty toUnescapedJSON
        toUnescapedJSONPretty toTitle toTOML toUpper toYAML split splitToMap byMeta sockaddr writeToFile
        add subtract multiply divide modulo minimum maximum spew_dump spew_printf spew_sdump spew_sprintf
        sprig_*
        and call html index slice js len not or print printf println urlquery eq ge gt le lt ne
        if else end range break continue define template block with
    ";

    #[test]
    fn every_name_of_consul_template_works_or_is_in_the_table_of_differences() {
        let theirs: Vec<&str> = THEIRS.split_whitespace().collect();
        let told: Vec<&str> = DIFFERENCES
            .iter()
            .flat_map(|one| one.names)
            .copied()
            .collect();
        for name in &theirs {
            let here = find(name).is_some();
            let different = told.contains(name);
            assert!(here || different, "{name} is nowhere");
            assert!(
                !(here && different),
                "{name} is both here and told to be missing"
            );
        }
        for name in told {
            assert!(theirs.contains(&name), "{name} is not consul-template's");
        }
        assert!(TABLE.len() > 100);
    }

    #[test]
    fn who_calls_what_is_not_here_is_told_what_is() {
        assert_eq!(
            absent_function("timestamp").unwrap(),
            "It is not here. A file with the time in it is never the same."
        );
        assert_eq!(
            absent_function("toTOML").unwrap(),
            "Here there is `toJSON`, `toYAML`. HAProxy reads none of them."
        );
        assert!(absent_function("sprig_upper").is_some());
        assert_eq!(absent_function("toUper"), None);
    }

    #[test]
    fn differences_are_told_in_order_and_in_words() {
        let parts: Vec<Part> = DIFFERENCES
            .iter()
            .filter(|one| one.names.is_empty())
            .map(|one| one.part)
            .collect();
        assert!(parts.is_sorted());
        for one in DIFFERENCES {
            assert!(!one.theirs.is_empty() && !one.here.is_empty(), "{one:?}");
            assert!(!one.why.ends_with('.'), "{one:?}");
        }
    }
}

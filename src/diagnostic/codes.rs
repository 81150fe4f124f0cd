//! Every code of a diagnostic, what it means and how it is mended: for `gatewright help codes`, and as the rules
//! of SARIF. A test holds the table to the source.

/// A code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word in brackets.
    pub code: &'static str,
    /// What it means, as a sentence.
    pub what: &'static str,
    /// How it is mended, as a sentence.
    pub help: &'static str,
}

/// Every code, apart from those of lints.
#[rustfmt::skip] // One code, one line.
pub static CODES: &[Code] = &[
    // Templates.
    Code { code: "syntax", what: "A tag, or a file, cannot be read.", help: "Mend it at the place shown." },
    Code { code: "unended-tag", what: "A tag, comment or text inside a tag begins and never ends.", help: "Close it." },
    Code { code: "unclosed-block", what: "A block is opened and never closed.", help: "Add its closing tag." },
    Code { code: "mismatched-block", what: "A block is closed by the name of another.", help: "Close the inner one first." },
    Code { code: "stray-tag", what: "A closing tag or an else has no block.", help: "Take it out, or open the block." },
    Code { code: "nested-too-deep", what: "Too many blocks stand inside each other.", help: "Move the inner ones into a partial." },
    Code { code: "go-template", what: "A field is written as in templates of consul-template.", help: "Write it without the dot, or use `gatewright migrate`." },
    Code { code: "not-converted", what: "A part of a template of consul-template has no counterpart.", help: "Write it anew at the comment that marks it." },
    Code { code: "migrate", what: "A converted template does not load.", help: "Report it with the template." },
    Code { code: "delimiter", what: "A delimiter of a Go template cannot be used.", help: "Name both, each as the template has it." },
    Code { code: "control-character", what: "A template or a rendered file holds a control character.", help: "Take it out, or mend the value it came of." },
    Code { code: "unescaped-output", what: "`{{{…}}}` would write a value without escaping.", help: "Write {{…}}, or {{raw …}} where a value may add words and lines." },
    Code { code: "raw-not-allowed", what: "`raw` is used and the settings do not allow it.", help: "Write {{…}}, or set templates.allow_raw." },
    Code { code: "unknown-helper", what: "There is no helper of this name.", help: "`gatewright help templates` lists them all." },
    Code { code: "unknown-partial", what: "There is no partial of this name.", help: "Put it into the folder of partials, or mend the name." },
    Code { code: "unknown-decorator", what: "There is no decorator of this name.", help: "Only {{#*inline}} exists." },
    Code { code: "unknown-pair", what: "A helper does not take this name=value.", help: "`gatewright help templates` shows what each takes." },
    Code { code: "unknown-template", what: "There is no shipped template of this name.", help: "Use one that is shipped." },
    Code { code: "parameters", what: "A helper gets too few or too many parameters.", help: "`gatewright help templates` shows how it is called." },
    Code { code: "not-a-block", what: "A helper is used as a block and is none.", help: "Use it inside {{#each}}, {{#if}} or {{#with}}." },
    Code { code: "needs-block", what: "A block is used as a value.", help: "Open it with # and close it." },
    Code { code: "computed-partial", what: "The name of a partial is computed.", help: "Write it out." },
    Code { code: "partial-cycle", what: "Partials include each other without end.", help: "Take one of the includes out." },
    Code { code: "circular", what: "A template reads a file that a template makes.", help: "Read another file." },
    Code { code: "query", what: "A query of the catalog is not well formed.", help: "See its helper in `gatewright help templates`." },
    Code { code: "never-there", what: "A condition asks for a field that is never there.", help: "Mend the name." },
    Code { code: "template-too-large", what: "A template is larger than allowed.", help: "Raise templates.max_template, or split it into partials." },
    // Rendering.
    Code { code: "missing-value", what: "A field is not there.", help: "Mend the name, or use {{default …}} where it may be missing." },
    Code { code: "missing-key", what: "A template demands a key that the catalog does not have, or settings lack a key.", help: "Write the key, or use keyOrDefault." },
    Code { code: "absent-field", what: "A template reads a field of consul-template that is not here on purpose.", help: "The message says what to use instead." },
    Code { code: "hostile-value", what: "A value cannot stand where it would land.", help: "Mend the value, or the place." },
    Code { code: "wrong-type", what: "A value is of another kind than the place wants.", help: "Use a value of the kind that is named." },
    Code { code: "helper", what: "A helper cannot do what it is asked.", help: "The message says what it wants." },
    Code { code: "output-too-large", what: "A rendered file grows too large.", help: "Raise templates.max_output if it is meant." },
    Code { code: "too-slow", what: "A rendering takes too long.", help: "Use {{servers}} for long lists, or raise templates.timeout." },
    Code { code: "too-many-rounds", what: "Each rendering asks for something new.", help: "Raise catalog.max_discovery_rounds if it is meant." },
    Code { code: "render", what: "The engine cannot go on.", help: "The message says why." },
    Code { code: "panic", what: "A helper failed in a way that it should not.", help: "Report it with the template and the catalog." },
    Code { code: "quarantined", what: "Something of the catalog is left out, because it is unfit.", help: "Mend it where it is registered." },
    Code { code: "computed-name", what: "A template asks for a service by a computed name that holds what ends a name in consul-template's short form, and no instance has that name.", help: "Write the parts where the name is used: {{service NAME tag=TAG dc=DATACENTER status=STATES}}." },
    Code { code: "route", what: "The tag of a route is used, and may not do what was meant.", help: "The message says what to write instead." },
    Code { code: "slots", what: "Slots are nearly all used.", help: "Give more with spare=." },
    // HAProxy and the gate.
    Code { code: "haproxy", what: "haproxy -c refuses the line or warns of it.", help: "HAProxy's configuration manual has the keyword." },
    Code { code: "missing-variable", what: "The configuration reads an environment variable that HAProxy does not have.", help: "Name it in haproxy.environment, or set it where HAProxy is started." },
    Code { code: "no-listener", what: "HAProxy finds nothing to listen on.", help: "Give a frontend a bind line." },
    Code { code: "empty-configuration", what: "The configuration is empty.", help: "Look at the template's conditions." },
    Code { code: "no-final-newline", what: "A file does not end in a line end.", help: "End it with one." },
    Code { code: "unreadable-line", what: "A line cannot be split into words.", help: "Close its quotes and escapes." },
    Code { code: "no-frontend", what: "HAProxy would listen nowhere.", help: "Give a frontend a bind line." },
    Code { code: "bind-lost", what: "An address that was listened on is not any more.", help: "Run `gatewright release --listener ADDRESS` if it is meant." },
    Code { code: "address-in-use", what: "A new address is taken by another program.", help: "Choose another, or end that program." },
    Code { code: "address-shared", what: "Two sections listen on one address, so that the kernel splits the connections between them.", help: "Give each an address of its own, or put the lines of both into one section." },
    Code { code: "too-few-servers", what: "A backend has fewer servers than it must have.", help: "Look at the health of its service, or lower gate.min_servers." },
    Code { code: "servers-lost", what: "More servers vanished than may at once.", help: "See `gatewright status`, and `gatewright release`." },
    Code { code: "last-servers-lost", what: "Too few servers would be left.", help: "See `gatewright status`, and `gatewright release`." },
    Code { code: "missing-backend", what: "A backend that must exist does not.", help: "Add it, or take it out of gate.min_servers." },
    Code { code: "duplicate-server", what: "Two servers of a backend have one name.", help: "Use {{serverName this}}." },
    Code { code: "duplicate-section", what: "Two sections of a kind have one name.", help: "Rename one." },
    Code { code: "unknown-backend", what: "A line names a backend that does not exist.", help: "Mend the name, or add the backend." },
    Code { code: "unknown-backend-in-map", what: "A map chooses a backend that does not exist.", help: "Mend the map's value, or add the backend." },
    Code { code: "map-without-value", what: "A line of a map has no value.", help: "Add the value." },
    Code { code: "section-not-allowed", what: "A section is not allowed here.", help: "Take it out." },
    Code { code: "more-findings", what: "There is more than is shown.", help: "Mend what is shown first." },
    Code { code: "validator", what: "haproxy -c could not be run.", help: "Name the program with --haproxy." },
    Code { code: "unexpected-output", what: "A rendered text is not the expected one.", help: "Run `gatewright check --update` if it is as it should be." },
    // Catalogs, settings, files.
    Code { code: "fixture", what: "A catalog file is wrong.", help: "`gatewright schema catalog` prints what it may hold." },
    Code { code: "snapshot", what: "A snapshot cannot be used.", help: "Record a catalog with `gatewright capture`." },
    Code { code: "catalog", what: "The catalog cannot be read.", help: "Look at Consul and at the token's rights." },
    Code { code: "unanswerable", what: "Serf has no answer to a query.", help: "Take it out of the template, or read Consul." },
    Code { code: "consul", what: "The settings of Consul are wrong.", help: "Correct the section [consul]." },
    Code { code: "secrets-left-out", what: "A recording has a word in place of secrets.", help: "Write values that may be shown where a template needs them." },
    Code { code: "unknown-lint", what: "A lint that is allowed does not exist.", help: "`gatewright help lints` lists them all." },
    Code { code: "unknown-key", what: "There is no such setting.", help: "`gatewright help settings` shows each key and its form." },
    Code { code: "wrong-value", what: "A setting has an impossible value.", help: "`gatewright help settings` shows each key and its form." },
    Code { code: "out-of-range", what: "A number is too small or too large.", help: "The message says which are taken." },
    Code { code: "conflict", what: "Settings contradict each other.", help: "Keep one of them." },
    Code { code: "nothing-to-render", what: "Neither flags nor settings name a service or a template.", help: "Name one, or a settings file." },
    Code { code: "foreign-settings", what: "A settings file was found that another user could have put there.", help: "Name it with -c if it is to be used." },
    Code { code: "empty", what: "The settings file is empty.", help: "Write settings, or leave --config out." },
    Code { code: "environment", what: "An environment variable has an impossible value.", help: "Correct or unset it." },
    Code { code: "readable-secret", what: "Others can read a file with a secret.", help: "chmod 600." },
    Code { code: "unreadable", what: "A file cannot be read.", help: "Name one that can." },
    Code { code: "unwritable", what: "A file cannot be written.", help: "Look at its folder's rights and room." },
    Code { code: "path", what: "A path is neither a template nor a catalog.", help: "Name .hbs and .json files, or folders of them." },
    Code { code: "topic", what: "There is no such command or topic.", help: "`gatewright help` lists them." },
    Code { code: "trace", what: "No such line is in the result.", help: "Name a line of it." },
    Code { code: "first-only", what: "Only the first of several results is written.", help: "Name one template." },
    Code { code: "watch", what: "Files cannot be watched.", help: "Raise the system's limit of inotify watches." },
    Code { code: "check", what: "The check itself failed.", help: "The message says why." },
    // The sidecar.
    Code { code: "core-dumps", what: "Core dumps of Gatewright, which may hold secrets, cannot be switched off.", help: "Set `ulimit -c 0` where it is started." },
    Code { code: "missing-root", what: "A set names a root (`chroot`) that is not there.", help: "Make the directory, or correct the line." },
    Code { code: "section-lost", what: "A value of the catalog or a file has lost sections of HAProxy's configuration.", help: "Look at the value. If it is meant, run `gatewright release --all`." },
    Code { code: "text-cut", what: "A value of the catalog or a file ends in the middle of a line.", help: "Look at the value. If it is meant, run `gatewright release --all`." },
    Code { code: "rejected", what: "HAProxy did not take a set.", help: "The last good set is back; the message says why." },
    Code { code: "not-restored", what: "HAProxy did not take a set, and the last good one is not back.", help: "Look at HAProxy's log." },
    Code { code: "state", what: "The state directory or a destination cannot be used.", help: "The message says why." },
    Code { code: "status-listen", what: "The status listener cannot be opened.", help: "Choose another address." },
    Code { code: "status-socket", what: "The status socket cannot be made.", help: "Choose another path." },
    Code { code: "not-running", what: "No sidecar answers.", help: "Start `gatewright run`." },
    Code { code: "not-held", what: "Nothing of that name is held.", help: "See `gatewright status`." },
    Code { code: "wrong-settings", what: "The settings cannot be read.", help: "Correct them." },
    Code { code: "runtime", what: "The program cannot start its loop.", help: "Look at the system's limits." },
    Code { code: "ended", what: "The sidecar cannot go on.", help: "Start it again." },
];

/// A code by its word.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The source without tests, lints and this table.
    fn source(folder: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.contains("tests") || ["lint", "codes.rs"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                source(&path, texts);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                texts.push(text.to_owned());
            }
        }
    }

    /// The text in quotes that stands first, if it has the form of a code.
    fn quoted(text: &str) -> Option<&str> {
        let text = text.trim_start().strip_prefix('"')?;
        let (word, _) = text.split_once('"')?;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        (!word.is_empty() && word.bytes().all(fits)).then_some(word)
    }

    /// The codes that follow one of these beginnings.
    fn behind(texts: &[String], beginnings: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for text in texts {
            for beginning in beginnings {
                let rests = text.match_indices(beginning);
                let rests = rests.map(|(at, _)| &text[at + beginning.len()..]);
                found.extend(rests.filter_map(quoted).map(str::to_owned));
            }
        }
        found
    }

    #[test]
    fn every_code_is_in_the_table_and_no_other() {
        let mut texts = Vec::new();
        source(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut texts,
        );
        let known: BTreeSet<String> = CODES.iter().map(|code| code.code.to_owned()).collect();
        assert_eq!(known.len(), CODES.len(), "no code stands twice");
        // Codes surely stand behind the first, and words that may be codes behind the others.
        let sure = ["Diagnostic::error(", "Diagnostic::warning(", "self.error("];
        let maybe = [
            "code: ",
            "CODE: &str = ",
            "LISTENER: &str = ",
            "LOST: &str = ",
            "CUT: &str = ",
            ".note(",
            "\"unknown field \", ",
            "\"unknown variant \", ",
            "\"missing field \", ",
            "true => ",
            "false => ",
        ];
        let mut used = behind(&texts, &sure);
        let missing: Vec<&String> = used.difference(&known).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        used.extend(behind(&texts, &maybe));
        // The second argument of `wrong`.
        for text in &texts {
            let calls = text.split(".wrong(").skip(1);
            let arguments = calls.filter_map(|call| call.split_once(','));
            let second = arguments.filter(|(first, _)| !first.contains('"'));
            used.extend(
                second
                    .filter_map(|(_, rest)| quoted(rest))
                    .map(str::to_owned),
            );
        }
        let unused: Vec<&String> = known.difference(&used).collect();
        assert!(unused.is_empty(), "not in the source: {unused:?}");
    }

    #[test]
    fn meanings_and_remedies_are_sentences() {
        for code in CODES {
            for text in [code.what, code.help] {
                assert!(text.ends_with('.') && !text.contains("\n"), "{}", code.code);
            }
        }
    }
}

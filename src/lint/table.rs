//! The table of all lints: the reference and what can be allowed.

/// One lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lint {
    /// The code, for ever.
    pub code: &'static str,
    /// What it is about.
    pub of: Of,
    /// What it tells, as a sentence.
    pub what: &'static str,
    /// What to write instead, as a sentence.
    pub help: &'static str,
    /// How it looks, where that can be shown in a few lines.
    pub example: Option<Example>,
}

/// What a lint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// A template.
    Template,
    /// Catalogs or sets of templates together.
    Several,
    /// A rendered configuration.
    Configuration,
    /// The comments that allow others.
    Comments,
}

/// What is told of, and the same as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// It is told of.
    pub bad: &'static str,
    /// It is not.
    pub good: &'static str,
}

/// A lint by its code.
pub fn find(code: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.code == code)
}

const fn example(bad: &'static str, good: &'static str) -> Option<Example> {
    Some(Example { bad, good })
}

/// Every lint.
#[rustfmt::skip] // One lint, a few lines.
pub static LINTS: &[Lint] = &[
    Lint { code: "unknown-field", of: Of::Template,
        what: "A field that an item of the catalog does not have, or a name that nothing gives a value.",
        help: "Name a field that there is, or a name that a block binds.",
        example: example("{{#each (service \"web\")}}{{Prot}}{{/each}}", "{{#each (service \"web\")}}{{Port}}{{/each}}") },
    Lint { code: "prints-list", of: Of::Template,
        what: "A list or an item with several fields where text is written.",
        help: "Go through it by {{#each}}, join it, or name one of its fields.",
        example: example("{{#each (service \"web\")}}{{Tags}}{{/each}}", "{{#each (service \"web\")}}{{join \",\" Tags}}{{/each}}") },
    Lint { code: "never-equal", of: Of::Template,
        what: "A number is compared with text, which is never equal.",
        help: "Write a number without quotes, and text with them.",
        example: example("{{#each (service \"web\")}}{{#if (eq Port \"80\")}}x{{/if}}{{/each}}", "{{#each (service \"web\")}}{{#if (eq Port 80)}}x{{/if}}{{/each}}") },
    Lint { code: "never-there", of: Of::Template,
        what: "A condition on a field that there is not, which is always the same.",
        help: "Name a field of what is gone through, or a name that a block binds.",
        example: example("{{#each (service \"web\")}}{{#if Tag}}x{{/if}}{{/each}}", "{{#each (service \"web\")}}{{#if Tags}}x{{/if}}{{/each}}") },
    Lint { code: "no-else", of: Of::Template,
        what: "A backend that has no server at all when the catalog shows no instance, and says nothing for that case: HAProxy answers 503 to everybody.",
        help: "Say what is to be then after {{else}}, by a `backup` server, or by `http-request return`.",
        example: example(
            "backend web\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{/each}}\n",
            "backend web\n{{#each (service \"web\")}}\n    server {{serverName this}} {{serverAddress this}}\n{{else}}\n    http-request return status 503 content-type text/plain string \"back soon\"\n{{/each}}\n") },
    Lint { code: "shadows-helper", of: Of::Template,
        what: "A block binds the name of a helper that wants no parameters, which is called instead.",
        help: "Choose another name.",
        example: example("{{#each (parameters \"names\") as |nodes|}}{{toUpper nodes}}{{/each}}", "{{#each (parameters \"names\") as |name|}}{{toUpper name}}{{/each}}") },
    Lint { code: "shadows-field", of: Of::Template,
        what: "A block binds a name that hides a field of an item.",
        help: "Choose another name, or write {{this.NAME}} for the field.",
        example: example("{{#each (service \"web\") as |Name|}}{{Name.Port}}{{/each}}", "{{#each (service \"web\") as |one|}}{{one.Port}}{{/each}}") },
    Lint { code: "unused-name", of: Of::Template,
        what: "A name that {{#let}} binds and nothing reads.",
        help: "Take the {{#let}} away, or read the name.",
        example: example("{{#let (len (service \"web\")) as |count|}}x{{/let}}", "{{#let (len (service \"web\")) as |count|}}{{count}}{{/let}}") },
    Lint { code: "quarantined", of: Of::Several,
        what: "An instance of a catalog that is left out, because its data is unfit.",
        help: "Correct the catalog, or allow such addresses in the settings.", example: None },
    Lint { code: "service-in-no-catalog", of: Of::Several,
        what: "A service that templates read and no catalog of the check has.",
        help: "Correct the name, or add the service to a catalog, be it empty.", example: None },
    Lint { code: "key-in-no-catalog", of: Of::Several,
        what: "A key that `key` waits for and no catalog of the check has.",
        help: "Write {{keyOrDefault …}} if it may be absent, or add it to a catalog.", example: None },
    Lint { code: "unused-partial", of: Of::Several,
        what: "A partial that no template includes.",
        help: "Include it, or take the file away.", example: None },
    Lint { code: "unused-inline", of: Of::Several,
        what: "A partial that is defined in a template and that nothing includes.",
        help: "Include it, or take it away.", example: None },
    Lint { code: "balance-needs-reload", of: Of::Configuration,
        what: "An algorithm with which HAProxy adds and removes no server while it runs.",
        help: "Write `roundrobin`, add `hash-type consistent`, or write the servers by the helper `slots`.",
        example: example("backend b\n balance source\n server a 10.0.0.1:80 check id 7\n", "backend b\n balance source\n hash-type consistent\n server a 10.0.0.1:80 check id 7\n") },
    Lint { code: "server-needs-reload", of: Of::Configuration,
        what: "Something on or about a server line with which HAProxy adds or removes no such server while it runs: an option, a name for an address, another line that names the server.",
        help: "Take it away, or write the servers by the helper `slots`.",
        example: example("backend b\n server a 10.0.0.1:80 check resolvers dns\n", "backend b\n server a 10.0.0.1:80 check\n") },
    Lint { code: "ring-without-id", of: Of::Configuration,
        what: "Consistent hashing or `random` with servers that have no id: when one goes, most clients change their server.",
        help: "Add `id {{serverId this}}` to the server line.",
        example: example("backend b\n balance random\n server a 10.0.0.1:80 check\n", "backend b\n balance random\n server a 10.0.0.1:80 check id 7\n") },
    Lint { code: "duplicate-address", of: Of::Configuration,
        what: "Two servers of a backend with the same address, port and options.",
        help: "Take one of them away.",
        example: example("backend b\n server a 10.0.0.1:80 check\n server b 10.0.0.1:80 check\n", "backend b\n server a 10.0.0.1:80 check\n server b 10.0.0.1:81 check\n") },
    Lint { code: "no-check", of: Of::Configuration,
        what: "Servers from the catalog without HAProxy's own check, which decides about what the guard holds.",
        help: "Add `check inter 2s fall 2 rise 2`.",
        example: example("backend b\n server a 10.0.0.1:80\n", "backend b\n server a 10.0.0.1:80 check\n") },
    Lint { code: "check-option-unused", of: Of::Configuration,
        what: "A backend says how to check, by `option httpchk` and its kin, and no server has `check`.",
        help: "Add `check` to the server lines.",
        example: example("backend b\n option httpchk\n server a 10.0.0.1:80\n", "backend b\n option httpchk\n server a 10.0.0.1:80 check\n") },
    Lint { code: "slow-check", of: Of::Configuration,
        what: "Checks that find a dead server after more than a minute.",
        help: "Lower `inter`, or add `fastinter 1s`.",
        example: example("backend b\n server a 10.0.0.1:80 check inter 30s\n", "backend b\n server a 10.0.0.1:80 check inter 30s fastinter 1s\n") },
    Lint { code: "server-template", of: Of::Configuration,
        what: "`server-template`, which finds servers by DNS and past the catalog.",
        help: "Write the servers from the catalog by {{#each (service …)}}.",
        example: example("backend b\n server-template web 5 web.service.consul:80 check\n", "backend b\n server a 10.0.0.1:80 check\n") },
    Lint { code: "server-state-file", of: Of::Configuration,
        what: "`load-server-state-from-file` with servers from the catalog, which gives one that has moved its former port.",
        help: "Take the line away.",
        example: example("backend b\n load-server-state-from-file local\n server a 10.0.0.1:80 check\n", "backend b\n server a 10.0.0.1:80 check\n") },
    Lint { code: "empty-condition", of: Of::Configuration,
        what: "`if` or `unless` with nothing behind it: never, or always.",
        help: "Write the condition, or take the word away.",
        example: example("frontend f\n http-request deny if\n", "frontend f\n http-request deny if { src 10.0.0.0/8 }\n") },
    Lint { code: "no-idle-close", of: Of::Configuration,
        what: "An HTTP frontend without `option idle-close-on-response`: a reload resets kept connections.",
        help: "Add the option to `defaults`.",
        example: example("frontend f\n mode http\n bind :80\n", "frontend f\n mode http\n option idle-close-on-response\n bind :80\n") },
    Lint { code: "keeps-root", of: Of::Configuration,
        what: "A port below 1024, `chroot` or `group` and no `user`: HAProxy is started by root and keeps its rights.",
        help: "Add `user haproxy` and `group haproxy` to `global`.",
        example: example("global\n hard-stop-after 10m\n chroot /var/empty\n", "global\n hard-stop-after 10m\n chroot /var/empty\n user haproxy\n group haproxy\n") },
    Lint { code: "no-hard-stop-after", of: Of::Configuration,
        what: "No `hard-stop-after`: old workers live as long as their last connection, and pile up.",
        help: "Add `hard-stop-after 10m` to `global`.",
        example: example("global\n maxconn 100\n", "global\n hard-stop-after 10m\n") },
    Lint { code: "no-admin-socket", of: Of::Configuration,
        what: "A `stats socket` that is not of `level admin`: changes of servers are slower, or need a reload.",
        help: "Add `level admin` and `mode 600` to the line.",
        example: example("global\n stats socket /run/h.sock\n", "global\n stats socket /run/h.sock mode 600 level admin\n") },
    Lint { code: "no-expose-fd", of: Of::Configuration,
        what: "HAProxy is reloaded without a master, and no `stats socket` hands over the listening sockets.",
        help: "Add `expose-fd listeners` to the line, or start HAProxy with -W.",
        example: example("global\n stats socket /run/h.sock level admin\n", "global\n stats socket /run/h.sock level admin expose-fd listeners\n") },
    Lint { code: "shared-name", of: Of::Configuration,
        what: "A frontend and a backend of one name, which later versions of HAProxy refuse.",
        help: "Rename one of them.",
        example: example("frontend web\n default_backend web\nbackend web\n", "frontend web.in\n default_backend web\nbackend web\n") },
    Lint { code: "deprecated-keyword", of: Of::Configuration,
        what: "A keyword that this HAProxy takes in silence and a later one refuses or warns about.",
        help: "Write what the later one takes.",
        example: example("global\n stats bind-process 1\n", "global\n stats timeout 30s\n") },
    Lint { code: "unknown-allow", of: Of::Comments,
        what: "A comment allows a lint that there is not.",
        help: "Correct the code.",
        example: example("{{!-- gatewright: allow no-chek --}}\n", "{{!-- any other comment --}}\n") },
    Lint { code: "useless-allow", of: Of::Comments,
        what: "A comment allows what is not there any more.",
        help: "Take the comment away.",
        example: example("{{!-- gatewright: allow no-check --}}\n", "{{!-- any other comment --}}\n") },
];

/// All lints as Markdown: the code, what it tells, what to write, and how it looks.
pub fn reference() -> String {
    let mut text = String::new();
    for Lint {
        code,
        what,
        help,
        example,
        ..
    } in LINTS
    {
        text.push_str(&format!("\n## {code}\n\n{what} {help}\n"));
        if let Some(example) = example {
            text.push_str("\n```\n");
            for (word, shown) in [("not", example.bad), ("but", example.good)] {
                for (index, line) in shown.trim_end().lines().enumerate() {
                    let word = if index == 0 { word } else { "   " };
                    text.push_str(&format!("{word} {line}\n"));
                }
            }
            text.push_str("```\n");
        }
    }
    text
}

#[cfg(test)]
mod tests;

//! Helpers that read settings, environment variables, files and this machine's addresses.

use super::super::Action::{Addresses, Environment, File, Parameter};
use super::super::environment::Missing;
use super::{Entry, Group, MANY, eg};

const SETTINGS: Entry = Entry::of(Group::Settings);

#[rustfmt::skip] // One helper, one paragraph.
pub const TABLE: &[Entry] = &[
    Entry { name: "parameter", parameters: (1, 2), signature: "NAME:text [DEFAULT:value]", action: Parameter(Missing::Refused),
        example: r#"{{parameter "listen" "127.0.0.1:8080"}}"#,
        what: "A value of [parameters], or the second parameter when it is not set.",
        examples: &[eg(r#"bind {{parameter "listen"}} {{parameter "options" "tfo"}}"#, "bind 127.0.0.1:8080 tfo")], ..SETTINGS },
    Entry { name: "parameters", parameters: (1, 2), signature: "NAME:text [DEFAULT:value]", action: Parameter(Missing::EmptyList),
        example: r#"{{#each (parameters "services")}}"#,
        what: "The same as a list; one value counts as a list of one, and none as an empty list.",
        examples: &[eg(r#"{{#each (parameters "services")}}{{this}},{{/each}}"#, "web,batch,")], ..SETTINGS },
    Entry { name: "env", signature: "NAME:text", action: Environment(Missing::EmptyText),
        example: r#"{{env "HOSTNAME"}}"#,
        what: "An environment variable that templates.environment names; empty when it is not set.",
        examples: &[eg(r#"{{env "REGION"}}"#, "eu")], ..SETTINGS },
    Entry { name: "mustEnv", signature: "NAME:text", action: Environment(Missing::Refused),
        example: r#"{{mustEnv "HOSTNAME"}}"#,
        what: "The same, and an error when it is not set or empty.",
        examples: &[eg(r#"{{mustEnv "REGION"}}"#, "eu")], ..SETTINGS },
    Entry { name: "envOrDefault", parameters: (2, 2), signature: "NAME:text DEFAULT:value", action: Environment(Missing::Second),
        example: r#"{{envOrDefault "HOSTNAME" "gateway"}}"#,
        what: "The same, or the second parameter when it is not set. A variable that is set and empty is empty.",
        examples: &[eg(r#"{{envOrDefault "REGION" "none"}} {{envOrDefault "RACK" "none"}}"#, "eu none")], ..SETTINGS },
    Entry { name: "file", signature: "NAME:text", action: File,
        example: r#"{{raw (file "errors/503.txt")}}"#,
        what: "The text of a file below templates.files, of at most 1 MiB. The templates are rendered anew when it changes.",
        examples: &[eg(r#"{{trimSpace (file "motd.txt")}}!"#, "Welcome!")], ..SETTINGS },
    Entry { name: "sockaddr", parameters: (1, MANY), signature: "QUESTION:text…", action: Addresses,
        example: r#"{{sockaddr "GetPrivateIP"}}"#,
        what: "Addresses of this machine: GetPrivateIP, GetPublicIP, or GetInterfaceIP with a regular expression for the interface; with an s at the end all of them, with blanks between. The interface of the default route comes first, IPv4 before IPv6; empty when there is none. Loopback and link-local addresses are not found.",
        notes: "Other functions and the pipes of go-sockaddr are not there. Addresses are looked up whenever the templates are rendered; a change of an address alone renders nothing.",
        examples: &[eg(r#"bind {{sockaddr "GetPrivateIP"}}:80"#, "bind 10.0.0.9:80"), eg(r#"bind {{sockaddr "GetInterfaceIP \"eth1\""}}:80"#, "bind 192.168.7.9:80")], ..SETTINGS },
];

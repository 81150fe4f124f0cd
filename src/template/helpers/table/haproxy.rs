//! Helpers that write HAProxy's own syntax.

use super::super::Action::{Pure, Raw, Servers, Slots, ThriftCheck};
use super::super::haproxy;
use super::{Entry, Group, eg};

const HAPROXY: Entry = Entry::of(Group::Haproxy);

#[rustfmt::skip] // One helper, one paragraph.
pub const TABLE: &[Entry] = &[
    Entry { name: "backendName", signature: "NAME:text", action: Pure(haproxy::backend),
        example: r#"backend {{backendName Name}}"#,
        what: "A legal and unique name for a backend, from the name of any service; a legal name stays as it is.",
        examples: &[eg(r#"backend {{backendName "web"}}"#, "backend web"), eg(r#"backend {{backendName "web (old)"}}"#, "backend web__old_::d197a6ac5e30961157ac")], ..HAPROXY },
    Entry { name: "serverName", signature: "INSTANCE:object", action: Pure(haproxy::name),
        example: r#"server {{serverName this}} {{serverAddress this}}"#,
        what: "A legal, unique and stable name for an instance, from its node and id.",
        examples: &[eg(r#"{{#each (service "v1.web")}}server {{serverName this}} {{serverAddress this}} check{{/each}}"#, "server n1:web-1 10.0.0.1:8080 check")], ..HAPROXY },
    Entry { name: "serverAddress", signature: "INSTANCE:object", action: Pure(haproxy::address),
        example: r#"server {{serverName this}} {{serverAddress this}}"#,
        what: "Address and port of an instance as HAProxy reads them, IPv6 in brackets.",
        examples: &[eg(r#"{{#each (service "web")}}{{serverAddress this}} {{/each}}"#, "10.0.0.1:8080 10.0.0.2:8080 [fd00::3]:8081 ")], ..HAPROXY },
    Entry { name: "serverId", signature: "INSTANCE:object", action: Pure(haproxy::id),
        example: r#"server {{serverName this}} {{serverAddress this}} id {{serverId this}}"#,
        what: "A unique and stable id for an instance, from its node and id: hashing and random keep each client where it is when others come and go.",
        examples: &[eg(r#"{{#each (service "v1.web")}}server {{serverName this}} {{serverAddress this}} id {{serverId this}}{{/each}}"#, "server n1:web-1 10.0.0.1:8080 id 751013519")], ..HAPROXY },
    Entry { name: "servers", signature: "INSTANCES:list", pairs: &["options", "weight", "id"], action: Servers,
        example: r#"{{servers (service "web") options="check" weight=true}}"#,
        what: "All server lines of a list of instances at once, indented like the tag, with their ids unless id=false.",
        examples: &[eg("backend web\n    {{servers (service \"prod.web\") options=\"check\" weight=true}}", "backend web\n    server n1:web-1 10.0.0.1:8080 id 751013519 check weight 10\n    server n2:web-2 10.0.0.2:8080 id 1894432364 check weight 1")], ..HAPROXY },
    Entry { name: "slots", signature: "INSTANCES:list", pairs: &["name", "spare", "options"], action: Slots,
        example: r#"{{slots (service "web") name="web" spare=4 options="check"}}"#,
        what: "Numbered servers that instances are given in turn, some of them spare and disabled: for backends that HAProxy adds no server to at run time (static-rr, or a hash without hash-type consistent).",
        examples: &[eg("backend web\n    balance static-rr\n    {{slots (service \"prod.web\") name=\"web\" spare=1 options=\"check\"}}", "backend web\n    balance static-rr\n    server web-1 10.0.0.1:8080 id 1 check\n    server web-2 10.0.0.2:8080 id 2 check\n    server web-3 127.0.0.1:1 id 3 disabled check")], ..HAPROXY },
    Entry { name: "thriftCheck", signature: "METHOD:text", pairs: &["service", "framed", "exception"], action: ThriftCheck,
        example: r#"{{thriftCheck "getAPIVersion"}}"#,
        what: "The lines of a health check that calls a Thrift method without parameters and wants its reply: an instance that takes connections and answers none is down, where a plain TCP check takes it for well.",
        notes: "Strict TBinaryProtocol, which is what Thrift's own libraries write. An exception that the method declares is a reply as well. With exception=true a method that there is not is enough: its call costs nothing and is answered by an exception. HAProxy waits for timeout check (for inter, where that is not set), and checks over TLS where the server has ssl.",
        examples: &[eg("backend api\n    {{thriftCheck \"ping\"}}", "backend api\n    option tcp-check\n    tcp-check connect default linger\n    tcp-check send-binary 800100010000000470696E670000000100 comment ping\n    tcp-check expect min-recv 16 comment ping rbinary ^800100020000000470696E6700000001"),
            eg("backend users\n    {{thriftCheck \"ping\" service=\"Users\" framed=true exception=true}}", "backend users\n    option tcp-check\n    tcp-check connect default linger\n    tcp-check send-binary 00000017800100010000000A55736572733A70696E670000000100 comment Users:ping\n    tcp-check expect min-recv 20 comment Users:ping rbinary ^.{8}8001000(2|3)0000000470696E6700000001")], ..HAPROXY },
    Entry { name: "raw", signature: "TEXT:text", action: Raw,
        example: r#"{{raw (key "haproxy/extra")}}"#,
        what: "Writes a value without escaping: it may add words and lines. Only for what you trust, and only if templates.allow_raw is true.",
        notes: "As a block of four braces it writes its text as it stands: {{{{raw}}}}…{{{{/raw}}}}.",
        examples: &[eg(r#"{{raw (key "app/name")}}"#, " Gateway "), eg(r#"{{{{raw}}}}{{as it is}}{{{{/raw}}}}"#, "{{as it is}}")], ..HAPROXY },
];

//! Helpers that compare and count, and blocks.

use super::super::Action::{BuiltIn, Lenient, Let, Pure, With};
use super::super::math;
use super::{Entry, Group, MANY, eg};

const LOGIC: Entry = Entry {
    parameters: (2, 2),
    signature: "A:value B:value",
    ..Entry::of(Group::Comparison)
};
const NUMBER: Entry = Entry {
    parameters: (2, 2),
    signature: "A:number B:number",
    ..Entry::of(Group::Numbers)
};
const PARSE: Entry = Entry {
    signature: "TEXT:text",
    ..Entry::of(Group::Numbers)
};
const BLOCK: Entry = Entry {
    action: BuiltIn,
    ..Entry::of(Group::Blocks)
};

#[rustfmt::skip] // One helper, one paragraph.
pub const COMPARISON: &[Entry] = &[
    Entry { name: "eq", parameters: (2, MANY), signature: "A:value B:value…", action: Pure(math::eq),
        example: r#"{{#if (eq Status "passing")}}"#,
        what: "Whether the first equals one of the others.",
        notes: "Numbers are equal by value. Other kinds are never equal to each other, where Go reports an error.",
        examples: &[eg(r#"{{#each (service "web")}}{{#if (eq ID "web-1" "web-3")}}{{ID}} {{/if}}{{/each}}"#, "web-1 web-3 ")], ..LOGIC },
    Entry { name: "ne", action: Pure(math::ne), example: r#"{{#if (ne Port 80)}}"#,
        what: "Not equal.",
        examples: &[eg(r#"{{#each (service "web")}}{{#if (ne Port 8080)}}{{ID}}{{/if}}{{/each}}"#, "web-3")], ..LOGIC },
    Entry { name: "lt", action: Pure(math::lt), example: r#"{{#if (lt Port 1024)}}"#,
        what: "Less: numbers by value, texts by their letters, and a text that is a number as that.",
        examples: &[eg(r#"{{lt 9 10}} {{lt "9" "10"}} {{lt "9" 10}}"#, "true false true")], ..LOGIC },
    Entry { name: "le", action: Pure(math::le), example: r#"{{#if (le Port 1023)}}"#,
        what: "Less or equal.",
        examples: &[eg(r#"{{le 10 10}}"#, "true")], ..LOGIC },
    Entry { name: "gt", action: Pure(math::gt), example: r#"{{#if (gt (len (service "web")) 1)}}"#,
        what: "Greater.",
        examples: &[eg(r#"{{#if (gt (len (service "web")) 1)}}many{{/if}}"#, "many")], ..LOGIC },
    Entry { name: "ge", action: Pure(math::ge), example: r#"{{#if (ge (len (service "web")) 2)}}"#,
        what: "Greater or equal.",
        examples: &[eg(r#"{{ge 1 2}}"#, "false")], ..LOGIC },
    Entry { name: "and", parameters: (1, MANY), signature: "VALUE:value…", action: Lenient(math::and), example: r#"{{#if (and Name Tags)}}"#,
        what: "The first empty parameter, or the last one. Empty are nothing, false, 0 and what holds nothing; what is missing counts as nothing.",
        examples: &[eg(r#"{{#if (and (keyExists "app/name") (eq 1 1))}}both{{/if}}"#, "both")], ..LOGIC },
    Entry { name: "or", parameters: (1, MANY), signature: "VALUE:value…", action: Lenient(math::or), example: r#"{{#if (or (in Tags "a") (in Tags "b"))}}"#,
        what: "The first parameter that is not empty, or the last one.",
        examples: &[eg(r#"{{or "" 0 "other"}}"#, "other")], ..LOGIC },
    Entry { name: "not", parameters: (1, 1), signature: "VALUE:value", action: Lenient(math::not), example: r#"{{#if (not Tags)}}"#,
        what: "Whether the parameter is empty.",
        examples: &[eg(r#"{{not (service "batch")}}"#, "true")], ..LOGIC },
];

#[rustfmt::skip] // One helper, one paragraph.
pub const NUMBERS: &[Entry] = &[
    Entry { name: "add", action: Pure(math::add), example: r#"{{add Port 1}}"#,
        what: "The sum. Numbers are whole as long as they can be; a text that is a number is one.",
        notes: "Numbers are written in digits: 1500000, where Go writes 1.5e+06 for one with a fraction.",
        examples: &[eg(r#"{{add 8080 1}} {{add 1.5 1}}"#, "8081 2.5")], ..NUMBER },
    Entry { name: "subtract", action: Pure(math::subtract), example: r#"{{subtract 1 Port}}"#,
        what: "The second parameter less the first, as consul-template has it.",
        examples: &[eg(r#"{{subtract 1 8080}}"#, "8079")], ..NUMBER },
    Entry { name: "multiply", action: Pure(math::multiply), example: r#"{{multiply Weights.Passing 10}}"#,
        what: "The product.",
        examples: &[eg(r#"{{#each (service "web")}}{{multiply Weights.Passing 2}} {{/each}}"#, "20 2 2 ")], ..NUMBER },
    Entry { name: "divide", action: Pure(math::divide), example: r#"{{divide 2 Port}}"#,
        what: "The second parameter divided by the first; without the rest where both are whole.",
        examples: &[eg(r#"{{divide 2 7}} {{divide 2.0 7}}"#, "3 3.5")], ..NUMBER },
    Entry { name: "modulo", action: Pure(math::modulo), example: r#"{{modulo 2 Port}}"#,
        what: "The rest of that division, of whole numbers.",
        examples: &[eg(r#"{{modulo 4 7}}"#, "3")], ..NUMBER },
    Entry { name: "minimum", action: Pure(math::minimum), example: r#"{{minimum 256 Weights.Passing}}"#,
        what: "The smaller one.",
        examples: &[eg(r#"{{minimum 256 300}}"#, "256")], ..NUMBER },
    Entry { name: "maximum", action: Pure(math::maximum), example: r#"{{maximum 1 Weights.Passing}}"#,
        what: "The larger one.",
        examples: &[eg(r#"{{maximum 1 0}}"#, "1")], ..NUMBER },
    Entry { name: "parseInt", action: Pure(math::parse_int), example: r#"{{parseInt (key "maxconn")}}"#,
        what: "A whole number from a text; 0 from an empty one.",
        examples: &[eg(r#"{{add 1 (parseInt (key "app/maxconn"))}}"#, "2001")], ..PARSE },
    Entry { name: "parseUint", action: Pure(math::parse_uint), example: r#"{{parseUint (key "maxconn")}}"#,
        what: "The same, and an error when it is negative.",
        examples: &[eg(r#"{{parseUint "18446744073709551615"}}"#, "18446744073709551615")], ..PARSE },
    Entry { name: "parseFloat", action: Pure(math::parse_float), example: r#"{{parseFloat (key "rate")}}"#,
        what: "A number that may have a fraction, from a text; 0 from an empty one.",
        examples: &[eg(r#"{{divide 2 (parseFloat "7")}}"#, "3.5")], ..PARSE },
    Entry { name: "parseBool", action: Pure(math::parse_bool), example: r#"{{#if (parseBool (key "on"))}}"#,
        what: "A truth value from a text: 1, t, true, 0, f, false; false from an empty one.",
        examples: &[eg(r#"{{#if (parseBool (keyOrDefault "app/tls" "true"))}}ssl{{/if}}"#, "ssl")], ..PARSE },
];

#[rustfmt::skip] // One helper, one paragraph.
pub const BLOCKS: &[Entry] = &[
    Entry { name: "if", signature: "VALUE:value", pairs: &["includeZero"], example: "{{#if Tags}}…{{else}}…{{/if}}",
        what: "The block when the parameter is not empty; {{else if}} goes on.",
        examples: &[eg(r#"{{#if (service "batch")}}some{{else if (service "web")}}web only{{else}}none{{/if}}"#, "web only")], ..BLOCK },
    Entry { name: "unless", signature: "VALUE:value", pairs: &["includeZero"], example: "{{#unless Tags}}…{{/unless}}",
        what: "The block when the parameter is empty.",
        examples: &[eg(r#"{{#unless (service "batch")}}# no batch{{/unless}}"#, "# no batch")], ..BLOCK },
    Entry { name: "each", signature: "LIST:value", example: r#"{{#each (service "web") as |s index|}}…{{else}}…{{/each}}"#,
        what: "The block for each item of a list or field of an object, seen from it; @index, @first, @last, and @key for fields. `as |item index|` names them, and then `item` is the way to it. {{else}} is for none.",
        notes: "An item of the catalog that cannot be written is left out and named in the status, as long as others can be written.",
        examples: &[
            eg(r#"{{#each (service "web") as |s index|}}{{index}}={{s.ID}}{{#unless @last}}, {{/unless}}{{/each}}"#, "0=web-1, 1=web-2, 2=web-3"),
            eg(r#"{{#each (service "batch")}}{{ID}}{{else}}nobody{{/each}}"#, "nobody"),
        ], ..BLOCK },
    Entry { name: "with", signature: "VALUE:value", action: With, example: r#"{{#with (first (service "web"))}}…{{/with}}"#,
        what: "The block seen from a value, when it is not empty. `as |name|` names it, and {{else}} is for nothing.",
        examples: &[eg(r#"{{#with (node "n9")}}{{Node.Address}}{{else}}no such node{{/with}}"#, "no such node")], ..BLOCK },
    Entry { name: "let", signature: "VALUE:value", action: Let, example: r#"{{#let (key "name") as |name|}}{{name}}{{/let}}"#,
        what: "Binds a name inside the block; `this` stays what it is.",
        examples: &[eg(r#"{{#let (trimSpace (key "app/name")) as |name|}}{{name}}, {{toUpper name}}{{/let}}"#, "Gateway, GATEWAY")], ..BLOCK },
    Entry { name: "lookup", parameters: (2, 2), signature: "VALUE:value STEP:value", example: r#"{{lookup ServiceMeta "zone"}}"#,
        what: "A field or an item by a name or number that is itself a value. It must be there; `index` gives nothing instead.",
        examples: &[eg(r#"{{#each (service "web")}}{{lookup ServiceMeta "zone"}} {{/each}}"#, "a b a ")], ..BLOCK },
];

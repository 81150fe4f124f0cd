//! `#[haproxies]` and `#[consuls]`: one test for each HAProxy, or each Consul.
//!
//! ```ignore
//! #[haproxies]
//! fn a_server_is_added(version: Version) { … }
//! ```
//!
//! becomes the tests `a_server_is_added::haproxy_2_6`, `…::haproxy_3_2` and so on. `#[haproxies(ends)]` takes only the
//! oldest and the newest known version: for what depends on no version, but is worth a second look. Every program that
//! `GATEWRIGHT_HAPROXY` names at compile time is one more test in either form: `…::haproxy_named_1`.
//!
//! ```ignore
//! #[consuls]
//! fn a_key_is_followed() { … }
//! ```
//!
//! becomes `a_key_is_followed::consul_1_8`, and `…::consul_named_1` for each program of `GATEWRIGHT_CONSUL`. What the
//! test starts as Consul is then that program.
//!
//! An `async fn` gets `#[tokio::test]`, or the `#[tokio::test(…)]` that stands below the attribute.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Which of the known versions a test takes; `support::haproxies` gives each its program.
const KNOWN: [&str; 4] = include!("versions.in");

/// One of the tests that a function becomes.
struct Test {
    name: String,
    /// A statement before the call.
    before: String,
    argument: String,
}

/// See the crate's documentation.
#[proc_macro_attribute]
pub fn haproxies(arguments: TokenStream, item: TokenStream) -> TokenStream {
    const VARIABLE: &str = "GATEWRIGHT_HAPROXY";
    let ends = match arguments.to_string().as_str() {
        "" => false,
        "ends" => true,
        other => return error(&format!("`{other}` is not `ends`")),
    };
    let known = KNOWN
        .iter()
        .enumerate()
        .filter(|(index, _)| !ends || *index == 0 || *index + 1 == KNOWN.len())
        .map(|(_, version)| Test {
            name: format!("haproxy_{}", version.replace('.', "_")),
            before: String::new(),
            argument: format!("::support::haproxies::known({version:?})"),
        });
    let named = (0..named(VARIABLE)).map(|index| Test {
        name: format!("haproxy_named_{}", index + 1),
        before: String::new(),
        argument: format!("::support::haproxies::named({index})"),
    });
    tests(item, "haproxies", VARIABLE, known.chain(named))
}

/// See the crate's documentation.
#[proc_macro_attribute]
pub fn consuls(arguments: TokenStream, item: TokenStream) -> TokenStream {
    const VARIABLE: &str = "GATEWRIGHT_CONSUL";
    if !arguments.is_empty() {
        return error("#[consuls] takes no argument");
    }
    let known = Test {
        name: "consul_1_8".to_owned(),
        before: String::new(),
        argument: String::new(),
    };
    let named = (0..named(VARIABLE)).map(|index| Test {
        name: format!("consul_named_{}", index + 1),
        before: format!("::support::tools::choose_consul({index});"),
        argument: String::new(),
    });
    tests(
        item,
        "consuls",
        VARIABLE,
        std::iter::once(known).chain(named),
    )
}

/// How many programs a variable names.
fn named(variable: &str) -> usize {
    let paths = std::env::var(variable).unwrap_or_default();
    paths.split(':').filter(|path| !path.is_empty()).count()
}

/// A function, and a module with its tests.
fn tests(
    item: TokenStream,
    attribute: &str,
    variable: &str,
    tests: impl Iterator<Item = Test>,
) -> TokenStream {
    let mut item: Vec<TokenTree> = item.into_iter().collect();
    let test = take_test_attribute(&mut item);
    let words: Vec<String> = item.iter().map(TokenTree::to_string).collect();
    let Some(at) = words.iter().position(|word| word == "fn") else {
        return error(&format!("#[{attribute}] belongs to a function"));
    };
    let Some(function) = words.get(at + 1) else {
        return error(&format!("#[{attribute}] belongs to a function with a name"));
    };
    let is_async = at > 0 && words[at - 1] == "async";
    let (mark, keyword, wait) = match (is_async, test) {
        (true, None) => ("#[tokio::test]".to_owned(), "async ", ".await"),
        (true, Some(test)) => (test, "async ", ".await"),
        (false, None) => ("#[test]".to_owned(), "", ""),
        (false, Some(_)) => {
            return error(&format!(
                "#[{attribute}] already makes this function a test"
            ));
        }
    };
    let tests: String = tests
        .map(|test| {
            let Test {
                name,
                before,
                argument,
            } = test;
            format!(
                "{mark} {keyword}fn {name}() {{ {before} super::{function}({argument}){wait} }}\n"
            )
        })
        .collect();
    // The variable is named for cargo, which then builds again when it changes.
    let module = format!(
        "mod {function} {{\n const _: Option<&str> = option_env!({variable:?});\n{tests} }}"
    );
    let mut out: TokenStream = item.into_iter().collect();
    match module.parse::<TokenStream>() {
        Ok(module) => out.extend(module),
        Err(why) => return error(&why.to_string()),
    }
    out
}

/// Takes `#[tokio::test…]` away from a function and gives it as text.
fn take_test_attribute(item: &mut Vec<TokenTree>) -> Option<String> {
    let at = item.windows(2).position(|pair| match pair {
        [TokenTree::Punct(hash), TokenTree::Group(group)] => {
            hash.as_char() == '#'
                && group.delimiter() == Delimiter::Bracket
                && group
                    .to_string()
                    .replace(' ', "")
                    .starts_with("[tokio::test")
        }
        _ => false,
    })?;
    let attribute: TokenStream = item.drain(at..at + 2).collect();
    Some(attribute.to_string())
}

fn error(why: &str) -> TokenStream {
    format!("::core::compile_error!({why:?});")
        .parse()
        .unwrap_or_default()
}

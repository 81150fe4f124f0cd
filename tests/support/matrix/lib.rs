//! `#[haproxies]`: one test for each HAProxy.
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
//! An `async fn` gets `#[tokio::test]`, or the `#[tokio::test(…)]` that stands below `#[haproxies]`.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Which of the known versions a test takes; `support::haproxies` gives each its program.
const KNOWN: [&str; 4] = ["2.6", "2.8", "3.0", "3.2"];

/// See the crate's documentation.
#[proc_macro_attribute]
pub fn haproxies(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let ends = match arguments.to_string().as_str() {
        "" => false,
        "ends" => true,
        other => return error(&format!("`{other}` is not `ends`")),
    };
    let known = KNOWN
        .iter()
        .enumerate()
        .filter(|(index, _)| !ends || *index == 0 || *index + 1 == KNOWN.len())
        .map(|(_, version)| {
            let name = format!("haproxy_{}", version.replace('.', "_"));
            (name, format!("::support::haproxies::known({version:?})"))
        });
    let named = std::env::var("GATEWRIGHT_HAPROXY").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty());
    let named = named.enumerate().map(|(index, _)| {
        let name = format!("haproxy_named_{}", index + 1);
        (name, format!("::support::haproxies::named({index})"))
    });

    let mut item: Vec<TokenTree> = item.into_iter().collect();
    let test = take_test_attribute(&mut item);
    let words: Vec<String> = item.iter().map(TokenTree::to_string).collect();
    let Some(at) = words.iter().position(|word| word == "fn") else {
        return error("#[haproxies] belongs to a function");
    };
    let Some(function) = words.get(at + 1) else {
        return error("#[haproxies] belongs to a function with a name");
    };
    let is_async = at > 0 && words[at - 1] == "async";
    let (test, keyword, wait) = match (is_async, test) {
        (true, None) => ("#[tokio::test]".to_owned(), "async ", ".await"),
        (true, Some(test)) => (test, "async ", ".await"),
        (false, None) => ("#[test]".to_owned(), "", ""),
        (false, Some(_)) => return error("#[haproxies] already makes this function a test"),
    };
    let tests: String = known
        .chain(named)
        .map(|(name, haproxy)| {
            format!("{test} {keyword}fn {name}() {{ super::{function}({haproxy}){wait} }}\n")
        })
        .collect();
    // The variable is named for cargo, which then builds again when it changes.
    let module = format!(
        "mod {function} {{\n const _: Option<&str> = option_env!(\"GATEWRIGHT_HAPROXY\");\n{tests} }}"
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

//! Server names: legal for HAProxy, unique, and the same for the same instance for ever.
//!
//! A name depends on the node and the service id alone, so that neither a change nor a reload
//! renames a server. HAProxy takes letters, digits and `_ . : -` in names given at run time
//! (management manual 9.3 "add server"; the configuration takes the same).

/// Longer names are cut and told apart by their hash.
const MAX_NAME: usize = 100;

/// The name of the server for one instance: `NODE:ID` where both are plain, else a cleaned form
/// that ends in `::` and a hash of the originals.
///
/// Two instances never share a name: a plain node holds no colon, so the first colon parts the
/// two; a plain name holds no `::`, so no plain name looks like a cleaned one.
pub fn server_name(node: &str, id: &str) -> String {
    if plain(node, false) && plain(id, true) && node.len() + id.len() < MAX_NAME {
        return format!("{node}:{id}");
    }
    let cut = (MAX_NAME - 24) / 2;
    format!(
        "{}:{}::{}",
        clean(node, cut),
        clean(id, cut),
        hash(node, id)
    )
}

fn plain(text: &str, colons: bool) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| legal(letter) || (colons && letter == ':'))
        && !text.contains("::")
        && !text.starts_with(':')
}

fn legal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-')
}

fn clean(text: &str, length: usize) -> String {
    text.chars()
        .take(length)
        .map(|letter| if legal(letter) { letter } else { '_' })
        .collect()
}

/// Eighty bits, as twenty hexadecimal digits.
fn hash(node: &str, id: &str) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&(node.len() as u64).to_be_bytes());
    hash.update(node.as_bytes());
    hash.update(id.as_bytes());
    hash.finish().as_ref()[..10]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_readable_and_others_are_told_apart() {
        assert_eq!(server_name("node-1", "web-1"), "node-1:web-1");
        assert_eq!(server_name("n", "host:web:80"), "n:host:web:80");
        let names = [
            server_name("a b", "c"),
            server_name("a_b", "c"),
            server_name("a/b", "c"),
            server_name("a:b", "c"),
            server_name("a", "b:c"),
            server_name("a", ":b"),
            server_name("a", "b::c"),
            server_name("", "c"),
            server_name("a", ""),
            server_name(&"x".repeat(300), "c"),
            server_name(&"x".repeat(301), "c"),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= MAX_NAME, "{name}");
            assert!(!names[..index].contains(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_are_legal_and_never_collide(
            pairs in proptest::collection::btree_set(("[ab._:/ é]{0,4}", "[ab._:/ é]{0,4}"), 0..40)
        ) {
            let mut seen = BTreeMap::new();
            for (node, id) in pairs {
                let name = server_name(&node, &id);
                prop_assert!(name.chars().all(|letter| legal(letter) || letter == ':'));
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
                prop_assert_eq!(seen.insert(name, (node, id)), None);
            }
        }
    }
}

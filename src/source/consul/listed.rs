//! The list of services, with the tags that all instances of each have together. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::answer::{read, sorted};
use crate::catalog::{Answer, ServiceName};

/// The bytes that the tags of a service may take in the list, where one service would else fill the memory. Its
/// instances have theirs all the same.
const MOST_TAGS: usize = 1024 * 1024;

/// Reads the answer of `/v1/catalog/services`.
pub(super) fn services(body: &[u8]) -> Result<Answer, String> {
    let services: BTreeMap<String, Tags> = read(body)?;
    let name = |(name, tags): (String, Tags)| ServiceName {
        name,
        tags: sorted(tags.kept),
        tags_left_out: tags.left_out,
    };
    Ok(Answer::Services(services.into_iter().map(name).collect()))
}

/// The tags of one service that fit, and how many do not.
#[derive(Default)]
struct Tags {
    kept: Vec<String>,
    left_out: usize,
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tags, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tags;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of tags")
            }

            fn visit_unit<E>(self) -> Result<Tags, E> {
                Ok(Tags::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tags, A::Error> {
                let (mut tags, mut bytes) = (Tags::default(), 0);
                while let Some(tag) = list.next_element::<String>()? {
                    let size = size_of::<String>() + tag.len();
                    if bytes + size <= MOST_TAGS {
                        bytes += size;
                        tags.kept.push(tag);
                    } else {
                        tags.left_out += 1;
                    }
                }
                Ok(tags)
            }
        }
        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_of_a_service_that_do_not_fit_are_left_out_of_the_list() {
        let half = "x".repeat(MOST_TAGS / 2);
        let body = json!({
            "few": ["b", "a"], "none": [], "null": null, "fits": [half, &half[100..], "y"],
            "much": [half, half, "y", "z"], "one": ["x".repeat(MOST_TAGS + 1)],
        });
        let Ok(Answer::Services(list)) = services(body.to_string().as_bytes()) else {
            panic!("no list");
        };
        let seen: Vec<(&str, usize, usize)> = list
            .iter()
            .map(|one| (one.name.as_str(), one.tags.len(), one.tags_left_out))
            .collect();
        assert_eq!(
            seen,
            [
                ("few", 2, 0),
                ("fits", 3, 0),
                ("much", 3, 1),
                ("none", 0, 0),
                ("null", 0, 0),
                ("one", 0, 1)
            ]
        );
        assert_eq!(list[0].tags, ["a", "b"]);
        for wrong in [
            "[]",
            r#"{"a": 1}"#,
            r#"{"a": [1]}"#,
            r#"{"a": "b"}"#,
            "null",
        ] {
            assert!(services(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

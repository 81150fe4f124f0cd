//! Whether other lines than its own name a server. Pure.

use std::collections::BTreeSet;

use super::super::set::{Role, SetFile};

/// One of these names that stands in a line of the configuration which is no plain `server` line. Words
/// are cut at every character that no server name holds, so a name inside an expression is found too.
pub fn mentioned<'a>(files: &[SetFile], names: &BTreeSet<&'a str>) -> Option<&'a str> {
    if names.is_empty() {
        return None;
    }
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let configs = files.iter().filter(|file| file.role == Role::Config);
    configs
        .flat_map(|file| file.text.lines())
        .filter(|line| {
            let line = line.trim_start();
            let plain = line.starts_with("server ") && !line.contains("track");
            !plain && !line.starts_with('#')
        })
        .flat_map(|line| line.split(|c| !of_name(c)))
        .find_map(|word| names.get(word).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_wherever_it_counts() {
        let found = |text: &str| {
            let file = SetFile {
                destination: "/h.cfg".into(),
                role: Role::Config,
                mode: None,
                text: text.into(),
            };
            mentioned(&[file], &BTreeSet::from(["n:a"])).is_some()
        };
        assert!(found(" use-server n:a if TRUE\n"));
        assert!(found(" server b 10.0.0.1:80 track api/n:a\n"));
        assert!(found(" acl up srv_is_up(api/n:a)\n"));
        assert!(!found(
            " server n:a 10.0.0.1:80\n # n:a\n use-server n:ab\n"
        ));
    }
}

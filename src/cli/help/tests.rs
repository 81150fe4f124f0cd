use std::path::Path;

use super::*;
use crate::markdown::WIDTH;
use crate::status::model::State;

const README: &str = include_str!("../../../README.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn plain(page: &str) -> String {
    anstream::adapter::strip_str(&terminal(page)).to_string()
}

#[test]
fn the_readme_is_one_screen_that_names_every_topic() {
    assert!(README.lines().count() <= 150, "{}", README.lines().count());
    for line in README.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for topic in TOPICS {
        let row = README
            .lines()
            .find(|line| line.starts_with("| `") && line.contains(&format!("`{}`", topic.name)));
        assert!(row.is_some(), "README.md does not name {}", topic.name);
    }
}

#[test]
fn every_page_fits_a_terminal_and_shows_no_marks_of_markdown() {
    for topic in TOPICS {
        for line in plain(&topic.page()).lines() {
            let code = line.starts_with("    ");
            let width = line.chars().count();
            assert!(width <= WIDTH || code, "{}: {line}", topic.name);
            let outside: String = line.split('`').step_by(2).collect();
            let marked = ["](", "**", "|--", "<!--"]
                .iter()
                .any(|mark| outside.contains(mark));
            assert!(!marked || code, "{}: {line}", topic.name);
        }
    }
}

#[test]
fn the_page_of_states_holds_every_state() {
    let words: Vec<&str> = include_str!("states.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(word, _)| word)
        .collect();
    assert_eq!(words, State::ALL.map(State::as_str));
}

/// `gatewright help NAME` names a topic or a command wherever it stands.
#[test]
fn pages_and_commands_point_only_at_help_that_exists() {
    let mut cli = Cli::command();
    cli.build();
    let commands = cli.get_subcommands().map(clap::Command::get_name);
    let topics = TOPICS.iter().map(|topic| topic.name);
    let known: Vec<String> = commands
        .chain(topics)
        .chain(["TOPIC", "[NAME"])
        .map(str::to_owned)
        .collect();
    let mut texts: Vec<String> = cli
        .get_subcommands_mut()
        .map(|command| command.render_long_help().to_string())
        .collect();
    texts.extend(TOPICS.iter().map(topics::Topic::page));
    texts.push(README.to_owned());
    let ends = ['`', '\n', ' ', ')', ']', '|'];
    for text in &texts {
        for rest in text.split("gatewright help ").skip(1) {
            let name = rest.trim_start().split(ends).next().unwrap_or_default();
            assert!(
                known.iter().any(|one| one == name),
                "gatewright help {name}"
            );
        }
    }
}

#[test]
fn every_link_of_the_pages_leads_to_a_file() {
    for folder in [
        ".",
        "src/cli/help",
        "templates",
        "haproxy",
        "examples",
        "tests/bench",
    ]
    .iter()
    .chain(&["examples/airavata", "examples/ci", "examples/file"])
    .chain(&["examples/serf", "examples/settings"])
    {
        let folder = root().join(folder);
        let pages = std::fs::read_dir(&folder).unwrap();
        let pages = pages.map(|entry| entry.unwrap().path());
        for page in pages.filter(|path| path.extension().is_some_and(|end| end == "md")) {
            let text = std::fs::read_to_string(&page).unwrap();
            for target in text.split("](").skip(1) {
                let target = target.split(')').next().unwrap_or_default();
                let found = target.starts_with("http") || folder.join(target).exists();
                assert!(found, "{}: {target}", page.display());
            }
        }
    }
}

use super::*;
use crate::markdown::WIDTH;
use crate::status::model::State;

fn plain(page: &str) -> String {
    anstream::adapter::strip_str(&terminal(page)).to_string()
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

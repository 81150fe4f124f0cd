//! A scene with a fault proxy between Gatewright and a real Consul.

use std::time::Duration;

pub use support::scene::{Catalog, Given, Scene};

use support::scene::TEMPLATE;

pub const LIMIT: Duration = Duration::from_secs(40);
/// Given to Gatewright as its token; it may go to Consul and nowhere else.
pub const CANARY: &str = "c0ffee00-feed-4bad-8bad-canarytoken0";

/// Two instances and a note in a catalog that Gatewright asks at `url`.
pub fn given(catalog: &impl Catalog, url: &str) -> Given {
    catalog.key("note", "none");
    let given = Given::consul(url)
        .limit(LIMIT)
        .set("consul", "wait = \"1s\"")
        .instances(catalog, &["one", "two"]);
    given.setup.file("token", &format!("{CANARY}\n")).unwrap();
    given
}

/// The usual template with further lines in its backend.
pub fn with_lines(lines: &str) -> String {
    TEMPLATE.replace("{{#each", &format!("{lines}{{{{#each"))
}

/// Waits until every query fails, for a reason with these words.
pub fn all_fail(scene: &Scene, words: &str) {
    scene.until(words, |status| {
        let queries = status["queries"].as_array();
        queries.is_some_and(|queries| {
            queries
                .iter()
                .all(|query| query["error"].as_str().is_some_and(|e| e.contains(words)))
        })
    });
}

/// Ends it: nothing failed all the time, and the token is nowhere.
pub fn end(scene: Scene) {
    let (file, log) = (scene.file(), scene.gatewright.log());
    assert!(!log.contains(CANARY), "{log}");
    assert!(!file.contains(CANARY));
    scene.end();
}

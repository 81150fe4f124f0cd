//! Something is full, gone, exhausted or odd: disks, state files, descriptors, inotify, connections, names. HAProxy
//! runs all the same, and everything that does not need the missing thing goes on.

use std::time::Duration;

use serde_json::Value;

use support::scene::Scene;
use support::traffic::send;

mod descriptors;
mod disk;
mod files;
mod flood;
mod names;
mod state;

const LIMIT: Duration = Duration::from_secs(30);

/// Whether a warning of the status has all these words.
fn warns(status: &Value, words: &[&str]) -> bool {
    let warnings = status["warnings"].as_array().into_iter().flatten();
    let mut texts = warnings.filter_map(Value::as_str);
    texts.any(|text| words.iter().all(|word| text.contains(word)))
}

/// Waits until each of these instances answers through HAProxy.
fn answer(scene: &Scene, ids: &[&str]) {
    scene.wait(&format!("answers of {ids:?}"), || {
        let answers = send(scene.entrance, 3 * ids.len() as u64).answers;
        ids.iter().all(|id| answers.contains_key(*id)).then_some(())
    });
}

/// Ends Gatewright and starts it again on the same directory.
fn restart(scene: &mut Scene, between: impl FnOnce(&Scene)) {
    assert_eq!(scene.gatewright.stop(LIMIT).unwrap(), 0);
    between(scene);
    scene.gatewright = scene.setup.run().unwrap();
}

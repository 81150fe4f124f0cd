//! How long a source waits after a failure. Pure: chance is an argument.

use std::time::Duration;

/// The first backoff after a failure.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// No retry comes sooner, whatever chance says.
pub(super) const BACKOFF_LEAST: Duration = Duration::from_millis(25);

/// Full jitter: anywhere below the step, which doubles from 0.25 s to `most`.
pub(super) fn backoff(step: u32, chance: f64, most: Duration) -> Duration {
    let step = BACKOFF_FIRST.saturating_mul(1 << step.min(16)).min(most);
    step.mul_f64(chance.clamp(0.0, 1.0)).max(BACKOFF_LEAST)
}

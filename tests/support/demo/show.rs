//! What the examples with HTTP traffic have in common: clients that send all the while, and steps that are shown
//! by what they see.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::screen::Screen;
use crate::gatewright::{self, Gatewright, Setup};
use crate::traffic::{self, Limits, Traffic};
use crate::{Outcome, interrupted, wait_for};

/// How long a change may take: checks, gossip, one reload, slow machines.
pub const LIMIT: Duration = Duration::from_secs(100);
/// All instances of the story.
pub const NAMES: [&str; 4] = ["gateway-a", "gateway-b", "gateway-c", "gateway-d"];

/// For a person to follow, or for a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// 200 requests a step and time to read.
    Calm,
    /// 60 requests a step, no pauses.
    Fast,
}

/// A running Gatewright, the clients behind its HAProxy, and what came of their requests.
pub struct Show<'a> {
    screen: &'a Screen,
    pace: Pace,
    traffic: Option<Traffic>,
    gatewright: Gatewright,
    entrance: SocketAddr,
    sent: u64,
    failed: u64,
    surprises: u32,
}

impl<'a> Show<'a> {
    /// Starts Gatewright, and the clients once there is an answer.
    pub fn begin(
        pace: Pace,
        screen: &'a Screen,
        setup: &Setup,
        entrance: SocketAddr,
    ) -> Outcome<Show<'a>> {
        let mut gatewright = setup.run()?;
        screen.line(&format!("  Gatewright   {}", setup.path("gatewright.toml")));
        wait_for(LIMIT, "the first answer through HAProxy", || {
            if !gatewright.process().is_running() {
                return Some(Err("Gatewright ended.".to_owned()));
            }
            (traffic::send(entrance, 1).ok() == 1).then_some(Ok(()))
        })
        .and_then(|outcome| outcome)
        .map_err(|error| {
            let log = gatewright.process().last_lines(30);
            format!("{error}\nGatewright's log ends:\n{log}")
        })?;
        screen.line(&format!("  HAProxy      http://{entrance} serves"));
        screen.note("Four clients send requests from now on, each with a new connection.");
        let limits = Limits {
            clients: 4,
            pause: Duration::from_millis(5),
            requests: 100_000,
            time: Duration::from_secs(300),
        };
        Ok(Show {
            screen,
            pace,
            traffic: Some(Traffic::start(entrance, limits)),
            gatewright,
            entrance,
            sent: 0,
            failed: 0,
            surprises: 0,
        })
    }

    /// Where it is shown.
    pub fn screen(&self) -> &'a Screen {
        self.screen
    }

    /// Says what is about to be done; gives the moment.
    pub fn announce(&self, title: &str, note: &str) -> Outcome<Instant> {
        if self.pace == Pace::Calm {
            pause(Duration::from_secs(2))?;
        }
        self.screen.heading(title);
        if !note.is_empty() {
            self.screen.note(note);
        }
        Ok(Instant::now())
    }

    /// Waits until the last requests were answered by exactly `expected`, and `holds` besides; then shows what was
    /// seen since `begun`.
    pub fn see(
        &mut self,
        begun: Instant,
        expected: &[&str],
        holds: impl Fn(&BTreeSet<String>) -> bool,
    ) -> Outcome<()> {
        let wanted: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("traffic to reach exactly {}", expected.join(", "));
        let settled = wait_for(LIMIT, &what, || {
            let recent = self.traffic.as_ref()?.look(|report| report.recent(60))?;
            (recent == wanted && holds(&wanted)).then_some(())
        });
        let took = begun.elapsed();

        let count = if self.pace == Pace::Calm { 200 } else { 60 };
        let sample = traffic::send(self.entrance, count);
        let meanwhile = self.traffic.as_ref().map(Traffic::take).unwrap_or_default();
        self.screen.spread(&NAMES, &sample);

        let answered: BTreeSet<&str> = sample.answers.keys().map(String::as_str).collect();
        let failed = sample.failed + meanwhile.failed;
        let sent = sample.ok() + meanwhile.ok() + failed;
        let good = settled.is_ok() && failed == 0 && answered == expected.iter().copied().collect();
        self.screen.verdict(good, took, sent, failed);
        for error in meanwhile.errors.iter().chain(&sample.errors) {
            self.screen.note(&format!("a request failed: {error}"));
        }
        self.sent += sent;
        self.failed += failed;
        self.surprises += u32::from(!good);
        settled
    }

    /// Stops clients and Gatewright, which must end well and take HAProxy with it, and says how all ended.
    pub fn close(mut self, steps: Outcome<()>) -> Outcome<()> {
        let outcome = steps.map_err(|error| {
            if interrupted() {
                return "\nInterrupted. Everything is stopped.".to_owned();
            }
            let log = self.gatewright.process().last_lines(15);
            format!("\n{error}\nGatewright's log ends:\n{log}")
        });
        drop(self.traffic.take());
        let end = gatewright::end_with_haproxy(&mut self.gatewright);
        outcome?;
        end?;
        self.screen.line("");
        if self.surprises > 0 {
            return Err(format!("{} steps were not as expected.", self.surprises));
        }
        self.screen.line(&format!(
            "Every step was as expected: {} of {} requests failed. Everything is stopped.",
            self.failed, self.sent
        ));
        Ok(())
    }
}

fn pause(time: Duration) -> Outcome<()> {
    std::thread::sleep(time);
    if interrupted() {
        Err("Interrupted.".to_owned())
    } else {
        Ok(())
    }
}

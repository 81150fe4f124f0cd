//! Part 1: from a change of an instance's address in Consul to the first request that the new one
//! serves. The subjects take turns, so that whatever else the machine does meets all of them.

use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::hand::Hand;
use super::numbers::{Samples, written};
use super::report::{Report, Row, say};
use super::servers::{CLOSE, Server};
use super::subject::{LIMIT, Mode, Sidecar, Subject, wait_until_served, worker};
use super::wire::{Connection, request};
use super::{Bench, peers};
use support::{Outcome, interrupted};

/// After a change: time for what goes on behind it, such as `haproxy -c` beside the commands.
const PAUSE: Duration = Duration::from_millis(200);
/// After a change of Gatewright's: so long that each stands alone, for changes that come one upon the
/// other may use a fifth of a processor and go together beyond that.
fn alone(size: usize) -> Duration {
    Duration::from_millis(match size {
        0..=100 => 200,
        101..=1_000 => 400,
        _ => 1_200,
    })
}
/// After a reload: Gatewright's `apply.reload_interval` must not hold the next change back.
const AFTER_RELOAD: Duration = Duration::from_millis(2_200);

/// One subject and what it showed.
struct Turn {
    subject: Box<dyn Subject>,
    probe: Option<Connection>,
    times: Vec<Duration>,
    pause: Duration,
    worker: Option<u32>,
    reloads: u32,
    at: usize,
    failed: u32,
    first: Option<String>,
}

/// Measures one HAProxy version with one size.
pub fn run(bench: &mut Bench, version: &str, size: usize, report: &mut Report) -> Outcome<()> {
    let (samples, limit) = match bench.options.quick {
        true => (15, Duration::from_secs(8)),
        false if size <= 1_000 => (40, Duration::from_secs(24)),
        false => (25, Duration::from_secs(40)),
    };
    let mut turns = start(bench, version, size)?;
    // The first change of each is not counted: after a start the reload interval may hold it back.
    for turn in &mut turns {
        turn.sample(&mut bench.catalog, &bench.servers)?;
        turn.times.clear();
    }
    let end = Instant::now() + limit;
    for _ in 0..samples {
        if Instant::now() >= end || interrupted() {
            break;
        }
        for turn in &mut turns {
            turn.sample(&mut bench.catalog, &bench.servers)?;
        }
    }
    let floor = turns
        .iter()
        .find(|turn| turn.subject.service() == super::hand::SERVICE)
        .and_then(|turn| Samples::milliseconds(turn.times.clone()).median());
    for turn in turns {
        tell(turn, floor, version, size, report);
    }
    Ok(())
}

fn start(bench: &mut Bench, version: &str, size: usize) -> Outcome<Vec<Turn>> {
    let first = bench.servers[0].address;
    let begin = |catalog: &mut Catalog, service: &str| {
        catalog.register(service, &format!("{service}-1"), (first, 1))
    };
    let catalog = &mut bench.catalog;
    begin(catalog, "moved")?;
    begin(catalog, super::hand::SERVICE)?;
    let sidecar = Sidecar::start(catalog, version, Mode::Supervise, "moved", size)?;
    let hand = Hand::start(catalog.consul().address(), version, &sidecar)?;
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(sidecar), Box::new(hand)];
    for peer in peers::named(&bench.options) {
        begin(catalog, peer.service())?;
        subjects.push(peer.start(catalog, version, size)?);
    }
    let mut turns = Vec::new();
    for mut subject in subjects {
        wait_until_served(subject.as_mut())?;
        turns.push(Turn {
            worker: subject.stats().and_then(worker),
            pause: match subject.name() {
                "gatewright" => alone(size),
                _ => PAUSE,
            },
            subject,
            probe: None,
            times: Vec::new(),
            reloads: 0,
            at: 0,
            failed: 0,
            first: None,
        });
    }
    Ok(turns)
}

impl Turn {
    /// Moves the instance to the other server and waits until it answers.
    fn sample(&mut self, catalog: &mut Catalog, servers: &[Server]) -> Outcome<()> {
        self.at = 1 - self.at;
        let target = &servers[self.at];
        let service = self.subject.service();
        let change = catalog.registration(service, &format!("{service}-1"), (target.address, 1));
        let question = request("GET", &format!("{}{CLOSE}", self.subject.path()), "");
        self.ask(&question); // the connection stands and is warm
        let began = Instant::now();
        catalog.send(&change)?;
        loop {
            let answer = self.ask(&question);
            if answer.as_deref() == Some(target.name.as_bytes()) {
                break;
            }
            if let Some(why) = self.subject.ended() {
                return Err(why);
            }
            if began.elapsed() > LIMIT || interrupted() {
                let log = self.subject.log();
                return Err(format!(
                    "{} did not move to the new instance, {}, within {LIMIT:?}: it answered {:?}; {} requests failed{}. {}",
                    self.subject.name(),
                    target.address,
                    answer.map(|body| String::from_utf8_lossy(&body).into_owned()),
                    self.failed,
                    self.first
                        .iter()
                        .map(|why| format!(", the first by: {why}"))
                        .collect::<String>(),
                    log,
                ));
            }
        }
        self.times.push(began.elapsed());
        catalog.finish()?;
        std::thread::sleep(self.pause);
        let worker = self.subject.stats().and_then(worker);
        if worker != self.worker {
            self.worker = worker;
            self.reloads += 1;
            std::thread::sleep(AFTER_RELOAD);
        }
        Ok(())
    }

    /// One request: the body of a good answer. Both instances always run, so any other answer failed.
    fn ask(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let mut probe = match self.probe.take() {
            Some(probe) => probe,
            None => match Connection::open(self.subject.entrance(), Duration::from_secs(5)) {
                Ok(probe) => probe,
                Err(error) => return self.failure(error.to_string()),
            },
        };
        match probe.ask(question) {
            Ok(answer) => {
                if !answer.closes {
                    self.probe = Some(probe);
                }
                match answer.status {
                    200 => Some(answer.body),
                    status => self.failure(format!("status {status}")),
                }
            }
            Err(error) => self.failure(error.to_string()),
        }
    }

    fn failure(&mut self, why: String) -> Option<Vec<u8>> {
        self.failed += 1;
        self.first.get_or_insert(why);
        None
    }
}

fn tell(turn: Turn, floor: Option<f64>, version: &str, size: usize, report: &mut Report) {
    let samples = Samples::milliseconds(turn.times);
    let (Some(median), Some(high)) = (samples.median(), samples.percentile(0.9)) else {
        say(&format!("  {} gave no sample.", turn.subject.name()));
        return;
    };
    let name = turn.subject.name().to_owned();
    let ours = name == "gatewright";
    let ratio = floor.map_or(f64::NAN, |floor| median / floor);
    let (wanted, goal) = match size {
        0..=100 => (1.3, "≤ 1.3 × floor, no reload"),
        101..=1_000 => (1.5, "≤ 1.5 × floor, no reload"),
        _ => (3.0, "≤ 3 × floor, no reload"),
    };
    let share = match turn.subject.service() {
        super::hand::SERVICE => String::new(),
        _ => format!(", {ratio:.2} × floor"),
    };
    let mut broken = Vec::new();
    if ours && turn.reloads > 0 {
        broken.push(format!("HAProxy was reloaded {} times.", turn.reloads));
    }
    if ours && turn.failed > 0 {
        let first = turn.first.unwrap_or_default();
        broken.push(format!(
            "{} requests failed, the first by: {first}.",
            turn.failed
        ));
    }
    let row = Row {
        part: "latency",
        haproxy: version.to_owned(),
        who: name.clone(),
        servers: size,
        measured: format!(
            "median {} ms, p90 {} ms{share}, {} reloads, {} failed, {} samples",
            written(median),
            written(high),
            turn.reloads,
            turn.failed,
            samples.count()
        ),
        goal: if ours { goal } else { "" },
        met: ours.then_some(ratio <= wanted && broken.is_empty()),
        broken,
        ..Row::default()
    };
    report.row(
        row.figure("median_ms", median)
            .figure("p90_ms", high)
            .figure("ratio_to_floor", ratio)
            .figure("reloads", turn.reloads)
            .figure("failed", turn.failed)
            .figure("samples", samples.count() as u32),
    );
    report.bar(
        "Address changed → first request served by the new one, median in ms",
        format!(
            "{version} {} others, {name}",
            super::numbers::thousands(size as u64)
        ),
        median,
    );
}

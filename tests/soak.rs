//! Chaos for a bounded time: faults drawn with a seed, one after the other, over the real programs with
//! traffic and a catalog that changes all the while; and each few faults a calm, after which everything must
//! agree again. `tests/soak/run` does the same for hours.

mod clients;
mod fault;
mod stage;

use std::time::{Duration, Instant};

use fault::Fault;
use stage::Stage;
use support::measured::note;

/// How long it goes on as a part of the long tests, and of the usual ones, in seconds.
const LONG: u64 = 60;
const SHORT: u64 = 10;
/// The seed where none is given. The same seed draws the same faults.
const SEED: u64 = 20_261_123;
/// Faults between two calms.
const ROUND: usize = 4;

// M06
#[test]
fn whatever_breaks_it_comes_to_rest_where_the_catalog_says() {
    let time = Duration::from_secs(number(
        "GATEWRIGHT_SOAK_SECONDS",
        if support::long() { LONG } else { SHORT },
    ));
    let seed = number("GATEWRIGHT_SOAK_SEED", SEED);
    println!("soak: seed {seed}, {} s", time.as_secs());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = Stage::start(seed);
    stage.calm("the start");
    let begun = Instant::now();
    let (mut story, mut calms) = (Vec::new(), 0);
    // Every fault once in an order that the seed decides, and then any.
    let mut drawn: Vec<Fault> = Fault::ALL.to_vec();
    random.shuffle(&mut drawn);
    while begun.elapsed() < time || !drawn.is_empty() && begun.elapsed() < 2 * time {
        for _ in 0..ROUND {
            let any = random.usize(..Fault::ALL.len());
            let fault = drawn.pop().unwrap_or(Fault::ALL[any]);
            let hold = Duration::from_millis(random.u64(200..1_500));
            story.push(format!(
                "{:.1} s {fault:?} for {hold:?}",
                begun.elapsed().as_secs_f64()
            ));
            println!("soak: {}", story.last().unwrap());
            // How much is drawn meanwhile depends on the time; what is drawn next must not.
            let mut beside = random.fork();
            stage.suffer(fault, hold, &mut beside);
        }
        calms += 1;
        let last = story[story.len() - ROUND..].join(", ");
        stage.calm(&format!("seed {seed}, {last}"));
    }
    let clients = stage.end();
    note(
        "m06",
        "soak",
        format!(
            "{} faults in {} s, {calms} calms, seed {seed}",
            story.len(),
            begun.elapsed().as_secs()
        ),
    );
    note("m06", "requests", clients);
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

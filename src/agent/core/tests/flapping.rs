//! A catalog that never rests, played in model time: what rendering and applying cost is counted.

use super::*;

/// What things take here.
#[derive(Debug, Clone, Copy)]
struct Costs {
    render: Duration,
    apply: Duration,
    /// Whether commands do; else only a reload does.
    by_commands: bool,
    /// Whether validation refuses everything but the last set.
    refuses: bool,
}

/// What was done, and when it was right.
#[derive(Debug, Default)]
struct Story {
    renderings: u32,
    applies: u32,
    reloads: Vec<Duration>,
    busy: Duration,
    /// When each change came, and when a set with it or a later one ran.
    came: Vec<Duration>,
    ran: Vec<Option<Duration>>,
}

impl std::fmt::Display for Story {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} renderings, {} applies, reloads {:?}, busy {:?}, longest delay {:?}, last {:?}",
            self.renderings,
            self.applies,
            self.reloads,
            self.busy,
            self.longest_delay(),
            self.ran.last()
        )
    }
}

impl Story {
    fn right_after_the_end(&self) -> Duration {
        let (came, ran) = (self.came.last().unwrap(), self.ran.last().unwrap());
        ran.expect("the last change never ran") - *came
    }

    fn longest_delay(&self) -> Duration {
        let delays = self.came.iter().zip(&self.ran);
        delays
            .map(|(came, ran)| ran.expect("a change never ran") - *came)
            .max()
            .unwrap()
    }
}

/// Plays changes that come after these gaps until nothing is left to do.
fn play(gaps: &[Duration], costs: Costs) -> Story {
    let mut bench = Bench {
        looks: false,
        ..Bench::new()
    }
    .applied_quietly();
    // What was in hand at the start is back.
    bench.now += Duration::from_secs(10);
    let start = bench.now;
    let mut came = start;
    let mut changes: Vec<Instant> = gaps
        .iter()
        .map(|gap| {
            came += *gap;
            came
        })
        .collect();
    let mut story = Story {
        came: changes.iter().map(|at| *at - start).collect(),
        ran: vec![None; gaps.len()],
        ..Story::default()
    };
    changes.reverse();
    let mut rendering: Option<(Instant, usize)> = None;
    let mut applying: Option<(Instant, Revision, Means)> = None;
    let mut observing = false;
    let mut number = 0;
    for _ in 0..1_000_000 {
        let mut due: Vec<Instant> = changes.last().copied().into_iter().collect();
        due.extend(rendering.as_ref().map(|(at, _)| *at));
        due.extend(applying.as_ref().map(|(at, ..)| *at));
        let own = bench.core.poll_timeout();
        if due.is_empty() && story.ran.last().is_none_or(Option::is_some) && !observing {
            return story;
        }
        due.extend(own);
        due.extend(observing.then_some(bench.now));
        let now = due
            .into_iter()
            .min()
            .expect("nothing is due")
            .max(bench.now);
        assert!(
            now - start < Duration::from_secs(600),
            "it does not come to rest"
        );
        bench.now = now;
        let mut actions = bench.core.handle_timeout(now);
        if changes.last().is_some_and(|at| *at <= now) {
            changes.pop();
            number += 1;
            actions.extend(bench.answer("web", number + 1));
        }
        if let Some((_, content)) = rendering.take_if(|(at, _)| *at <= now) {
            story.renderings += 1;
            story.busy += costs.render;
            let text = format!("set {content}");
            actions.extend(bench.core.handle(complete(&text, &["web"]), now));
        }
        if let Some((_, revision, means)) = applying.take_if(|(at, ..)| *at <= now) {
            let of = |content: usize| candidate(&format!("set {content}")).revision.clone();
            let content = (1..=number + 1)
                .rev()
                .find(|content| of(*content) == revision);
            let content = content.unwrap_or(0);
            let refused = costs.refuses && content != gaps.len() + 1;
            let outcome = match (costs.by_commands, means) {
                (true, _) if refused => {
                    Outcome::Refused(vec![Diagnostic::error("no", "It is bad.")])
                }
                (true, _) => by_commands(),
                (false, Means::Commands) => Outcome::NeedsReload("it must be".into()),
                (false, _) => {
                    story.reloads.push(now - start);
                    Outcome::Confirmed {
                        means: "reload".into(),
                        reloaded: true,
                        changes: String::new(),
                        took: costs.apply,
                    }
                }
            };
            let runs = matches!(outcome, Outcome::Confirmed { .. });
            story.applies += 1;
            story.busy += costs.apply;
            for ran in story
                .ran
                .iter_mut()
                .take(content.saturating_sub(1))
                .filter(|_| runs)
            {
                ran.get_or_insert(now - start);
            }
            actions.extend(bench.core.handle(Event::Applied { revision, outcome }, now));
        }
        if observing {
            observing = false;
            let running = bench.core.applied().map(|applied| applied.revision.clone());
            let observed = Observed {
                reachable: true,
                running,
                ..Observed::default()
            };
            actions.extend(bench.core.handle(Event::Observed(observed), now));
        }
        for action in actions {
            match action {
                Action::Render(answers) => {
                    assert!(rendering.is_none());
                    let known = answers.0.values().next().unwrap();
                    rendering = Some((now + costs.render, known.answer.len()));
                }
                Action::Apply(candidate, means) => {
                    assert!(applying.is_none());
                    applying = Some((now + costs.apply, candidate.revision.clone(), means));
                }
                Action::Observe => observing = true,
                _ => {}
            }
        }
    }
    panic!("it never rests");
}

impl Bench {
    /// The first set runs; from now on nothing is answered by the bench itself.
    fn applied_quietly(mut self) -> Bench {
        self.looks = true;
        let mut bench = self.applied("set 1");
        bench.looks = false;
        bench
    }
}

const SMALL: Costs = Costs {
    render: Duration::from_millis(3),
    apply: Duration::from_millis(60),
    by_commands: true,
    refuses: false,
};

fn a_hundred_a_second(seconds: usize) -> Vec<Duration> {
    vec![Duration::from_millis(10); seconds * 100]
}

// M01
#[test]
fn flapping_costs_a_fifth_of_the_time_and_the_end_is_right() {
    let story = play(&a_hundred_a_second(60), SMALL);
    assert!(story.busy <= Duration::from_secs(13), "{story}");
    assert!(story.reloads.is_empty());
    // Once for each time that it is applied, and at most once meanwhile.
    assert!(story.renderings <= 2 * story.applies + 1, "{story}");
    assert!(
        story.longest_delay() <= Duration::from_millis(500),
        "{story:?}"
    );
    assert!(story.right_after_the_end() <= Duration::from_millis(500));
}

// M01
#[test]
fn a_handful_of_changes_is_applied_one_by_one_and_at_once() {
    let story = play(&[Duration::from_millis(150); 8], SMALL);
    assert_eq!(story.applies, 8);
    assert_eq!(story.longest_delay(), SMALL.render + SMALL.apply);
}

// M01
#[test]
fn what_is_refused_again_and_again_is_paced_too() {
    let costs = Costs {
        refuses: true,
        ..SMALL
    };
    let story = play(&a_hundred_a_second(60), costs);
    assert!(story.busy <= Duration::from_secs(13), "{story}");
    assert!(story.right_after_the_end() <= Duration::from_millis(500));
}

// M04
#[test]
fn a_slow_validator_has_one_set_before_it_and_the_newest_wins() {
    let costs = Costs {
        apply: Duration::from_secs(5),
        ..SMALL
    };
    let story = play(&a_hundred_a_second(60), costs);
    assert!(story.applies <= 8, "{story}");
    assert!(story.renderings <= 2 * story.applies + 1, "{story}");
    assert!(
        story.longest_delay() <= Duration::from_secs(16),
        "{story:?}"
    );
}

// M08
#[test]
fn large_sets_are_paced_by_what_they_cost() {
    let costs = Costs {
        render: Duration::from_millis(40),
        apply: Duration::from_millis(300),
        ..SMALL
    };
    let story = play(&a_hundred_a_second(60), costs);
    assert!(story.busy <= Duration::from_secs(14), "{story}");
    assert!(
        story.right_after_the_end() <= Duration::from_secs(3),
        "{story:?}"
    );
}

// M10
#[test]
fn reloads_keep_their_distance_however_many_changes_come() {
    let costs = Costs {
        by_commands: false,
        ..SMALL
    };
    let mut counts = Vec::new();
    for gap in [3, 10, 100, 400] {
        let gaps = vec![Duration::from_millis(gap); 30_000 / gap as usize];
        let story = play(&gaps, costs);
        let close = story
            .reloads
            .windows(2)
            .find(|pair| pair[1] - pair[0] < TIMING.reload_interval);
        assert_eq!(close, None, "{gap} ms: {story}");
        assert!(
            story.right_after_the_end() <= 2 * TIMING.reload_interval,
            "{gap} ms: {story}"
        );
        counts.push(story.reloads.len());
    }
    let (fewest, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most <= 16, "{counts:?}");
    assert!(*fewest >= 8, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // M01
    /// Whatever comes and whatever it costs: every change runs in the end, none much later than what
    /// went before it explains, and work has no more than its share.
    #[test]
    fn no_change_starves_and_work_keeps_its_share(
        gaps in proptest::collection::vec(0u64..300, 1..150),
        render in 0u64..60,
        apply in 1u64..600,
        by_commands in any::<bool>(),
    ) {
        let costs = Costs {
            render: Duration::from_millis(render),
            apply: Duration::from_millis(apply),
            by_commands,
            refuses: false,
        };
        let gaps: Vec<Duration> = gaps.into_iter().map(Duration::from_millis).collect();
        let story = play(&gaps, costs);
        let end = story.ran.last().unwrap().unwrap();
        if by_commands {
            let piece = 2 * costs.render + costs.apply;
            prop_assert!(story.busy <= end / 5 + Duration::from_millis(500) + 2 * piece, "{}", story);
            prop_assert!(story.longest_delay() <= 12 * piece + Duration::from_millis(10), "{}", story);
        } else {
            prop_assert!(story.longest_delay() <= Duration::from_secs(6), "{}", story);
        }
    }
}

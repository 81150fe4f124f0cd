//! Part 4: what is computed for one changed server, without Consul, HAProxy or a file: rendering, parsing,
//! the comparison and the gate, and how their time grows with the configuration.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatewright::apply::gate::{Rules, judge};
use gatewright::apply::plan::compare;
use gatewright::apply::set::{Candidate, Role, SetFile};
use gatewright::catalog::fixture::Fixture;
use gatewright::catalog::{Known, Query};
use gatewright::haproxy::config::Config;
use gatewright::template::{Grammar, Options, Outcome as Rendered, Source, TemplateSet};
use serde_json::{Value, json};

use super::catalog::{Catalog, INSTANCES};
use super::numbers::{Samples, thousands, written};
use super::report::{Report, Row};
use support::Outcome;

/// How often each is done, and for how long at most.
const TIMES: usize = 50;
const LIMIT: Duration = Duration::from_millis(1_500);
/// The service that changes.
const MOVED: &str = "moved";

/// Measures all sizes.
pub fn run(sizes: &[usize], report: &mut Report) -> Outcome<()> {
    let mut before: Vec<(f64, usize)> = Vec::new();
    for size in sizes.iter().copied() {
        let mut medians = Vec::new();
        for (number, (name, samples)) in measure(size)?.into_iter().enumerate() {
            let Some(median) = samples.median() else {
                continue;
            };
            let growth = before
                .get(number)
                .map_or_else(String::new, |(smaller, servers)| {
                    format!(
                        "; {} × the time for {} × the servers",
                        written(median / smaller),
                        size / servers
                    )
                });
            medians.push((median, size));
            report.row(
                Row {
                    part: "alone",
                    who: name.to_owned(),
                    servers: size,
                    measured: format!("median {} ms{growth}", written(median)),
                    ..Row::default()
                }
                .figure("median_ms", median),
            );
            report.bar(
                "Computed for one changed server, median in ms",
                format!("{} others, {name}", thousands(size as u64)),
                median,
            );
        }
        before = medians;
    }
    Ok(())
}

fn measure(size: usize) -> Outcome<Vec<(&'static str, Samples)>> {
    let mut renderer = Renderer::new(size)?;
    let running = set(renderer.render()?);
    let rendering = time(|| {
        renderer.change();
        renderer.render().map(|text| drop(black_box(text)))
    })?;
    let new = set(renderer.render()?);
    let text = new.files[0].text.clone();
    let rules = Rules::default();
    let sure = |work: &dyn Fn()| {
        time(|| {
            work();
            Ok(())
        })
    };
    Ok(vec![
        ("render", rendering),
        (
            "set and revision",
            sure(&|| drop(black_box(Candidate::new(new.files.clone()))))?,
        ),
        ("parse", sure(&|| drop(black_box(Config::parse(&text))))?),
        (
            "compare",
            sure(&|| drop(black_box(compare(&running.files, &new.files))))?,
        ),
        (
            "gate",
            sure(&|| drop(black_box(judge(&new, Some(&running.files), &rules))))?,
        ),
    ])
}

fn time(mut work: impl FnMut() -> Outcome<()>) -> Outcome<Samples> {
    let end = Instant::now() + LIMIT;
    let mut times = Vec::new();
    while times.len() < TIMES && (times.is_empty() || Instant::now() < end) {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    Ok(Samples::milliseconds(times))
}

fn set(text: String) -> Candidate {
    Candidate::new(vec![SetFile {
        destination: "/etc/haproxy/haproxy.cfg".into(),
        role: Role::Config,
        mode: None,
        text,
    }])
}

/// The benchmark's template on a catalog as it is in the other parts.
struct Renderer {
    templates: TemplateSet,
    answers: BTreeMap<Query, Known>,
    changes: u16,
}

impl Renderer {
    fn new(size: usize) -> Outcome<Renderer> {
        let mut names = vec![MOVED.to_owned()];
        names.extend(Catalog::other_names(size));
        let parameters = json!({
            "service": MOVED, "services": names, "listen": "127.0.0.1:8080",
            "stats_socket": "/run/haproxy/stats.sock",
        });
        let options = Options {
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            ..Options::default()
        };
        let source = Source {
            name: "haproxy.cfg".to_owned(),
            path: "haproxy.cfg.hbs".into(),
            text: include_str!("haproxy.cfg.hbs").to_owned(),
            grammar: Grammar::Haproxy,
        };
        let (templates, _) = TemplateSet::load(vec![source], Vec::new(), options)
            .map_err(|errors| format!("The template cannot be loaded: {errors:?}."))?;
        let mut renderer = Renderer {
            templates,
            answers: BTreeMap::new(),
            changes: 0,
        };
        for (number, name) in names.iter().enumerate() {
            let count = if number == 0 { 1 } else { INSTANCES };
            renderer.learn(
                name,
                (0..count).map(|at| instance(name, number, at)).collect(),
            );
        }
        Ok(renderer)
    }

    /// Moves the one instance.
    fn change(&mut self) {
        self.changes += 1;
        let mut moved = instance(MOVED, 0, 0);
        moved["Port"] = json!(20_000 + self.changes);
        self.learn(MOVED, vec![moved]);
    }

    fn learn(&mut self, name: &str, instances: Vec<Value>) {
        let fixture = json!({"services": {name: instances}});
        let fixture: Fixture = serde_json::from_value(fixture).unwrap_or_default();
        let query = Query::service(name);
        if let Ok(answer) = fixture.answer(&query) {
            let revision = u64::from(self.changes);
            let answer = Arc::new(answer);
            self.answers.insert(query, Known { answer, revision });
        }
    }

    fn render(&mut self) -> Outcome<String> {
        match self.templates.render(&self.answers) {
            Ok(Rendered::Complete(mut rendering)) => Ok(rendering.files.remove(0)),
            Ok(Rendered::Incomplete { .. }) => Err("Answers are missing.".to_owned()),
            Err(errors) => Err(format!("The template cannot be rendered: {errors:?}.")),
        }
    }
}

fn instance(service: &str, number: usize, at: usize) -> Value {
    json!({
        "Node": format!("n{at}"), "ID": format!("{service}-{at}"), "Port": 10_000 + at,
        "Address": format!("127.10.{}.{}", number / 250, number % 250 + 1),
    })
}

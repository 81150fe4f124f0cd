//! More services than connections, on a real Consul: each kind of change is seen long before anything is read just
//! because it is due.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gatewright::catalog::Instance;
use gatewright::source::SourceStatus;
use support::Outcome;
use support::fault_proxy::FaultProxy;

use super::*;

const SERVICES: usize = 120;
const NODES: usize = 8;

fn name(service: usize) -> String {
    format!("s{service}")
}

/// Two instances of each service, on as many nodes as there are.
fn fill(agent: &Agent) {
    for node in 0..NODES {
        let here = (0..SERVICES)
            .filter(|service| [service % NODES, (service + 1) % NODES].contains(&node));
        let services: Vec<_> = here
            .map(|service| json!({"ID": format!("{}-{node}", name(service)), "Service": name(service), "Port": 1000 + service}))
            .collect();
        agent
            .catalog_register_all(&format!("n{node}"), &services)
            .unwrap();
    }
}

/// What all watches know.
struct Crowd {
    consul: Consul,
    known: Arc<Mutex<BTreeMap<WatchId, Arc<Answer>>>>,
    _watches: Vec<Watch>,
}

impl Crowd {
    /// Watches all services of the agent at this address, whatever their health, and the keys.
    fn start(url: &str, token: TokenSource, keys: &[&str]) -> Crowd {
        let consul = Consul::new(Options {
            addresses: vec![url.parse().unwrap()],
            token,
            ..Options::default()
        })
        .unwrap();
        let (out, mut updates) = mpsc::channel(64);
        let services = (0..SERVICES).map(|service| {
            let mut query = Query::service(&name(service));
            if let Kind::Service { health, .. } = &mut query.kind {
                *health = HealthFilter::Any;
            }
            query
        });
        let queries = services.chain(keys.iter().map(|key| Query::key(key)));
        let watch = |(id, query)| consul.watch(WatchId(id), query, out.clone());
        let watches = (0..).zip(queries).map(watch).collect();
        let known: Arc<Mutex<BTreeMap<WatchId, Arc<Answer>>>> = Arc::default();
        let told = Arc::clone(&known);
        tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                if let Update::Answered { watch, answer, .. } = update {
                    told.lock().unwrap().insert(watch, answer);
                }
            }
        });
        Crowd {
            consul,
            known,
            _watches: watches,
        }
    }

    fn answer(&self, service: usize) -> Option<Arc<Answer>> {
        self.known
            .lock()
            .unwrap()
            .get(&WatchId(service as u64))
            .cloned()
    }

    /// Waits until a service is as it should be.
    async fn sees(&self, what: &str, service: usize, holds: impl Fn(&[Instance]) -> bool) {
        let began = Instant::now();
        loop {
            if let Some(Answer::Instances(list)) = self.answer(service).as_deref()
                && holds(list)
            {
                return;
            }
            // What is only read because it is due comes after minutes.
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: {:?}, {:?}",
                self.answer(service),
                self.consul.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a service is as it should be after this change.
    async fn follows(
        &self,
        what: &str,
        change: Outcome<()>,
        service: usize,
        holds: impl Fn(&[Instance]) -> bool,
    ) {
        change.unwrap();
        self.sees(what, service, holds).await;
    }

    /// An instance of a service ends: the one on the service's first node.
    async fn loses(&self, agent: &Agent, service: usize) {
        let node = service % NODES;
        let id = format!("{}-{node}", name(service));
        let end = json!({"Node": format!("n{node}"), "ServiceID": id});
        let change = agent.catalog_deregister(&end);
        self.follows("an end of one instance", change, service, |list| {
            list.len() == 1
        })
        .await;
    }

    /// Waits until the source says so.
    async fn until(&self, what: &str, holds: impl Fn(&SourceStatus) -> bool) {
        let began = Instant::now();
        while !holds(&self.consul.status()) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: {:?}",
                self.consul.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all are known and as many are held as may be.
    async fn settles(&self) {
        for service in 0..SERVICES {
            self.sees("the first answer", service, |list| list.len() == 2)
                .await;
        }
        self.until("as many are held as may be", |status| status.load.held > 30)
            .await;
    }
}

/// Another program at the same address, which opens a connection for each request, at ten a second.
struct Neighbour {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Neighbour {
    fn start(agent: &Agent) -> Neighbour {
        let (ends, asked, failed): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) =
            Default::default();
        let address = agent.address();
        let thread = std::thread::spawn({
            let (ends, asked, failed) =
                (Arc::clone(&ends), Arc::clone(&asked), Arc::clone(&failed));
            move || {
                while !ends.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let good = http::get(address, "/v1/status/leader")
                        .is_ok_and(|answer| answer.status == 200);
                    failed.fetch_add(u64::from(!good), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Neighbour {
            ends,
            asked,
            failed,
            thread: Some(thread),
        }
    }

    /// How many requests it made, and how many failed.
    fn end(mut self) -> (u64, u64) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (
            self.asked.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }
}

// A10
#[consuls]
async fn every_kind_of_change_in_a_crowd_is_seen() {
    let agent = Agent::start().unwrap();
    fill(&agent);
    let neighbour = Neighbour::start(&agent);
    let crowd = Crowd::start(&agent.url(), TokenSource::None, &[]);
    crowd.settles().await;
    let service = |service: usize, id: &str, port: u16| json!({"ID": id, "Service": name(service), "Port": port});
    let on = |node: &str, service| json!({"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": false, "Service": service});
    let check = |node: &str, id: &str, status: &str| {
        json!({"Node": node, "Address": "127.0.0.1",
               "Check": {"Node": node, "CheckID": format!("c-{id}"), "Name": "c", "ServiceID": id, "Status": status}})
    };

    // A new instance on a known node, without a check.
    crowd
        .follows(
            "a new instance",
            agent.catalog_register(&on("n5", service(1, "s1-new", 7))),
            1,
            |list| list.len() == 3,
        )
        .await;
    // On a new node.
    crowd
        .follows(
            "an instance on a new node",
            agent.catalog_register(&on("other", service(20, "s20-new", 7))),
            20,
            |list| list.len() == 3,
        )
        .await;
    // Another port and another address.
    crowd
        .follows(
            "another port",
            agent.catalog_register(&on("n7", service(39, "s39-7", 4711))),
            39,
            |list| list.iter().any(|one| one.port == 4711),
        )
        .await;
    crowd
        .follows(
            "another address of a node",
            agent.catalog_register(&json!({"Node": "other", "Address": "127.0.0.9"})),
            20,
            |list| list.iter().any(|one| one.address == "127.0.0.9"),
        )
        .await;
    // An instance goes, and a node.
    crowd.loses(&agent, 40).await;
    crowd
        .follows(
            "an end of a node",
            agent.catalog_deregister(&json!({"Node": "other"})),
            20,
            |list| list.len() == 2,
        )
        .await;
    // Health: of an instance, of a node, and back.
    let states = |list: &[Instance], state: Status| list.iter().any(|one| one.status == state);
    for (status, state) in [("critical", Status::Critical), ("warning", Status::Warning)] {
        agent
            .catalog_register(&check("n1", "s57-1", status))
            .unwrap();
        crowd.sees(status, 57, |list| states(list, state)).await;
    }
    crowd
        .follows(
            "passing",
            agent.catalog_register(&check("n1", "s57-1", "passing")),
            57,
            |list| list.iter().all(|one| one.status == Status::Passing),
        )
        .await;
    agent.set_node_check("n3", false).unwrap();
    for of_node in (0..SERVICES).filter(|service| service % NODES == 3) {
        crowd
            .sees("a failing node", of_node, |list| {
                states(list, Status::Critical)
            })
            .await;
    }
    // Tags.
    let tagged = json!({"ID": "s66-2", "Service": name(66), "Port": 9, "Tags": ["new"]});
    crowd
        .follows(
            "a tag",
            agent.catalog_register(&on("n2", tagged)),
            66,
            |list| list.iter().any(|one| one.tags[..] == ["new"]),
        )
        .await;

    let load = crowd.consul.status().load;
    assert!(load.crowded && load.asked >= SERVICES + 4, "{load:?}");
    assert_eq!(crowd.consul.status().warnings(), Vec::<String>::new());
    let (asked, failed) = neighbour.end();
    assert!(asked > 0);
    assert_eq!(failed, 0, "of {asked}");
}

// A10
#[consuls]
async fn a_lower_limit_of_consul_s_is_told_of_and_leaves_room() {
    let agent = Agent::start_with(&["-hcl=limits { http_max_conns_per_client = 40 }"]).unwrap();
    // Consul counts by address, and what the test asks must not count.
    let proxy = FaultProxy::start_from(Ipv4Addr::new(127, 0, 0, 2), agent.address()).unwrap();
    fill(&agent);
    let crowd = Crowd::start(&proxy.url(), TokenSource::None, &[]);
    for service in 0..SERVICES {
        crowd
            .sees("the first answer", service, |list| list.len() == 2)
            .await;
    }
    crowd
        .until("a limit is found", |status| status.load.limit.is_some())
        .await;
    crowd
        .until("a quarter is left", |_| proxy.open() <= 30)
        .await;
    let status = crowd.consul.status();
    assert!(
        status.warnings()[0].starts_with("Consul takes no more than "),
        "{status:?}"
    );
    // A limit is no failure of Consul's.
    assert!(status.errors.is_empty(), "{status:?}");
    crowd.loses(&agent, 40).await;
}

// A08 A11
#[consuls]
async fn a_question_that_is_always_refused_costs_the_others_nothing() {
    let agent = Agent::start_with_acl().unwrap();
    fill(&agent);
    let rules = "node_prefix \"\" { policy = \"read\" } service_prefix \"\" { policy = \"read\" }";
    agent.create_policy("services", rules).unwrap();
    let token = agent.create_token("services").unwrap();
    let token = TokenSource::Value(Secret::new(token.secret.clone()));
    let crowd = Crowd::start(&agent.url(), token, &["not/allowed"]);
    crowd.settles().await;
    crowd
        .until("the key is refused", |status| {
            status
                .errors
                .get(&ErrorClass::Forbidden)
                .is_some_and(|count| *count > 1)
        })
        .await;
    crowd.loses(&agent, 40).await;
    let status = crowd.consul.status();
    assert!(status.load.crowded && status.load.held > 30, "{status:?}");
}

// A01
#[consuls]
async fn a_crowd_is_current_after_the_agent_was_away() {
    let mut agent = Agent::start_persistent().unwrap();
    fill(&agent);
    let crowd = Crowd::start(&agent.url(), TokenSource::None, &[]);
    crowd.settles().await;
    agent.kill();
    crowd
        .until("an error is told of", |status| !status.errors.is_empty())
        .await;
    agent.restart().unwrap();
    crowd.loses(&agent, 40).await;
    crowd
        .until("as many are held as before", |status| status.load.held > 30)
        .await;
    crowd.loses(&agent, 57).await;
}

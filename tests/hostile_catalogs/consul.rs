//! Services with instances in a real Consul.

use fastrand::Rng;
use serde_json::{Value, json};

use super::*;
use support::consul::{Consul, instance};

const PORTS: [i64; 7] = [1, 9, 65_535, 0, -1, 65_536, 1 << 40];

/// Services with their instances; Consul itself refuses some.
fn hostile(random: &mut Rng, round: u64) -> Vec<Value> {
    let count = random.usize(1..6);
    let service = |random: &mut Rng| match random.u8(..4) {
        0 => "web".to_owned(),
        _ => text(random),
    };
    (0..count)
        .map(|place| {
            let many = match random.u8(..6) {
                0 => random.usize(..2_000),
                _ => random.usize(..5),
            };
            let tags: Vec<String> = (0..many).map(|_| tag(random)).collect();
            // What an instance may weigh in Consul's interface.
            let mut weight = 0;
            let fits = |tag: &&String| {
                weight += tag.len();
                weight < 200_000
            };
            let tags: Vec<&String> = tags.iter().take_while(fits).collect();
            let note: String = text(random).chars().take(120).collect();
            json!({
                "Name": service(random),
                "ID": format!("{round}-{place}-{}", text(random)),
                "Address": ADDRESSES[random.usize(..ADDRESSES.len())],
                "Port": PORTS[random.usize(..PORTS.len())],
                "Tags": tags,
                "Meta": { "note": note },
            })
        })
        .collect()
}

/// A Consul, and how many hostile instances it took.
struct Registered {
    consul: Consul,
    taken: usize,
}

impl Registered {
    fn start() -> Registered {
        Registered {
            consul: Consul::start().unwrap(),
            taken: 0,
        }
    }
}

impl Catalog for Registered {
    const NAME: &str = "hostile catalogs";

    fn settings(&self) -> String {
        format!("[consul]\naddresses = [\"{}\"]\n", self.consul.url())
    }

    fn disturb(&mut self, random: &mut Rng, round: u64) -> String {
        let bodies = hostile(random, round);
        let taken = bodies
            .iter()
            .filter(|body| self.consul.register(body).is_ok());
        self.taken += taken.count();
        bodies.iter().map(|one| format!("{one:.2000}\n")).collect()
    }

    fn enter(&mut self, name: &str, address: SocketAddr) {
        let mut body = instance(name, name, address);
        body["Tags"] = json!([format!("urlprefix-{name}/")]);
        self.consul.register(&body).unwrap();
    }

    fn taken(&self) -> usize {
        self.taken
    }
}

#[test]
fn routes_of_others_go_on_beside_any_catalog() {
    routes_beside(Registered::start());
}

#[test]
fn a_template_of_servers_goes_on_beside_any_catalog() {
    template_beside(Registered::start(), SERVERS);
}

#[test]
fn a_template_of_tags_goes_on_beside_any_catalog() {
    template_beside(Registered::start(), TAGS);
}

#[test]
fn a_template_of_metadata_goes_on_beside_any_catalog() {
    template_beside(Registered::start(), METADATA);
}

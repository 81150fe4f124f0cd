//! What Consul is told: the other services that only make the configuration large, and the instances
//! that are changed. Everything is written straight to the catalog, so that no anti-entropy of an agent
//! lies between a change and its readers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Connection, request};
use support::Outcome;
use support::consul::Consul;

/// Instances of each other service.
pub const INSTANCES: usize = 10;
/// Consul takes 64 operations in a transaction (1.8 "api-docs/txn").
const OPERATIONS: usize = 64;

/// An instance as traffic and HAProxy see it: where it is and its weight.
pub type Place = (SocketAddr, u16);

/// A Consul of our own, and one connection to write on.
pub struct Catalog {
    consul: Consul,
    writer: Connection,
    others: usize,
    checks: bool,
}

impl Catalog {
    /// Starts Consul. With `checks` each instance gets a passing check; Fabio asks for one.
    pub fn start(checks: bool) -> Outcome<Catalog> {
        // A program under test may keep a connection for each service; Consul 1.8 refuses more than
        // 200 from one address unless told otherwise.
        let limits = "-hcl=limits { http_max_conns_per_client = 4000 }";
        support::tools::choose_any_consul();
        let consul = Consul::start_with(&[limits])?;
        let writer = Connection::open(consul.address(), Duration::from_secs(10))
            .map_err(|error| format!("Consul cannot be reached: {error}."))?;
        let mut catalog = Catalog {
            consul,
            writer,
            others: 0,
            checks,
        };
        for number in 0..INSTANCES {
            let node = json!({"Node": node(number), "Address": "127.0.0.1"});
            catalog.put("/v1/catalog/register", &node)?;
        }
        Ok(catalog)
    }

    /// Consul itself.
    pub fn consul(&self) -> &Consul {
        &self.consul
    }

    /// Registers other services until there are `count` other instances. Nobody listens on their
    /// addresses and no traffic goes there.
    pub fn fill(&mut self, count: usize) -> Outcome<()> {
        let mut operations = Vec::new();
        for number in self.others..count {
            let (service, instance) = (number / INSTANCES, number % INSTANCES);
            let name = other(service);
            let id = format!("{name}-{instance}");
            operations.push(
                json!({"Service": {"Verb": "set", "Node": node(instance), "Service": {
                    "ID": id, "Service": name,
                    "Address": format!("127.10.{}.{}", service / 250, service % 250 + 1),
                    "Port": 10_000 + instance, "Weights": {"Passing": 1, "Warning": 1},
                }}}),
            );
            if self.checks {
                operations.push(json!({"Check": {"Verb": "set", "Check": {
                    "Node": node(instance), "CheckID": format!("check-{id}"), "Name": "always",
                    "ServiceID": id, "Status": "passing",
                }}}));
            }
        }
        for piece in operations.chunks(OPERATIONS) {
            self.put("/v1/txn", &json!(piece))?;
        }
        self.others = self.others.max(count);
        Ok(())
    }

    /// The names of the services that hold `count` other instances.
    pub fn other_names(count: usize) -> Vec<String> {
        (0..count / INSTANCES).map(other).collect()
    }

    /// Registers an instance, or changes it when its id is known.
    pub fn register(&mut self, service: &str, id: &str, place: Place) -> Outcome<()> {
        let words = self.registration(service, id, place);
        self.send(&words)?;
        self.finish()
    }

    /// Removes an instance.
    pub fn deregister(&mut self, id: &str) -> Outcome<()> {
        self.put(
            "/v1/catalog/deregister",
            &json!({"Node": node(0), "ServiceID": id}),
        )
    }

    /// The request that [`Catalog::register`] makes, for [`Catalog::send`].
    pub fn registration(&self, service: &str, id: &str, (address, weight): Place) -> Vec<u8> {
        let mut body = json!({
            "Node": node(0), "Address": "127.0.0.1", "SkipNodeUpdate": true,
            "Service": {
                "ID": id, "Service": service, "Address": address.ip().to_string(),
                "Port": address.port(), "Tags": [format!("urlprefix-/{service}")],
                "Weights": {"Passing": weight, "Warning": 1},
            },
        });
        if self.checks {
            body["Check"] = json!({
                "Node": node(0), "CheckID": format!("check-{id}"), "Name": "always",
                "ServiceID": id, "Status": "passing",
            });
        }
        request("PUT", "/v1/catalog/register", &body.to_string())
    }

    /// Sends a request whose answer [`Catalog::finish`] reads.
    pub fn send(&mut self, request: &[u8]) -> Outcome<()> {
        self.writer
            .send(request)
            .map_err(|error| format!("Consul cannot be written to: {error}."))
    }

    /// Reads the answer to [`Catalog::send`].
    pub fn finish(&mut self) -> Outcome<()> {
        self.writer.confirmed()
    }

    /// The passing instances of a service.
    pub fn places(&self, service: &str) -> Outcome<BTreeSet<Place>> {
        let found = self
            .consul
            .get(&format!("/v1/health/service/{service}?passing=1"))?;
        Ok(places(&found))
    }

    fn put(&mut self, path: &str, body: &Value) -> Outcome<()> {
        self.send(&request("PUT", path, &body.to_string()))?;
        self.finish()
    }
}

/// What an answer of `/v1/health/service` holds.
pub fn places(answer: &Value) -> BTreeSet<Place> {
    let entries = answer.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| {
            let service = &entry["Service"];
            let ip: IpAddr = service["Address"].as_str()?.parse().ok()?;
            let port = u16::try_from(service["Port"].as_u64()?).ok()?;
            let weight = u16::try_from(service["Weights"]["Passing"].as_u64()?).ok()?;
            Some((SocketAddr::new(ip, port), weight))
        })
        .collect()
}

fn node(number: usize) -> String {
    format!("n{number}")
}

fn other(number: usize) -> String {
    format!("other-{number:04}")
}

//! What Consul holds: services with instances that are spread over nodes, each with a check, and the
//! changes of them. Everything is written straight to the catalog over one connection, and a copy here
//! says what HAProxy must run.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Shape;
use crate::wire::{Connection, request};
use support::Outcome;
use support::consul::Consul;

/// Consul takes 64 operations in a transaction (1.8 "api-docs/txn"); an instance and its check are two.
const OPERATIONS: usize = 64;
/// Addresses of one block: 250 networks of 250 hosts.
const BLOCK: u32 = 250 * 250;

/// A change of one service.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// The check of an instance becomes critical.
    Fail { service: usize, instance: usize },
    /// The check of an instance becomes passing.
    Recover { service: usize, instance: usize },
    /// A new instance is registered, with a passing check.
    Add { service: usize },
    /// An instance gets another address.
    Move { service: usize, instance: usize },
}

/// What traffic must show after a change.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The service that changed.
    pub service: usize,
    /// The instance that changed.
    pub instance: usize,
    /// The address of the instance.
    pub address: Ipv4Addr,
    /// Whether the address serves requests, or else gets none.
    pub serves: bool,
}

struct Instance {
    address: Ipv4Addr,
    passing: bool,
}

/// A Consul with its default limits, and a copy of what it holds.
pub struct Registry {
    consul: Consul,
    writer: Connection,
    shape: Shape,
    nodes: usize,
    port: u16,
    services: Vec<Vec<Instance>>,
    /// How many addresses were given to instances.
    addresses: u32,
}

impl Registry {
    /// Starts Consul and registers all services. The last instance of each service for which
    /// `critical` holds starts with a critical check.
    pub fn start(
        shape: Shape,
        nodes: usize,
        port: u16,
        critical: impl Fn(usize) -> bool,
    ) -> Outcome<Registry> {
        support::tools::choose_any_consul();
        let consul = Consul::start()?;
        let writer = Connection::open(consul.address(), Duration::from_secs(20))
            .map_err(|error| format!("Consul cannot be reached: {error}."))?;
        let mut registry = Registry {
            consul,
            writer,
            shape,
            nodes,
            port,
            services: Vec::new(),
            addresses: 0,
        };
        for number in 0..nodes {
            let name = node(number);
            // Not `serfHealth`: Consul removes nodes with that check that are no members of its cluster.
            let check = json!({"Node": name, "CheckID": "alive", "Name": "The node lives", "Status": "passing"});
            let body = json!({"Node": name, "Address": "127.0.0.1", "Check": check});
            registry.write("/v1/catalog/register", &body)?;
        }
        for service in 0..shape.services {
            let mut instances = Vec::new();
            for number in 0..shape.instances {
                let last = number + 1 == shape.instances;
                instances.push(Instance {
                    address: registry.next_address(),
                    passing: !(last && critical(service)),
                });
            }
            registry.services.push(instances);
        }
        let mut operations = Vec::new();
        for service in 0..shape.services {
            for instance in 0..shape.instances {
                let node = registry.node_of(service, instance);
                let [described, mut check] = registry.described(service, instance);
                check["Node"] = json!(node);
                operations
                    .push(json!({"Service": {"Verb": "set", "Node": node, "Service": described}}));
                operations.push(json!({"Check": {"Verb": "set", "Check": check}}));
            }
        }
        for piece in operations.chunks(OPERATIONS) {
            registry.write("/v1/txn", &json!(piece))?;
        }
        Ok(registry)
    }

    /// Consul itself.
    pub fn consul(&self) -> &Consul {
        &self.consul
    }

    /// How many services there are.
    pub fn count(&self) -> usize {
        self.services.len()
    }

    /// The instances of a service whose checks are passing.
    pub fn passing(&self, service: usize) -> Vec<usize> {
        let instances = self.services[service].iter().enumerate();
        instances
            .filter_map(|(number, instance)| instance.passing.then_some(number))
            .collect()
    }

    /// An instance of the service whose check is critical.
    pub fn critical(&self, service: usize) -> Option<usize> {
        let mut instances = self.services[service].iter();
        instances.position(|instance| !instance.passing)
    }

    /// The addresses that HAProxy must run, of all services.
    pub fn expected(&self) -> BTreeSet<SocketAddr> {
        let all = self.services.iter().flatten();
        all.filter(|instance| instance.passing)
            .map(|instance| SocketAddr::from((instance.address, self.port)))
            .collect()
    }

    /// Sends a change, whose answer [`Registry::finish`] reads.
    pub fn send(&mut self, change: Change) -> Outcome<Expected> {
        let (service, instance) = match change {
            Change::Fail { service, instance } => {
                self.services[service][instance].passing = false;
                (service, instance)
            }
            Change::Recover { service, instance } => {
                self.services[service][instance].passing = true;
                (service, instance)
            }
            Change::Add { service } => {
                let address = self.next_address();
                self.services[service].push(Instance {
                    address,
                    passing: true,
                });
                (service, self.services[service].len() - 1)
            }
            Change::Move { service, instance } => {
                self.services[service][instance].address = self.next_address();
                (service, instance)
            }
        };
        let node = self.node_of(service, instance);
        let [described, check] = self.described(service, instance);
        let mut body = json!({"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": true});
        if matches!(change, Change::Add { .. } | Change::Move { .. }) {
            body["Service"] = described;
        }
        if !matches!(change, Change::Move { .. }) {
            body["Check"] = check;
        }
        self.send_body("/v1/catalog/register", &body)?;
        let Instance { address, passing } = self.services[service][instance];
        Ok(Expected {
            service,
            instance,
            address,
            serves: passing,
        })
    }

    /// Registers the one instance of a service outside the configuration at an address of its own, which
    /// is returned; [`Registry::finish`] reads the answer.
    pub fn send_alone(&mut self, name: &str) -> Outcome<Ipv4Addr> {
        let address = self.next_address();
        let body = json!({
            "Node": node(0), "Address": "127.0.0.1", "SkipNodeUpdate": true,
            "Service": {
                "ID": name, "Service": name, "Address": address, "Port": self.port,
                "Weights": {"Passing": 1, "Warning": 1},
            },
        });
        self.send_body("/v1/catalog/register", &body)?;
        Ok(address)
    }

    /// Reads the answer to the last change.
    pub fn finish(&mut self) -> Outcome<()> {
        self.writer.confirmed()
    }

    fn write(&mut self, path: &str, body: &Value) -> Outcome<()> {
        self.send_body(path, body)?;
        self.finish()
    }

    fn send_body(&mut self, path: &str, body: &Value) -> Outcome<()> {
        self.writer
            .send(&request("PUT", path, &body.to_string()))
            .map_err(|error| format!("Consul cannot be written to: {error}."))
    }

    /// An instance and its check, as Consul takes them.
    fn described(&self, service: usize, number: usize) -> [Value; 2] {
        let instance = &self.services[service][number];
        let name = name(service);
        let id = format!("{name}-{number}");
        let status = if instance.passing {
            "passing"
        } else {
            "critical"
        };
        let check = json!({"CheckID": format!("check-{id}"), "Name": "HTTP", "ServiceID": id, "Status": status});
        let described = json!({
            "ID": id, "Service": name, "Address": instance.address, "Port": self.port,
            "Tags": [format!("urlprefix-{}/", host(service))],
            "Weights": {"Passing": 1, "Warning": 1},
        });
        [described, check]
    }

    /// The instances of a service lie on different nodes, where there are enough.
    fn node_of(&self, service: usize, instance: usize) -> String {
        node((service * self.shape.instances + instance) % self.nodes)
    }

    fn next_address(&mut self) -> Ipv4Addr {
        let number = self.addresses;
        self.addresses += 1;
        let [.., block] = (20 + number / BLOCK).to_be_bytes();
        let [.., network] = (number / 250 % 250).to_be_bytes();
        let [.., host] = (number % 250 + 1).to_be_bytes();
        Ipv4Addr::new(127, block, network, host)
    }
}

/// The name of a service.
pub fn name(service: usize) -> String {
    format!("scale-{service:04}")
}

/// The host by which clients ask for a service.
pub fn host(service: usize) -> String {
    format!("{}.example", name(service))
}

fn node(number: usize) -> String {
    format!("node-{number:03}")
}

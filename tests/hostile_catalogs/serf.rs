//! Members of a real Serf cluster. What no agent takes for itself is told as if one had: see [`Teller`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::thread::JoinHandle;

use fastrand::Rng;
use rmpv::Value;

use super::*;
use support::serf::{Agent, Teller};

/// More agents than this do not run at a time; the oldest fail.
const MOST_AGENTS: usize = 5;
/// Tags with a meaning of their own, and some without.
const NAMES: [&str; 16] = [
    "role",
    "service",
    "port",
    "port.web",
    "address",
    "address.web",
    "weight",
    "id",
    "tags",
    "dc",
    "drain",
    "maintenance",
    "note",
    "role.web",
    ".",
    "",
];
const STATES: [&str; 8] = [
    "alive", "alive", "alive", "failed", "leaving", "left", "none", "Alive\n",
];
/// Bytes that are no UTF-8.
const NO_TEXT: [&[u8]; 3] = [b"\xff", b"caf\xe9", b"\xed\xa0\x80"];

/// A name and tags of any bytes.
#[derive(Clone)]
struct Made {
    node: Vec<u8>,
    tags: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Made {
    fn tags(&self) -> Value {
        let tags = self.tags.iter();
        let tags = tags.map(|(name, value)| (Teller::text(name), Teller::text(value)));
        Value::Map(tags.collect())
    }

    /// As it stands in Serf's answer to `members`.
    fn told(&self, address: Value, port: u16, state: &str, tags: Value) -> Value {
        let fields = [
            ("Addr", address),
            ("Name", Teller::text(&self.node)),
            ("Port", port.into()),
            ("Status", state.into()),
            ("Tags", tags),
        ];
        Value::Map(fields.map(|(name, value)| (name.into(), value)).into())
    }
}

impl std::fmt::Display for Made {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.100}", self.node.escape_ascii().to_string())?;
        for (name, value) in &self.tags {
            let tag = format!("{}={}", name.escape_ascii(), value.escape_ascii());
            write!(out, " | {tag:.300}")?;
        }
        Ok(())
    }
}

/// What an agent does, or what becomes of it.
#[derive(Debug)]
enum Act {
    /// A command of Serf's.
    Command(&'static str, Vec<OsString>),
    Fail,
    Return,
}

fn bytes(random: &mut Rng) -> Vec<u8> {
    let mut bytes = text(random).into_bytes();
    if random.u8(..8) == 0 {
        bytes.extend(NO_TEXT[random.usize(..NO_TEXT.len())]);
    }
    bytes
}

fn value(random: &mut Rng, name: &str) -> Vec<u8> {
    let number = |random: &mut Rng| {
        ["1", "0", "-1", "257", "65536", "1e9", " 8", "٣"][random.usize(..8)].to_owned()
    };
    let known = match name {
        "role" | "service" => match random.u8(..3) {
            0 => "web".to_owned(),
            1 => (0..random.u8(..100))
                .map(|_| format!("{},", random.alphabetic()))
                .collect(),
            _ => format!("web,{}", text(random)),
        },
        "port" | "port.web" => match random.u8(..3) {
            0 => number(random),
            _ => random.u16(1..).to_string(),
        },
        "address" | "address.web" => ADDRESSES[random.usize(..ADDRESSES.len())].to_owned(),
        "weight" => number(random),
        "tags" => (0..random.u8(..4))
            .map(|_| format!("{},", tag(random)))
            .collect(),
        "drain" | "maintenance" => ["true", "false", "TRUE ", ""][random.usize(..4)].to_owned(),
        _ => return bytes(random),
    };
    match random.u8(..5) {
        0 => bytes(random),
        _ => known.into_bytes(),
    }
}

fn tags(random: &mut Rng) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut tags = vec![
        (b"role".to_vec(), value(random, "role")),
        (b"port".to_vec(), value(random, "port")),
    ];
    if random.bool() {
        tags.push((b"tags".to_vec(), value(random, "tags")));
    }
    for _ in 0..random.u8(..6) {
        let name = NAMES[random.usize(..NAMES.len())];
        let value = value(random, name);
        let name = match random.u8(..5) {
            0 => bytes(random),
            _ => name.as_bytes().to_vec(),
        };
        tags.push((name, value));
    }
    tags
}

/// Serf itself takes 512 bytes of tags; in half of the members each text is short enough for it.
fn member(random: &mut Rng, short: bool) -> Made {
    let mut made = Made {
        node: bytes(random),
        tags: tags(random),
    };
    if short {
        made.node.truncate(200);
        for (name, value) in &mut made.tags {
            name.truncate(20);
            value.truncate(80);
        }
    }
    made
}

/// As Serf's flags take them.
fn words(tags: &[(Vec<u8>, Vec<u8>)]) -> Vec<OsString> {
    let word = |(name, value): &(Vec<u8>, Vec<u8>)| [name.as_slice(), b"=", value].concat();
    tags.iter().map(word).map(OsString::from_vec).collect()
}

fn acts(random: &mut Rng) -> Vec<Act> {
    let word = |random: &mut Rng| OsString::from_vec(bytes(random).into_iter().take(300).collect());
    let mut acts = Vec::new();
    for _ in 0..random.u8(..4) {
        match random.u8(..6) {
            0 => acts.push(Act::Command("event", vec![word(random), word(random)])),
            1 => {
                let wait = "-timeout=50ms".into();
                acts.push(Act::Command(
                    "query",
                    vec![wait, word(random), word(random)],
                ));
            }
            2 => {
                let set = words(&member(random, true).tags).into_iter();
                let set = set.flat_map(|tag| ["-set".into(), tag]).collect();
                acts.push(Act::Command("tags", set));
            }
            3 => acts.push(Act::Command("tags", vec!["-delete".into(), "port".into()])),
            4 => acts.extend([Act::Command("leave", Vec::new()), Act::Return]),
            _ => acts.extend([Act::Fail, Act::Return, Act::Fail, Act::Return]),
        }
    }
    acts
}

/// What Serf or the system refuses of it is no harm.
fn act(agent: &mut Agent, act: &Act, gossip: &str) {
    let _ = match act {
        Act::Command(name, rest) => agent.command(name, rest).map(drop),
        Act::Fail => {
            agent.kill();
            Ok(())
        }
        Act::Return => agent.restart(None).and_then(|()| agent.join(gossip)),
    };
}

/// A member as an agent tells it, in any state and at any address.
fn told(random: &mut Rng, made: &Made) -> Value {
    let address = match random.u8(..6) {
        0 => Value::Nil,
        1 => Value::Binary(vec![0; random.usize(..20)]),
        2 => Value::Binary(vec![0xff; 16]),
        _ => Value::Binary(vec![127, 0, 0, 1]),
    };
    let tags = match random.u8(..10) {
        0 => Value::Nil,
        1 => Value::Array(Vec::new()),
        _ => made.tags(),
    };
    let state = STATES[random.usize(..STATES.len())];
    made.told(address, random.u16(..), state, tags)
}

/// A cluster.
struct Cluster {
    balancer: Agent,
    teller: Teller,
    good: Vec<Agent>,
    hostile: Vec<JoinHandle<Agent>>,
    refused: Vec<Made>,
    taken: usize,
}

impl Cluster {
    fn start() -> Cluster {
        let balancer = Agent::start("lb", &[("role", "lb")], None).unwrap();
        Cluster {
            teller: Teller::start(&balancer).unwrap(),
            balancer,
            good: Vec::new(),
            hostile: Vec::new(),
            refused: Vec::new(),
            taken: 0,
        }
    }
}

impl Catalog for Cluster {
    const NAME: &str = "hostile members";

    fn settings(&self) -> String {
        let address = self.teller.rpc();
        format!("[catalog]\nsource = \"serf\"\n[serf]\naddresses = [\"{address}\"]\n")
    }

    fn disturb(&mut self, random: &mut Rng, _round: u64) -> String {
        let mut agents: Vec<Agent> = self
            .hostile
            .drain(..)
            .map(|one| one.join().unwrap())
            .collect();
        let mut tells = String::new();
        for _ in 0..random.u8(1..3) {
            let made = member(random, true);
            tells += &format!("{made}\n");
            match Agent::start_odd(
                &OsString::from_vec(made.node.clone()),
                words(&made.tags),
                &self.balancer,
            ) {
                Ok(agent) => agents.push(agent),
                Err(_) => self.refused.push(made),
            }
        }
        self.taken += agents.len();
        // A member stays, whatever becomes of its tags and state.
        let more = match random.u8(..6) {
            0 => random.u8(..200),
            _ => random.u8(..20),
        };
        for _ in 0..more {
            let short = random.bool();
            self.refused.push(member(random, short));
        }
        self.taken += self.refused.len();
        for made in &mut self.refused {
            if random.bool() {
                made.tags = tags(random);
            }
            tells += &format!("{made}\n");
        }
        let list = self.refused.iter().map(|made| told(random, made)).collect();
        self.teller.set_members(list);
        agents.drain(..agents.len().saturating_sub(MOST_AGENTS));
        // They act while the next good member joins.
        for mut agent in agents {
            let (acts, gossip) = (acts(random), self.balancer.gossip());
            tells += &format!("{:.100} {acts:.300?}\n", agent.name());
            self.hostile.push(std::thread::spawn(move || {
                acts.iter().for_each(|one| act(&mut agent, one, &gossip));
                agent
            }));
        }
        tells
    }

    fn enter(&mut self, name: &str, address: SocketAddr) {
        let (port, tags) = (address.port().to_string(), format!("urlprefix-{name}/"));
        let tags = [("role", name), ("port", &port), ("tags", &tags)];
        let agent = Agent::start(name, &tags, Some(&self.balancer)).unwrap();
        self.good.push(agent);
    }

    fn taken(&self) -> usize {
        self.taken
    }
}

#[test]
fn routes_of_others_go_on_beside_any_members() {
    routes_beside(Cluster::start());
}

#[test]
fn a_template_of_servers_goes_on_beside_any_members() {
    template_beside(Cluster::start(), SERVERS);
}

#[test]
fn a_template_of_tags_goes_on_beside_any_members() {
    template_beside(Cluster::start(), TAGS);
}

#[test]
fn a_template_of_metadata_goes_on_beside_any_members() {
    template_beside(Cluster::start(), METADATA);
}

#[test]
fn serfs_own_client_reads_the_members_that_are_told() {
    let agent = Agent::start("lb", &[("role", "web"), ("port", "80")], None).unwrap();
    let teller = Teller::start(&agent).unwrap();
    let made = Made {
        node: b"told".to_vec(),
        tags: vec![
            (b"role".to_vec(), b"web".to_vec()),
            (b"port".to_vec(), b"80".to_vec()),
        ],
    };
    let (tags, address) = (made.tags(), Value::Binary(vec![127, 0, 0, 1]));
    teller.set_members(vec![made.told(address, 7, "alive", tags)]);
    let ask = [
        "-rpc-addr".to_owned(),
        teller.rpc(),
        "-format=json".to_owned(),
    ];
    let output = agent.command("members", &ask).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [own, told] = answer["members"].as_array().unwrap().as_slice() else {
        panic!("{answer}");
    };
    assert_eq!(
        (&own["name"], &told["name"]),
        (&"lb".into(), &"told".into())
    );
    assert_eq!(told["addr"], "127.0.0.1:7");
    for field in ["tags", "status"] {
        assert_eq!(own[field], told[field], "{answer}");
    }
}

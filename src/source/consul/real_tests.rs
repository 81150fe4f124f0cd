//! The source against a real Consul 1.8.7 agent, which keeps the fake of `tests` honest.
//!
//! The executable is `consul/consul` under `GATEWRIGHT_TOOLS`, by default `target/tools`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::{Update, WatchId};
use super::{
    Address, Consul, ConsulError, ErrorClass, Options, ReadError, Secret, TlsOptions, TokenSource,
    Watch,
};
use crate::catalog::{Answer, HealthFilter, Kind, Meta, Query, Scope, Status};
use crate::haproxy::testing::ports;

const PATIENCE: Duration = Duration::from_secs(30);

fn executable() -> PathBuf {
    let tools = std::env::var_os("GATEWRIGHT_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"),
        PathBuf::from,
    );
    let path = tools.join("consul/consul");
    assert!(
        path.is_file(),
        "Consul is missing at {}: fetch the test tools, or set GATEWRIGHT_TOOLS to their folder.",
        path.display()
    );
    path
}

/// A server agent of its own, stopped when dropped.
struct Agent {
    child: Child,
    folder: tempfile::TempDir,
    token: Option<String>,
    http: u16,
    https: u16,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    async fn start(extra: Value) -> Agent {
        let ports: [u16; 4] = ports::free().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = json!({
            "node_name": "n1", "bind_addr": "127.0.0.1",
            "ports": {"http": ports[0], "https": -1, "dns": -1, "grpc": -1, "server": ports[2],
                      "serf_lan": ports[3], "serf_wan": -1},
        });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        if config.get("key_file").is_some() {
            config["ports"]["https"] = json!(ports[1]);
        }
        if config.get("addresses").is_some() {
            let socket = folder.path().join("consul.sock");
            config["addresses"]["http"] = json!(format!("127.0.0.1 unix://{}", socket.display()));
        }
        let path = folder.path().join("agent.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let agent = Agent {
            child: Agent::spawn(folder.path()),
            folder,
            token: config["acl"]["tokens"]["master"]
                .as_str()
                .map(str::to_owned),
            http: ports[0],
            https: ports[1],
        };
        agent.wait().await;
        agent
    }

    fn spawn(folder: &Path) -> Child {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        Command::new(executable())
            .args(["agent", "-dev", "-config-file"])
            .arg(folder.join("agent.json"))
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    async fn restart(&mut self) {
        self.child = Agent::spawn(self.folder.path());
        self.wait().await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a leader and for the agent's own node.
    async fn wait(&self) {
        let consul = self.consul();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let nodes = consul.read_once(&of(nodes()), PATIENCE).await;
            if nodes.as_ref().is_ok_and(|(answer, _)| !answer.is_empty()) {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{nodes:?}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn address(&self) -> Address {
        format!("127.0.0.1:{}", self.http).parse().unwrap()
    }

    fn consul(&self) -> Consul {
        self.consul_with(self.token.as_ref().map_or(TokenSource::None, |token| {
            TokenSource::Value(Secret::new(token.clone()))
        }))
    }

    fn consul_with(&self, token: TokenSource) -> Consul {
        Consul::new(Options {
            addresses: vec![self.address()],
            token,
            wait: Duration::from_secs(1),
            ..Options::default()
        })
        .unwrap()
    }

    /// A PUT over plain HTTP, with the token that may do everything.
    fn put(&self, path: &str, body: &str) {
        let (status, answer) = self.send("PUT", path, self.token.as_deref(), body.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// One request; the status and the body of its answer.
    fn send(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        let token = token.map_or(String::new(), |token| {
            format!("X-Consul-Token: {token}\r\n")
        });
        // By version 1.0 the answer comes in one piece.
        let head = format!(
            "{method} {path} HTTP/1.0\r\n{token}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    fn register(&self, id: &str, port: u16) {
        let service = json!({"Name": "web", "ID": id, "Port": port, "Tags": ["b", "a"], "Meta": {"k": "v"},
                             "Weights": {"Passing": 3, "Warning": 1}});
        self.put("/v1/agent/service/register", &service.to_string());
    }

    fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), "");
    }
}

fn consul(address: Address, tls: TlsOptions) -> Result<Consul, ConsulError> {
    Consul::new(Options {
        addresses: vec![address],
        tls,
        ..Options::default()
    })
}

fn of(kind: Kind) -> Query {
    Query {
        kind,
        scope: Scope::default(),
    }
}

fn nodes() -> Kind {
    Kind::Nodes {
        near: None,
        filter: None,
        node_meta: Meta::new(),
    }
}

fn watch(consul: &Consul, query: Query) -> (Watch, mpsc::Receiver<Update>) {
    let (out, updates) = mpsc::channel(64);
    (consul.watch(WatchId(1), query, out), updates)
}

/// Waits for an answer that satisfies the condition.
async fn answer_where(updates: &mut mpsc::Receiver<Update>, condition: impl Fn(&Answer) -> bool) {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match tokio::time::timeout_at(deadline, updates.recv()).await {
            Ok(Some(Update::Answered { answer, .. })) if condition(&answer) => return,
            Ok(Some(update)) => seen.push(update),
            _ => panic!("the awaited answer did not come; seen: {seen:?}"),
        }
    }
}

async fn read(consul: &Consul, query: &Query) -> Answer {
    consul.read_once(query, PATIENCE).await.unwrap().0
}

fn ports(answer: &Answer) -> Vec<i64> {
    match answer {
        Answer::Instances(list) => list.iter().map(|instance| instance.port).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn instances_come_and_go() {
    let agent = Agent::start(json!({})).await;
    let consul = Consul::new(Options {
        addresses: vec![agent.address()],
        wait: PATIENCE * 2,
        ..Options::default()
    })
    .unwrap();
    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, Answer::is_empty).await;
    agent.register("w2", 82);
    answer_where(&mut updates, |answer| ports(answer) == [82]).await;
    // A change is seen although it comes while the query blocks, which without one is for longer than is waited here.
    agent.register("w1", 81);
    answer_where(&mut updates, |answer| ports(answer) == [81, 82]).await;
    agent.put("/v1/agent/service/maintenance/w2?enable=true", "");
    answer_where(&mut updates, |answer| ports(answer) == [81]).await;

    let mut any = Query::service("web");
    if let Kind::Service { health, .. } = &mut any.kind {
        *health = HealthFilter::Any;
    }
    let Answer::Instances(list) = read(&consul, &any).await else {
        panic!("not a list of instances");
    };
    let [first, second] = list.as_slice() else {
        panic!("{list:?}");
    };
    assert_eq!(
        (first.status, second.status),
        (Status::Passing, Status::Maintenance)
    );
    assert_eq!(
        (
            first.id.as_str(),
            first.node.as_str(),
            first.address.as_str()
        ),
        ("w1", "n1", "127.0.0.1")
    );
    assert_eq!(
        (first.tags.join(","), first.weight_passing),
        ("a,b".to_owned(), 3)
    );
    assert_eq!(first.service_meta["k"], "v");
    assert_eq!(first.node_datacenter, "dc1");

    agent.deregister("w1");
    answer_where(&mut updates, Answer::is_empty).await;
}

#[tokio::test]
async fn every_other_kind_is_answered() {
    let agent = Agent::start(json!({})).await;
    let consul = agent.consul();
    agent.register("w1", 81);
    let services = Kind::Services {
        node_meta: Meta::new(),
        filter: None,
    };
    let (_services, mut updates) = watch(&consul, of(services));
    answer_where(&mut updates, |answer| match answer {
        Answer::Services(list) => list
            .iter()
            .any(|service| service.name == "web" && service.tags == ["a", "b"]),
        _ => false,
    })
    .await;
    match read(&consul, &of(nodes())).await {
        Answer::Nodes(list) => assert_eq!((list.len(), list[0].name.as_str()), (1, "n1")),
        other => panic!("{other:?}"),
    }
    match read(&consul, &of(Kind::Node { name: "n1".into() })).await {
        Answer::Node(Some(detail)) => {
            assert!(detail.services.iter().any(|service| service.id == "w1"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        read(
            &consul,
            &of(Kind::Node {
                name: "none".into()
            })
        )
        .await,
        Answer::Node(None)
    );
    let (_datacenters, mut updates) = watch(&consul, of(Kind::Datacenters { ignore_down: false }));
    answer_where(&mut updates, |answer| {
        *answer == Answer::Datacenters(vec!["dc1".into()])
    })
    .await;
    assert_eq!(
        read(&consul, &of(Kind::Datacenters { ignore_down: true })).await,
        Answer::Datacenters(vec!["dc1".into()])
    );

    let mut wrong = Query::service("web");
    wrong.scope.datacenter = Some("nowhere".into());
    let error = consul.read_once(&wrong, PATIENCE).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Server, "{error}");
    wrong.scope.datacenter = None;
    if let Kind::Service { filter, .. } = &mut wrong.kind {
        *filter = Some("nonsense ==".into());
    }
    let error = consul.read_once(&wrong, PATIENCE).await.unwrap_err();
    assert!(
        matches!(error.class, ErrorClass::Rejected | ErrorClass::Server),
        "{error}"
    );
}

#[tokio::test]
async fn b16_b20_keys_are_read_watched_and_missed() {
    let agent = Agent::start(json!({})).await;
    let consul = agent.consul();
    let (_watch, mut updates) = watch(&consul, Query::key("app/mode é?"));
    answer_where(&mut updates, |answer| *answer == Answer::Key(None)).await;
    let value = |answer: &Answer| match answer {
        Answer::Key(Some(pair)) => pair.value.clone(),
        _ => None,
    };
    agent.put("/v1/kv/app/mode%20%C3%A9%3F", "fast");
    answer_where(&mut updates, |answer| {
        value(answer).as_deref() == Some("fast")
    })
    .await;
    agent.put("/v1/kv/app/mode%20%C3%A9%3F", "");
    answer_where(&mut updates, |answer| value(answer).as_deref() == Some("")).await;

    let tree = |prefix: &str| {
        of(Kind::Tree {
            prefix: prefix.into(),
        })
    };
    agent.put("/v1/kv/app/", "");
    agent.put("/v1/kv/application/x", "y");
    match read(&consul, &tree("app")).await {
        Answer::Tree(list) => {
            assert_eq!((list.len(), list[0].path.as_str()), (1, "app/mode é?"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&consul, &tree("")).await.len(), 2);
    assert_eq!(read(&consul, &tree("none")).await, Answer::Tree(Vec::new()));
}

#[tokio::test]
async fn a01_a_killed_agent_is_waited_for() {
    let mut agent = Agent::start(json!({})).await;
    let consul = agent.consul();
    agent.put("/v1/kv/a", "1");
    let (_watch, mut updates) = watch(&consul, Query::key("a"));
    answer_where(&mut updates, |answer| answer.len() == 1).await;
    agent.kill();
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");
    // A development agent forgets everything, so its index starts again and the key is gone.
    agent.restart().await;
    answer_where(&mut updates, |answer| *answer == Answer::Key(None)).await;
}

/// Waits for a failure.
async fn next_error(updates: &mut mpsc::Receiver<Update>) -> ReadError {
    let failed = async {
        loop {
            match updates.recv().await {
                Some(Update::Failed { error, .. }) => return error,
                Some(_) => {}
                None => panic!("the watch has ended"),
            }
        }
    };
    timeout(PATIENCE, failed).await.unwrap()
}

/// The policy that the README names; nothing here may need more.
const MINIMAL: &str = r#"service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "" { policy = "read" }"#;

#[tokio::test]
async fn a11_b11_l02_l03_tokens_come_and_go_and_need_only_read() {
    let master = "00000000-1111-2222-3333-444444444444";
    let agent = Agent::start(json!({"acl": {"enabled": true, "default_policy": "deny",
        "tokens": {"master": master, "agent": master}}}))
    .await;
    agent.register("w1", 81);
    agent.put("/v1/kv/a/b", "c");
    let rules = json!({"Name": "gatewright", "Rules": MINIMAL}).to_string();
    agent.put("/v1/acl/policy", &rules);
    let id = |number: u32| format!("{number:08}-aaaa-bbbb-cccc-dddddddddddd");
    let token = |number: u32| {
        let body = json!({"AccessorID": id(number), "SecretID": id(number + 50),
                          "Policies": [{"Name": "gatewright"}]});
        agent.put("/v1/acl/token", &body.to_string());
        id(number + 50)
    };
    let (first, second) = (token(1), token(2));
    let tree = of(Kind::Tree { prefix: "a".into() });

    // Too few rights look like nothing at all, but for a single key. A token that is unknown is refused.
    let anonymous = agent.consul_with(TokenSource::None);
    assert_eq!(read(&anonymous, &Query::service("web")).await.len(), 0);
    assert_eq!(read(&anonymous, &tree).await, Answer::Tree(Vec::new()));
    let error = anonymous
        .read_once(&Query::key("a/b"), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Forbidden, "{error}");
    let unknown = agent.consul_with(TokenSource::Value(Secret::new(id(99))));
    let error = unknown
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Forbidden, "{error}");
    assert!(error.detail.contains("ACL not found"), "{error}");

    // The documented policy is enough for every kind, and lets nothing be written.
    let path = agent.folder.path().join("token");
    std::fs::write(&path, &first).unwrap();
    let consul = agent.consul_with(TokenSource::File(path.clone()));
    let services = of(Kind::Services {
        node_meta: Meta::new(),
        filter: None,
    });
    let node = of(Kind::Node { name: "n1".into() });
    for query in [
        Query::service("web"),
        services,
        of(nodes()),
        node,
        of(Kind::Datacenters { ignore_down: false }),
        Query::key("a/b"),
        tree,
    ] {
        assert!(!read(&consul, &query).await.is_empty(), "{query}");
    }
    assert_eq!(agent.send("PUT", "/v1/kv/a/b", Some(&first), b"x").0, 403);

    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, |answer| ports(answer) == [81]).await;
    let (status, _) = agent.send(
        "DELETE",
        &format!("/v1/acl/token/{}", id(1)),
        Some(master),
        b"",
    );
    assert_eq!(status, 200);
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::Forbidden, "{error}");
    // The next one is laid beside it and moved over it.
    std::fs::write(path.with_extension("new"), format!("{second}\n")).unwrap();
    std::fs::rename(path.with_extension("new"), &path).unwrap();
    let back = async {
        while let Some(update) = updates.recv().await {
            match update {
                Update::Unchanged { .. } => return,
                Update::Answered { answer, .. } => panic!("{answer:?}"),
                Update::Failed { .. } => {}
            }
        }
    };
    timeout(PATIENCE, back).await.unwrap();

    // A token that Consul does not know yet leaves the one before in use.
    let third = id(53);
    std::fs::write(&path, &third).unwrap();
    agent.register("w2", 82);
    answer_where(&mut updates, |answer| ports(answer) == [81, 82]).await;
    let deadline = Instant::now() + PATIENCE;
    while consul.status().token.problem.is_none() {
        assert!(
            Instant::now() < deadline,
            "the unknown token was not noticed"
        );
        let _ = timeout(Duration::from_millis(50), updates.recv()).await;
    }
    assert_eq!(token(3), third);
    while consul.status().token.problem.is_some() {
        assert!(Instant::now() < deadline, "the new token was not taken");
        let _ = timeout(Duration::from_millis(50), updates.recv()).await;
    }
}

#[tokio::test]
async fn b01_b04_a_restored_snapshot_is_followed() {
    let agent = Agent::start(json!({})).await;
    agent.put("/v1/kv/a", "old");
    let (status, snapshot) = agent.send("GET", "/v1/snapshot", None, b"");
    assert_eq!(status, 200);
    let value = |answer: &Answer, what: &str| match answer {
        Answer::Key(Some(pair)) => pair.value.as_deref() == Some(what),
        _ => false,
    };
    for count in 0..30 {
        agent.put("/v1/kv/noise", &count.to_string());
    }
    agent.put("/v1/kv/a", "new");
    let (_watch, mut updates) = watch(&agent.consul(), Query::key("a"));
    answer_where(&mut updates, |answer| value(answer, "new")).await;
    let (status, _) = agent.send("PUT", "/v1/snapshot", None, &snapshot);
    assert_eq!(status, 200);
    answer_where(&mut updates, |answer| value(answer, "old")).await;
    agent.put("/v1/kv/a", "newer");
    answer_where(&mut updates, |answer| value(answer, "newer")).await;
}

#[tokio::test]
async fn a_unix_socket_is_an_address() {
    let agent = Agent::start(json!({"addresses": {}})).await;
    let socket = agent.folder.path().join("consul.sock");
    let address = format!("unix://{}", socket.display()).parse().unwrap();
    let consul = consul(address, TlsOptions::default()).unwrap();
    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, Answer::is_empty).await;
    agent.register("w1", 81);
    answer_where(&mut updates, |answer| ports(answer) == [81]).await;
}

/// A certificate authority that writes its own and others' certificates into a folder.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), cert.pem()).unwrap();
        Authority {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes `file.pem` and `file.key` for a DNS name.
    fn issue(&self, file: &str, name: &str) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.join(format!("{file}.pem")), cert.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn a15_tls_with_a_private_authority_client_certificate_and_server_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path(), "ca");
    authority.issue("server", "server.dc1.consul");
    authority.issue("client", "gatewright.local");
    let stranger = Authority::new(folder.path(), "stranger");
    stranger.issue("strange", "gatewright.local");
    let agent = Agent::start(json!({
        "ca_file": path("ca.pem"), "cert_file": path("server.pem"), "key_file": path("server.key"),
        "verify_incoming_https": true,
    }))
    .await;
    let address: Address = format!("https://127.0.0.1:{}", agent.https)
        .parse()
        .unwrap();
    let good = TlsOptions {
        ca_file: Some(path("ca.pem")),
        client_cert: Some(path("client.pem")),
        client_key: Some(path("client.key")),
        server_name: Some("server.dc1.consul".into()),
        ..TlsOptions::default()
    };
    let query = of(Kind::Datacenters { ignore_down: false });
    let outcome = async |tls: TlsOptions| {
        let consul = consul(address.clone(), tls).unwrap();
        let read = consul.read_once(&query, PATIENCE).await;
        read.map(|(answer, _)| answer.len())
            .map_err(|error| error.class)
    };
    assert_eq!(outcome(good.clone()).await, Ok(1));
    let folder_of_authorities = tempfile::tempdir().unwrap();
    std::fs::copy(path("ca.pem"), folder_of_authorities.path().join("one.pem")).unwrap();
    let by_folder = TlsOptions {
        ca_file: None,
        ca_path: Some(folder_of_authorities.path().into()),
        ..good.clone()
    };
    assert_eq!(outcome(by_folder).await, Ok(1));
    let no_name = TlsOptions {
        server_name: None,
        ..good.clone()
    };
    assert_eq!(outcome(no_name.clone()).await, Err(ErrorClass::Tls));
    let careless = TlsOptions {
        insecure_skip_verify: true,
        ..no_name
    };
    assert_eq!(outcome(careless).await, Ok(1));
    let other_authority = TlsOptions {
        ca_file: Some(path("stranger.pem")),
        ..good.clone()
    };
    assert_eq!(outcome(other_authority).await, Err(ErrorClass::Tls));
    let no_certificate = TlsOptions {
        client_cert: None,
        client_key: None,
        ..good.clone()
    };
    assert_eq!(outcome(no_certificate).await, Err(ErrorClass::Tls));
    let strange = TlsOptions {
        client_cert: Some(path("strange.pem")),
        client_key: Some(path("strange.key")),
        ..good.clone()
    };
    assert_eq!(outcome(strange).await, Err(ErrorClass::Tls));
    // Plain HTTP to the TLS port is an error, and so is a pair that does not belong together.
    let plain = consul(
        format!("127.0.0.1:{}", agent.https).parse().unwrap(),
        TlsOptions::default(),
    )
    .unwrap();
    let error = plain.read_once(&query, PATIENCE).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Rejected, "{error}");
    let mixed = TlsOptions {
        client_key: Some(path("strange.key")),
        ..good.clone()
    };
    assert!(matches!(
        consul(address.clone(), mixed),
        Err(ConsulError::Tls(_))
    ));
}

#[tokio::test]
async fn a16_a_rotated_client_certificate_is_taken_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path(), "ca");
    authority.issue("server", "server.dc1.consul");
    Authority::new(folder.path(), "stranger").issue("client", "gatewright.local");
    authority.issue("next", "gatewright.local");
    let agent = Agent::start(json!({
        "ca_file": path("ca.pem"), "cert_file": path("server.pem"), "key_file": path("server.key"),
        "verify_incoming_https": true,
    }))
    .await;
    let address: Address = format!("https://127.0.0.1:{}", agent.https)
        .parse()
        .unwrap();
    let tls = TlsOptions {
        ca_file: Some(path("ca.pem")),
        client_cert: Some(path("client.pem")),
        client_key: Some(path("client.key")),
        server_name: Some("server.dc1.consul".into()),
        ..TlsOptions::default()
    };
    let consul = consul(address, tls).unwrap();
    let (_watch, mut updates) = watch(&consul, of(Kind::Datacenters { ignore_down: false }));
    let first = timeout(PATIENCE, updates.recv()).await.unwrap().unwrap();
    assert!(
        matches!(&first, Update::Failed { error, .. } if error.class == ErrorClass::Tls),
        "{first:?}"
    );
    std::fs::copy(path("next.pem"), path("client.pem")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while consul.status().tls_problem.is_none() {
        assert!(
            Instant::now() < deadline,
            "the half-written pair was not noticed"
        );
        let _ = timeout(Duration::from_millis(20), updates.recv()).await;
    }
    std::fs::copy(path("next.key"), path("client.key")).unwrap();
    answer_where(&mut updates, |answer| answer.len() == 1).await;
    assert_eq!(consul.status().tls_problem, None);
}

//! The source against a real Consul 1.8.7, which keeps the fake server of the other tests honest.

use std::collections::BTreeMap;
use std::time::Duration;

use gatewright::catalog::guard::{Permission, Right};
use gatewright::catalog::{Answer, HealthFilter, Kind, Query, Scope, Status};
use gatewright::source::consul::{
    Address, Consul, ConsulError, ErrorClass, Options, ReadError, TlsOptions, TokenSource,
};
use gatewright::source::{Secret, Update, Watch, WatchId};
use serde_json::json;
use support::consul::{Consul as Agent, Token};
use support::consuls;
use support::http;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

mod many;
mod tls;

const PATIENCE: Duration = Duration::from_secs(30);

fn address(agent: &Agent) -> Address {
    agent.url().parse().unwrap()
}

/// The source that reads from an agent, without a token.
fn source(agent: &Agent) -> Consul {
    source_with(agent, TokenSource::None)
}

fn source_with(agent: &Agent, token: TokenSource) -> Consul {
    Consul::new(Options {
        addresses: vec![address(agent)],
        token,
        wait: Duration::from_secs(1),
        ..Options::default()
    })
    .unwrap()
}

fn register(agent: &Agent, id: &str, port: u16) {
    let service = json!({"Name": "web", "ID": id, "Port": port, "Tags": ["b", "a"], "Meta": {"k": "v"},
                         "Weights": {"Passing": 3, "Warning": 1}});
    agent.register(&service).unwrap();
}

fn set_key(agent: &Agent, key: &str, value: &str) {
    agent.set_key(key, value).unwrap();
}

/// The source that reads from an address by TLS options.
fn source_at(address: Address, tls: TlsOptions) -> Result<Consul, ConsulError> {
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
        node_meta: BTreeMap::new(),
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

#[consuls]
async fn instances_come_and_go() {
    let agent = Agent::start().unwrap();
    let consul = Consul::new(Options {
        addresses: vec![address(&agent)],
        wait: PATIENCE * 2,
        ..Options::default()
    })
    .unwrap();
    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, Answer::is_empty).await;
    register(&agent, "w2", 82);
    answer_where(&mut updates, |answer| ports(answer) == [82]).await;
    // A change is seen although it comes while the query blocks, which without one is for longer than is waited here.
    register(&agent, "w1", 81);
    answer_where(&mut updates, |answer| ports(answer) == [81, 82]).await;
    agent.maintenance("w2", true).unwrap();
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
            first.node.name.as_str(),
            first.address.as_str()
        ),
        ("w1", "test", "127.0.0.1")
    );
    assert_eq!(
        (first.tags.join(","), first.weight_passing),
        ("a,b".to_owned(), 3)
    );
    assert_eq!(first.service_meta.get("k").map(String::as_str), Some("v"));
    assert_eq!(first.node.datacenter, "dc1");

    agent.deregister("w1").unwrap();
    answer_where(&mut updates, Answer::is_empty).await;
}

#[consuls]
async fn every_other_kind_is_answered() {
    let agent = Agent::start().unwrap();
    let consul = source(&agent);
    register(&agent, "w1", 81);
    let services = Kind::Services {
        node_meta: BTreeMap::new(),
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
        Answer::Nodes(list) => assert_eq!((list.len(), list[0].name.as_str()), (1, "test")),
        other => panic!("{other:?}"),
    }
    match read(
        &consul,
        &of(Kind::Node {
            name: "test".into(),
        }),
    )
    .await
    {
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

// B16 B20
#[consuls]
async fn keys_are_read_watched_and_missed() {
    let agent = Agent::start().unwrap();
    let consul = source(&agent);
    let (_watch, mut updates) = watch(&consul, Query::key("app/mode é?"));
    answer_where(&mut updates, |answer| *answer == Answer::Key(None)).await;
    let value = |answer: &Answer| match answer {
        Answer::Key(Some(pair)) => pair.value.clone(),
        _ => None,
    };
    set_key(&agent, "app/mode%20%C3%A9%3F", "fast");
    answer_where(&mut updates, |answer| {
        value(answer).as_deref() == Some("fast")
    })
    .await;
    set_key(&agent, "app/mode%20%C3%A9%3F", "");
    answer_where(&mut updates, |answer| value(answer).as_deref() == Some("")).await;

    let tree = |prefix: &str| {
        of(Kind::Tree {
            prefix: prefix.into(),
        })
    };
    set_key(&agent, "app/", "");
    set_key(&agent, "application/x", "y");
    match read(&consul, &tree("app")).await {
        Answer::Tree(list) => {
            assert_eq!((list.len(), list[0].path.as_str()), (1, "app/mode é?"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&consul, &tree("")).await.len(), 2);
    assert_eq!(read(&consul, &tree("none")).await, Answer::Tree(Vec::new()));
}

// A01
#[consuls]
async fn a_killed_agent_is_waited_for() {
    let mut agent = Agent::start().unwrap();
    let consul = source(&agent);
    set_key(&agent, "a", "1");
    let (_watch, mut updates) = watch(&consul, Query::key("a"));
    answer_where(&mut updates, |answer| answer.len() == 1).await;
    agent.kill();
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");
    // A development agent forgets everything, so its index starts again and the key is gone.
    agent.restart().unwrap();
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

/// The policy that `gatewright help consul` names; nothing here may need more.
const MINIMAL: &str = r#"service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "" { policy = "read" }"#;

// A11 B11 L02 L03
#[consuls]
async fn tokens_come_and_go_and_need_only_read() {
    let agent = Agent::start_with_acl().unwrap();
    register(&agent, "w1", 81);
    set_key(&agent, "a/b", "c");
    agent.create_policy("gatewright", MINIMAL).unwrap();
    let id = |number: u32| format!("{number:08}-aaaa-bbbb-cccc-dddddddddddd");
    let token = |number: u32| {
        let body = json!({"AccessorID": id(number), "SecretID": id(number + 50),
                          "Policies": [{"Name": "gatewright"}]});
        agent.put("/v1/acl/token", &body.to_string()).unwrap();
        id(number + 50)
    };
    let (first, second) = (token(1), token(2));
    let tree = of(Kind::Tree { prefix: "a".into() });

    // Too few rights look like nothing at all, but for a single key. A token that is unknown is refused.
    let anonymous = source_with(&agent, TokenSource::None);
    assert_eq!(read(&anonymous, &Query::service("web")).await.len(), 0);
    assert_eq!(read(&anonymous, &tree).await, Answer::Tree(Vec::new()));
    let error = anonymous
        .read_once(&Query::key("a/b"), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Forbidden, "{error}");
    let unknown = source_with(&agent, TokenSource::Value(Secret::new(id(99))));
    let error = unknown
        .read_once(&Query::service("web"), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Forbidden, "{error}");
    assert!(error.detail.contains("ACL not found"), "{error}");

    // The documented policy is enough for every kind, and lets nothing be written.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, &first).unwrap();
    let consul = source_with(&agent, TokenSource::File(path.clone()));
    let services = of(Kind::Services {
        node_meta: BTreeMap::new(),
        filter: None,
    });
    let node = of(Kind::Node {
        name: "test".into(),
    });
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
    let write = format!("/v1/kv/a/b?token={first}");
    let refused = http::put(agent.address(), &write, "x").unwrap();
    assert_eq!(refused.status, 403);

    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, |answer| ports(answer) == [81]).await;
    let deleted = Token {
        accessor: id(1),
        secret: first,
    };
    agent.delete_token(&deleted).unwrap();
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
    register(&agent, "w2", 82);
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

// B01 B04
#[consuls]
async fn a_restored_snapshot_is_followed() {
    let agent = Agent::start().unwrap();
    set_key(&agent, "a", "old");
    let snapshot = agent.snapshot().unwrap();
    let value = |answer: &Answer, what: &str| match answer {
        Answer::Key(Some(pair)) => pair.value.as_deref() == Some(what),
        _ => false,
    };
    for count in 0..30 {
        set_key(&agent, "noise", &count.to_string());
    }
    set_key(&agent, "a", "new");
    let (_watch, mut updates) = watch(&source(&agent), Query::key("a"));
    answer_where(&mut updates, |answer| value(answer, "new")).await;
    agent.restore(&snapshot).unwrap();
    answer_where(&mut updates, |answer| value(answer, "old")).await;
    set_key(&agent, "a", "newer");
    answer_where(&mut updates, |answer| value(answer, "newer")).await;
}

#[consuls]
async fn a_unix_socket_is_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let addresses = format!(
        "-hcl=addresses {{ http = \"127.0.0.1 unix://{}\" }}",
        socket.display()
    );
    let agent = Agent::start_with(&[&addresses]).unwrap();
    let address = format!("unix://{}", socket.display()).parse().unwrap();
    let consul = source_at(address, TlsOptions::default()).unwrap();
    let (_watch, mut updates) = watch(&consul, Query::service("web"));
    answer_where(&mut updates, Answer::is_empty).await;
    register(&agent, "w1", 81);
    answer_where(&mut updates, |answer| ports(answer) == [81]).await;
}

// B10
#[tokio::test]
async fn consul_tells_whether_a_token_may_read_what_is_not_seen() {
    let agent = Agent::start_with_acl().unwrap();
    let rules = r#"service "web" { policy = "read" }
        node_prefix "a" { policy = "read" }
        key_prefix "data/" { policy = "read" }"#;
    agent.create_policy("some", rules).unwrap();
    let token = agent.create_token("some").unwrap();
    let consul = source_with(&agent, TokenSource::Value(Secret::new(token.secret)));
    let ask = async |consul: &Consul, rights: Vec<Right>| {
        let scope = Scope::default();
        consul.permission(&scope, rights, PATIENCE).await
    };
    let node = |name: &str| Right::Node(name.to_owned());
    let some = vec![
        node("a1"),
        Right::Service("web".into()),
        Right::Key("data/x".into()),
    ];
    assert_eq!(ask(&consul, some.clone()).await, Permission::Given);
    for denied in [
        node("b1"),
        Right::Service("web2".into()),
        Right::Key("other".into()),
    ] {
        let mut all = some.clone();
        all.push(denied.clone());
        assert_eq!(ask(&consul, all).await, Permission::Denied(denied));
    }
    // More than Consul takes at a time, the last one of them hidden; and names that are no names.
    let mut many: Vec<Right> = (0..200).map(|number| node(&format!("a{number}"))).collect();
    assert_eq!(ask(&consul, many.clone()).await, Permission::Given);
    many.push(node("z"));
    assert_eq!(ask(&consul, many).await, Permission::Denied(node("z")));
    let odd = node("a\"\\\n\u{0}../%2e");
    assert_eq!(ask(&consul, vec![odd]).await, Permission::Given);

    // A token that is deleted tells nothing; without permissions nothing is hidden.
    agent
        .delete_token(&agent.create_token("some").unwrap())
        .unwrap();
    let unknown = source_with(
        &agent,
        TokenSource::Value(Secret::new(
            "00000000-aaaa-bbbb-cccc-dddddddddddd".to_owned(),
        )),
    );
    assert_eq!(ask(&unknown, some.clone()).await, Permission::Silent);
    let open = Agent::start().unwrap();
    let consul = source_with(&open, TokenSource::None);
    assert_eq!(ask(&consul, some).await, Permission::Certain);
}

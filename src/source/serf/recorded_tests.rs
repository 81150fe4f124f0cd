//! What real agents and their clients sent each other (Serf 0.8.2, `tests/golden/serf`) goes through the codec both
//! ways: read, it is what stands beside the bytes; written again, it is the same bytes. And a whole recorded session
//! is played to the client.

use std::time::Duration;

use rmpv::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::client::Connection;
use super::members::State;
use super::wire::{self, Inbox};
use super::{Key, Mapping, Options, Secret};

const COMMANDS: &str = include_str!("../../../tests/golden/serf/commands.txt");
const EVENTS: &str = include_str!("../../../tests/golden/serf/events.txt");

/// One value of a transcript.
struct Line {
    /// Whether a client sent it.
    sent: bool,
    /// Whether it is the head of a request or an answer.
    head: bool,
    bytes: Vec<u8>,
    /// What stands beside it.
    meaning: serde_json::Value,
}

fn lines(transcript: &str) -> Vec<Line> {
    let lines = transcript.lines().filter_map(|line| {
        let start = line.find(">> ").or_else(|| line.find("<< "))?;
        let mut words = line[start..].splitn(2, ' ');
        let sent = words.next()? == ">>";
        let rest = words.next()?.trim_start();
        let (kind, rest) = rest.split_once(' ')?;
        let (digits, meaning) = rest.trim_start().split_once(' ')?;
        Some(Line {
            sent,
            head: kind == "header",
            bytes: bytes(digits),
            meaning: serde_json::from_str(meaning.trim()).unwrap(),
        })
    });
    lines.collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let two = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(two).collect()
}

fn value(bytes: &[u8]) -> Value {
    let mut inbox = Inbox::new(1 << 20);
    inbox.buffer.extend_from_slice(bytes);
    let value = inbox.next().unwrap().unwrap();
    assert!(inbox.buffer.is_empty());
    value
}

/// As the transcripts write a value; bytes are written `<bin 4: 7f000001>` there.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value)));
            pairs.collect()
        }
        Value::Array(list) => list.iter().map(json).collect(),
        Value::Binary(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("<bin {}: {digits}>", bytes.len()).into()
        }
        Value::String(text) => text.as_str().unwrap().into(),
        Value::Integer(number) => number.as_i64().unwrap().into(),
        Value::F64(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Nil => serde_json::Value::Null,
        other => panic!("{other}"),
    }
}

#[test]
fn recorded_bytes_mean_what_stands_beside_them() {
    let mut count = 0;
    for line in lines(COMMANDS).iter().chain(&lines(EVENTS)) {
        let read = value(&line.bytes);
        // Numbers of a coordinate are shortened there.
        if line.meaning.get("Coord").is_none() {
            assert_eq!(json(&read), line.meaning);
        }
        if line.head && !line.sent {
            let head = wire::head(&read).unwrap();
            assert_eq!(Some(head.seq), line.meaning["Seq"].as_u64());
            assert_eq!(Some(head.error.as_str()), line.meaning["Error"].as_str());
        }
        if let Some(listed) = line.meaning["Members"].as_array() {
            let (members, unreadable) = wire::members(&read).unwrap();
            assert_eq!((members.len(), unreadable.len()), (listed.len(), 0));
            for (member, listed) in members.iter().zip(listed) {
                assert_eq!(Some(member.name.as_str()), listed["Name"].as_str());
                let state = State::parse(listed["Status"].as_str().unwrap());
                assert_ne!(state, State::Unknown);
                assert_eq!(member.state, state);
                let tags = serde_json::to_value(&member.tags).unwrap();
                assert_eq!(tags, listed["Tags"]);
                assert_eq!(member.address, "127.0.0.1".parse().ok());
            }
        }
        count += 1;
    }
    assert_eq!(count, 126);
}

#[test]
fn what_is_written_again_is_what_serfs_clients_and_agents_wrote() {
    let all: Vec<Line> = lines(COMMANDS).into_iter().chain(lines(EVENTS)).collect();
    let mut requests = 0;
    for (at, line) in all.iter().enumerate() {
        let read = value(&line.bytes);
        let mut written = Vec::new();
        rmpv::encode::write_value(&mut written, &read).unwrap();
        assert_eq!(written, line.bytes);
        if !(line.sent && line.head) {
            continue;
        }
        let command = line.meaning["Command"].as_str().unwrap();
        let seq = line.meaning["Seq"].as_u64().unwrap();
        let body = all.get(at + 1).filter(|next| next.sent && !next.head);
        let read = body.map(|body| value(&body.bytes));
        let fields: Option<Vec<(&str, Value)>> = read.as_ref().map(|body| {
            let pairs = body.as_map().unwrap().iter();
            let pairs = pairs.map(|(key, value)| (key.as_str().unwrap(), value.clone()));
            pairs.collect()
        });
        let whole: Vec<u8> = line
            .bytes
            .iter()
            .chain(body.map_or(&[][..], |body| &body.bytes))
            .copied()
            .collect();
        assert_eq!(wire::request(command, seq, fields.as_deref()), whole);
        requests += 1;
    }
    assert_eq!(requests, 30);
}

/// An agent that expects these bytes and answers those.
async fn play(stream: &mut DuplexStream, expected: Option<&[u8]>, answer: &[u8]) {
    if let Some(expected) = expected {
        let mut came = vec![0; expected.len()];
        stream.read_exact(&mut came).await.unwrap();
        assert_eq!(came, expected);
    }
    // In pieces, as a network may hand them over.
    for piece in answer.chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_recorded_session_is_followed_event_by_event() {
    let (stream, mut end_of_agent) = tokio::io::duplex(64 << 10);
    let key = Secret::new("s3cret");
    let options = Options {
        addresses: vec!["agent".to_owned()],
        key: Key::Value(key.clone()),
        mapping: Mapping::default(),
        read_interval: Duration::from_secs(30),
        timeout: Duration::from_secs(20),
        max_answer: 1 << 20,
    };
    let recorded = lines(EVENTS);
    let events: Vec<Vec<u8>> = recorded[9..43]
        .chunks(2)
        .map(|pair| [pair[0].bytes.clone(), pair[1].bytes.clone()].concat())
        .collect();
    let kinds: Vec<String> = recorded[9..43]
        .chunks(2)
        .map(|pair| wire::event(&value(&pair[1].bytes)).unwrap())
        .collect();
    assert_eq!(kinds.len(), 17, "{kinds:?}");
    for kind in ["join", "update", "failed", "leave", "reap"] {
        let kind = format!("member-{kind}");
        assert!(kinds.contains(&kind), "{kind} of {kinds:?}");
    }
    // The answer to `members`, as the other transcript has it with the number 3.
    let listed = lines(COMMANDS);
    let at = listed
        .iter()
        .position(|line| {
            line.sent && line.meaning["Command"] == "members" && line.meaning["Seq"] == 3
        })
        .unwrap();
    let asked = listed[at].bytes.clone();
    let at = listed
        .iter()
        .position(|line| !line.sent && line.meaning["Members"].is_array())
        .unwrap();
    let answer = [listed[at - 1].bytes.clone(), listed[at].bytes.clone()].concat();
    let many = events.len();
    let agent = tokio::spawn(async move {
        let stream = &mut end_of_agent;
        let exchange =
            |at: usize| [recorded[at].bytes.clone(), recorded[at + 1].bytes.clone()].concat();
        play(stream, Some(&exchange(0)), &recorded[2].bytes).await;
        play(stream, Some(&exchange(3)), &recorded[5].bytes).await;
        // The recorded client asked for user events, too.
        let asked_for = wire::request("stream", 2, Some(&[("Type", super::client::EVENTS.into())]));
        play(stream, Some(&asked_for), &recorded[8].bytes).await;
        // An event comes between the question and its answer.
        play(stream, Some(&asked), &events[0]).await;
        play(stream, None, &answer).await;
        for event in &events[1..] {
            play(stream, None, event).await;
        }
        stream.shutdown().await.unwrap();
    });
    let address = options.addresses[0].clone();
    let mut connection = Connection::begin(stream, &address, Some(key), &options)
        .await
        .unwrap();
    connection.subscribe().await.unwrap();
    let (members, unreadable) = connection.members().await.unwrap();
    let names: Vec<&str> = members.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, unreadable.len()), (vec!["lb1", "gw1"], 0));
    for _ in 0..many {
        connection.event().await.unwrap();
    }
    let end = connection.event().await.unwrap_err();
    assert_eq!(end.detail, "the agent closed the connection");
    agent.await.unwrap();
}

//! Answers other than 200, and the token that they are about.

use super::*;

// A12 L01 L05
#[tokio::test]
async fn the_token_goes_to_the_configured_address_only_and_is_never_shown() {
    let other = Fake::start(|_, _| json("X-Consul-Index: 5", &web(666))).await;
    let location = format!("Location: {}/v1/health/service/web", other.address);
    let fake = Fake::start(move |_, n| {
        let headers = [location.as_str()];
        Reply::Whole(match n % 2 {
            0 => reply("302 Found", &headers, b""),
            _ => reply("500 Oops", &[], format!("you sent {CANARY}").as_bytes()),
        })
    })
    .await;
    let consul = fake.consul(|options| {
        options.token = TokenSource::Value(Secret::new(CANARY));
    });
    let (_watch, mut updates) = watch(&consul);
    for class in [ErrorClass::Protocol, ErrorClass::Server] {
        let error = next_error(&mut updates).await;
        assert_eq!(error.class, class, "{error}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
    assert!(fake.requests()[0].contains(&format!("x-consul-token: {CANARY}")));
    assert!(other.requests().is_empty());
    assert!(!format!("{consul:?} {:?}", consul.status()).contains(CANARY));
}

// A11 L02
#[tokio::test]
async fn a_403_reads_the_token_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let fake = Fake::start(|head, _| {
        if head.contains("x-consul-token: new\r\n") {
            blocks(head, &web(1))
        } else {
            Reply::Whole(reply("403 Forbidden", &[], b"ACL not found"))
        }
    })
    .await;
    let consul = fake.consul(|options| options.token = TokenSource::File(path.clone()));
    let (_watch, mut updates) = watch(&consul);
    let error = next_error(&mut updates).await;
    assert_eq!(error.class, ErrorClass::Forbidden);
    assert!(error.detail.contains("ACL not found"), "{error}");
    std::fs::write(&path, "").unwrap();
    next_error(&mut updates).await;
    assert!(consul.status().token.problem.is_some());
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(consul.status().token.problem, None);
}

// A09
#[tokio::test]
async fn a_429_is_left_alone_for_as_long_as_it_asks() {
    let fake = Fake::start(|head, n| match n {
        0 => Reply::Whole(reply("429 Too Many Requests", &["Retry-After: 2"], b"")),
        _ => blocks(head, &web(1)),
    })
    .await;
    let consul = fake.consul(|_| {});
    let began = Instant::now();
    let (_watch, mut updates) = watch(&consul);
    let error = next_error(&mut updates).await;
    assert_eq!(
        (error.class, error.retry_after),
        (ErrorClass::Throttled, Some(Duration::from_secs(2)))
    );
    // Another watch of the same address waits too.
    let (_other, mut others) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(next_port(&mut others).await, 1);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

// A04
/// The HTTP client takes any number of them, and its time is bounded.
#[tokio::test]
async fn a_flood_of_interim_answers_ends_with_the_deadline() {
    for status in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let flood = format!("HTTP/1.1 {status}\r\n\r\n").repeat(64);
        let fake = Fake::start(move |head, n| match n {
            0 => Reply::Flood(flood.clone().into()),
            _ => blocks(head, &web(1)),
        })
        .await;
        let consul = fake.consul(|options| options.margin = Duration::from_millis(300));
        let (_watch, mut updates) = watch(&consul);
        let error = next_error(&mut updates).await;
        assert_eq!(error.class, ErrorClass::Timeout, "{status}");
        assert_eq!(next_port(&mut updates).await, 1, "{status}");
    }
}

#[tokio::test]
async fn only_consul_s_own_404_means_absent() {
    let read = |headers: &'static [&'static str], body: &'static [u8]| async move {
        let fake =
            Fake::start(move |_, _| Reply::Whole(reply("404 Not Found", headers, body))).await;
        let consul = fake.consul(|_| {});
        consul
            .read_once(&Query::key("a"), PATIENCE)
            .await
            .map(|(answer, _)| answer)
    };
    assert_eq!(
        read(&["X-Consul-Index: 5"], b"").await,
        Ok(Answer::Key(None))
    );
    assert!(read(&[], b"").await.is_err());
    assert!(read(&["X-Consul-Index: 5"], b"<html>").await.is_err());
    let class = class_of(reply("404 Not Found", &["X-Consul-Index: 5"], b"")).await;
    assert_eq!(class, ErrorClass::Protocol, "no service answers 404");
}

// A06 A08 A11 A12
#[tokio::test]
async fn each_status_has_its_class() {
    for (status, class) in [
        ("204 No Content", ErrorClass::Protocol),
        ("301 Moved Permanently", ErrorClass::Protocol),
        ("307 Temporary Redirect", ErrorClass::Protocol),
        ("400 Bad Request", ErrorClass::Rejected),
        ("401 Unauthorized", ErrorClass::Forbidden),
        ("503 Service Unavailable", ErrorClass::Server),
    ] {
        assert_eq!(class_of(reply(status, &[], b"")).await, class, "{status}");
    }
}

// B11
#[tokio::test]
async fn a_token_that_ends_while_a_query_blocks_holds_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "short-lived").unwrap();
    let fake = Fake::start(|head, n| match n {
        0 => json("X-Consul-Index: 5", &web(1)),
        _ if head.contains("x-consul-token: next\r\n") => blocks(head, &web(1)),
        _ => Reply::Whole(reply(
            "403 Forbidden",
            &["X-Consul-Index: 6"],
            b"ACL not found",
        )),
    })
    .await;
    let consul = fake.consul(|options| options.token = TokenSource::File(path.clone()));
    let (_watch, mut updates) = watch(&consul);
    assert_eq!(next_port(&mut updates).await, 1);
    assert_eq!(next_error(&mut updates).await.class, ErrorClass::Forbidden);
    std::fs::write(&path, "next").unwrap();
    loop {
        match next(&mut updates).await {
            Update::Unchanged { .. } => break,
            Update::Failed { error, .. } => assert_eq!(error.class, ErrorClass::Forbidden),
            Update::Answered { answer, .. } => panic!("{answer:?}"),
        }
    }
}

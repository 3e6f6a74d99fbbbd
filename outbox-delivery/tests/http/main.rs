//! Webhooks, to a real server on this machine.
#![cfg(feature = "http")]

#[path = "../percent/mod.rs"]
mod percent;
mod server;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{
    Response,
    header::{HeaderName, HeaderValue},
};
use outbox_conformance::{
    Skip,
    transport::{OutageHarness, Received, RefusingHarness, TransportHarness},
};
use outbox_delivery::transport::{Http, message::Encoding};
use outbox_traits::{Event, PublishErrorKind, Transport, async_trait};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{Posted, Server, answer};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const MAX_BYTES: usize = 200_000;
/// A guard against hanging, no promise.
const PATIENCE: Duration = Duration::from_secs(30);

struct Hook {
    server: Server,
    transport: Http,
}

#[async_trait]
impl TransportHarness for Hook {
    type Transport = Http;

    async fn open() -> Result<Self, Skip> {
        let server =
            Server::with(|posted| answer(if posted.body.len() > MAX_BYTES { 413 } else { 204 }, "")).await;
        let transport = Http::to(&server.url()).unwrap().with_secret(SECRET).unwrap();
        Ok(Self { server, transport })
    }

    fn transport(&self) -> &Http {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.server.accepted().iter().map(read).collect()
    }
}

#[async_trait]
impl RefusingHarness for Hook {
    fn too_large(&self) -> Event {
        Event::new("suite.too_large", json!("x".repeat(MAX_BYTES))).unwrap()
    }
}

#[async_trait]
impl OutageHarness for Hook {
    async fn stop(&self) {
        self.server.stop().await;
    }

    async fn start(&self) {
        self.server.start().await;
    }
}

outbox_conformance::transport_suite!(Hook; publish, refuse, outage, durable);

/// The same in structured mode, read by the official reader of CloudEvents.
mod structured {
    use cloudevents::{AttributesReader, Data};

    use super::*;

    struct Structured(Hook);

    #[async_trait]
    impl TransportHarness for Structured {
        type Transport = Http;

        async fn open() -> Result<Self, Skip> {
            let hook = Hook::open().await?;
            let transport = hook.transport.with_encoding(Encoding::Structured);
            Ok(Self(Hook { transport, ..hook }))
        }

        fn transport(&self) -> &Http {
            &self.0.transport
        }

        async fn received(&self) -> Vec<Received> {
            self.0.server.accepted().iter().map(read).collect()
        }
    }

    outbox_conformance::transport_suite!(Structured; publish);

    fn read(posted: &Posted) -> Received {
        let event: cloudevents::Event = serde_json::from_slice(&posted.body).expect("a CloudEvent");
        let Some(Data::Json(payload)) = event.data() else { panic!("no JSON: {event:?}") };
        Received {
            id: event.id().parse().expect("a UUID"),
            event_type: event.ty().to_owned(),
            payload: payload.clone(),
            partition_key: event.extension("partitionkey").map(ToString::to_string),
            headers: plain_headers(posted),
        }
    }
}

/// Or it would take an event after a test has stopped it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_stopped_is_answering_nobody() {
    let (beginning, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let is_answered = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&is_answered);
    let server = Server::with(move |_| {
        beginning.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        answered.store(true, Ordering::SeqCst);
        answer(204, "")
    })
    .await;
    let transport = to(&server);
    let publishing = tokio::spawn(async move { transport.publish(&event()).await });
    begun.recv().await.unwrap();
    server.stop().await;
    assert!(is_answered.load(Ordering::SeqCst));
    drop(publishing.await.unwrap());
}

/// The client of HTTP can lose a request that is sent at the moment at which its connection ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_its_connection_took_with_it_is_not_waited_for() {
    let server = Server::answering(204).await;
    let transport = Arc::new(to(&server).with_timeout(Duration::from_hours(1)));
    for _ in 0..1000 {
        transport.publish(&event()).await.unwrap();
        let sender = Arc::clone(&transport);
        let publishing = tokio::spawn(async move { sender.publish(&event()).await });
        server.stop().await;
        let published = tokio::time::timeout(PATIENCE, publishing).await.expect("an answer in time");
        if let Err(error) = published.unwrap() {
            assert_ne!(error.kind(), PublishErrorKind::Rejected, "{error}");
        }
        server.start().await;
    }
}

fn plain_headers(posted: &Posted) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).expect("UTF-8");
    posted.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A CloudEvent in binary mode, and signed, as the specifications say.
fn read(posted: &Posted) -> Received {
    Webhook::new(SECRET).unwrap().verify(&posted.body, &posted.headers).expect("a good signature");
    let header = |name: &str| posted.headers.get(name).map(|value| percent::decoded(value.as_bytes()));
    assert_eq!(header("webhook-id"), header("ce-id"));
    Received {
        id: header("ce-id").expect("an id").parse().expect("a UUID"),
        event_type: header("ce-type").expect("a type"),
        payload: serde_json::from_slice(&posted.body).expect("JSON"),
        partition_key: header("ce-partitionkey"),
        headers: plain_headers(posted),
    }
}

fn event() -> Event {
    Event::new("order.placed", json!({ "total": 4200 })).unwrap().with_resource("order", "o-17")
}

fn to(server: &Server) -> Http {
    Http::to(&server.url()).unwrap()
}

#[tokio::test]
async fn an_event_is_posted_to_the_url_as_a_cloud_event() {
    let server = Server::answering(200).await;
    let event = event().with_source("shop");
    to(&server).with_header("authorization", "Bearer abc").unwrap().publish(&event).await.unwrap();
    let posted = server.accepted().remove(0);
    assert_eq!((posted.method.as_str(), posted.path.as_str()), ("POST", "/hooks?token=s3cret"));
    let id = event.id().to_string();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "shop"),
        ("ce-type", "order.placed"),
        ("ce-subject", "order/o-17"),
        ("content-type", "application/json"),
        ("authorization", "Bearer abc"),
    ] {
        assert_eq!(posted.headers[name], value, "{name}");
    }
    assert!(!posted.headers.contains_key("webhook-signature"));
    assert_eq!(serde_json::from_slice::<Value>(&posted.body).unwrap(), json!({ "total": 4200 }));
}

#[tokio::test]
async fn in_structured_mode_the_signature_is_over_all_of_the_event() {
    let server = Server::answering(200).await;
    let transport = to(&server).with_encoding(Encoding::Structured).with_secret(SECRET).unwrap();
    transport.publish(&event()).await.unwrap();
    let posted = server.accepted().remove(0);
    assert_eq!(posted.headers["content-type"], "application/cloudevents+json");
    let webhook = Webhook::new(SECRET).unwrap();
    webhook.verify(&posted.body, &posted.headers).unwrap();
    let forged = String::from_utf8(posted.body.to_vec()).unwrap().replace("o-17", "o-18");
    assert!(webhook.verify(forged.as_bytes(), &posted.headers).is_err());
}

#[tokio::test]
async fn with_two_secrets_a_receiver_may_know_either() {
    let server = Server::answering(200).await;
    let transport = to(&server).with_secret(SECRET).unwrap().with_secret(OTHER_SECRET).unwrap();
    transport.publish(&event()).await.unwrap();
    let posted = server.accepted().remove(0);
    for secret in [SECRET, OTHER_SECRET] {
        Webhook::new(secret).unwrap().verify(&posted.body, &posted.headers).unwrap();
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    use PublishErrorKind::{Failed, Rejected, Unavailable};
    for status in [200, 201, 202, 204] {
        let server = Server::answering(status).await;
        assert!(to(&server).publish(&event()).await.is_ok(), "{status}");
    }
    for (status, kind) in [
        (301, Failed),
        (400, Rejected),
        (401, Unavailable),
        (402, Unavailable),
        (403, Failed),
        (404, Failed),
        (405, Failed),
        (406, Rejected),
        (407, Unavailable),
        (408, Failed),
        (409, Failed),
        (410, Rejected),
        (413, Rejected),
        (415, Rejected),
        (421, Failed),
        (422, Rejected),
        (423, Failed),
        (425, Failed),
        (429, Unavailable),
        (500, Failed),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ] {
        let server = Server::with(move |_| answer(status, "no \u{1b}[31mthanks")).await;
        let error = to(&server).publish(&event()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (kind, None), "{status}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("the webhook answered {status} ")), "{message}");
        assert!(message.ends_with(r#": "no \u{1b}[31mthanks""#), "{message}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let aim = Server::answering(200).await;
    let url = aim.url();
    let server = Server::with(move |_| {
        let mut response = answer(307, "");
        response.headers_mut().insert("location", HeaderValue::from_str(&url).unwrap());
        response
    })
    .await;
    assert!(to(&server).publish(&event()).await.is_err());
    assert!(aim.accepted().is_empty());
}

#[tokio::test]
async fn the_error_has_the_time_that_retry_after_asks_for() {
    let server = Server::with(|_| {
        let mut response: Response<_> = answer(429, "");
        response.headers_mut().insert("retry-after", HeaderValue::from_static("120"));
        response
    })
    .await;
    let error = to(&server).publish(&event()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
}

#[tokio::test]
async fn what_may_be_sent_again_later_is_not_rejected() {
    for status in [400, 413, 422] {
        let server = Server::with(move |_| {
            let mut response: Response<_> = answer(status, "");
            response.headers_mut().insert("retry-after", HeaderValue::from_static("120"));
            response
        })
        .await;
        let error = to(&server).publish(&event()).await.unwrap_err();
        let found = (error.kind(), error.retry_after());
        assert_eq!(found, (PublishErrorKind::Failed, Some(Duration::from_secs(120))), "{status}");
    }
}

#[tokio::test]
async fn a_batch_does_not_wait_for_each_event_of_a_server_that_does_not_answer() {
    // It takes connections, and says nothing.
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let transport = Http::to(&url).unwrap().with_timeout(Duration::from_millis(100));
    let events: Vec<_> = (0..40).map(|_| Event::new("a", json!(1)).unwrap()).collect();
    let kinds: Vec<_> = transport
        .publish_all(&events)
        .await
        .into_iter()
        .map(|published| published.result.unwrap_err().kind())
        .collect();
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!(
        (count(PublishErrorKind::Unavailable), count(PublishErrorKind::NotAttempted)),
        (16, 24),
        "{kinds:?}"
    );
}

/// Where to find a server that takes each request, and answers none in which this word is.
async fn silent_about(word: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let size = stream.read(&mut request).await.unwrap_or_default();
                if size > 0 && !String::from_utf8_lossy(&request[..size]).contains(word) {
                    let answer = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                // It hangs up on nobody.
                std::future::pending::<()>().await;
            });
        }
    });
    url
}

#[tokio::test]
async fn an_event_that_is_not_answered_has_failed_where_others_of_its_batch_are() {
    let url = silent_about("ce-type: slow").await;
    let transport = Http::to(&url).unwrap().with_timeout(Duration::from_secs(1));
    let event = |event_type: &str| Event::new(event_type, json!(1)).unwrap();
    let events = [event("slow"), event("a"), event("b")];
    for published in transport.publish_all(&events).await {
        let kind = published.result.err().map(|error| error.kind());
        let expected = (published.id == events[0].id()).then_some(PublishErrorKind::Failed);
        assert_eq!(kind, expected);
    }
    // By itself it may be the webhook.
    let error = transport.publish(&events[0]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert!(error.to_string().starts_with("the webhook did not answer within 1s"), "{error}");
}

/// Where to find a server that answers each request with this, and neither goes on nor hangs up.
async fn unending(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if matches!(stream.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {
                continue;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn the_status_decides_where_the_body_does_not_end() {
    let begun = Instant::now();
    let url = unending("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
    Http::to(&url).unwrap().publish(&event()).await.unwrap();
    Http::to(&url).unwrap().with_timeout(Duration::from_millis(200)).publish(&event()).await.unwrap();
    let url = unending("HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nabc").await;
    let error = Http::to(&url).unwrap().publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    assert_eq!(error.to_string(), r#"the webhook answered 400 Bad Request: "abc""#);
    let url = unending(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    .await;
    let error = Http::to(&url).unwrap().publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_hangs_before_it_is_there_is_none() {
    // It takes connections, and says nothing: not even a word of TLS.
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let patient = Http::to(&url).unwrap();
    let hasty = Http::to(&url).unwrap().with_timeout(Duration::from_millis(500));
    let (begun, event) = (Instant::now(), event());
    let (patient, hasty) = tokio::join!(patient.publish(&event), hasty.publish(&event));
    for error in [patient.unwrap_err(), hasty.unwrap_err()] {
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn more_headers_than_a_request_can_have_are_rejected() {
    let server = Server::answering(200).await;
    let crowded = (0..40_000).fold(event(), |event, n| event.with_header(format!("x-{n}"), "a"));
    let error = to(&server).publish(&crowded).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("too many headers"), "{error}");
}

#[tokio::test]
async fn an_answer_may_have_many_headers() {
    let server = Server::with(|_| {
        let mut response: Response<_> = answer(200, "");
        for n in 0..150 {
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            response.headers_mut().insert(name, HeaderValue::from_static("a"));
        }
        response
    })
    .await;
    to(&server).publish(&event()).await.unwrap();
}

#[tokio::test]
async fn headers_that_describe_the_request_itself_are_not_an_events_to_set() {
    let server = Server::answering(200).await;
    for name in ["Content-Encoding", "Transfer-Encoding", "Content-Length"] {
        let error = to(&server).publish(&event().with_header(name, "gzip")).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    }
    assert!(server.accepted().is_empty());
}

#[tokio::test]
async fn a_header_that_the_transport_sets_is_not_an_events_to_change() {
    let server = Server::answering(200).await;
    let transport = to(&server).with_header("X-Tenant", "acme").unwrap();
    transport.publish(&event().with_header("x-tenant", "acme")).await.unwrap();
    let posted = server.accepted().remove(0);
    assert_eq!(posted.headers.get_all("x-tenant").iter().count(), 1);
    assert_eq!(posted.headers["x-tenant"], "acme");
    let error = transport.publish(&event().with_header("x-tenant", "globex")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    let said = error.to_string();
    assert!(said.contains("`x-tenant`") && said.contains("`with_header`"), "{said}");
    assert!(!said.contains("acme") && !said.contains("globex"), "{said}");
    let twice = event().with_header("x-tenant", "acme").with_header("X-Tenant", "acme");
    let error = transport.publish(&twice).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    assert_eq!(server.accepted().len(), 1);
}

#[tokio::test]
async fn an_event_that_breaks_its_connection_is_failed_and_not_the_transport() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let breaking = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
            drop(stream);
        }
    });
    let error = Http::to(&url).unwrap().publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    breaking.abort();
}

#[tokio::test]
async fn https_is_never_spoken_in_plain() {
    let server = Server::answering(200).await;
    let url = server.url().replace("http://", "https://");
    let transport = Http::to(&url).unwrap();
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert!(server.accepted().is_empty());
}

#[tokio::test]
async fn no_secret_is_shown() {
    let server = Server::answering(500).await;
    let transport =
        to(&server).with_secret(SECRET).unwrap().with_header("authorization", "Bearer hidden").unwrap();
    let failed = transport.publish(&event()).await.unwrap_err();
    server.stop().await;
    let unavailable = transport.publish(&event()).await.unwrap_err();
    let with_password = Http::to("http://user:hidden@example.com/").unwrap_err();
    let bad_header = to(&server).with_header("authorization", "hidden\n").unwrap_err();
    let bad_secret = to(&server).with_secret("whsec_hidden+hidden+hidden+hidden+hidden*").unwrap_err();
    let said = format!(
        "{transport:?} {failed} {failed:?} {unavailable} {unavailable:?} {with_password:?} {with_password} \
         {bad_header:?} {bad_header} {bad_secret:?} {bad_secret}"
    );
    for secret in ["MfKQ9r8", "hidden", "s3cret"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn what_cannot_work_is_refused_when_it_is_set_up() {
    for url in ["", "example.com", "/hooks", "ftp://example.com/", "http:///", "not a url"] {
        assert!(Http::to(url).is_err(), "{url:?}");
    }
    for port in ["99999", "65536", "8O80", "abc", "-1", "+80", "0", ""] {
        for host in ["127.0.0.1", "example.com", "[::1]"] {
            let url = format!("http://{host}:{port}/x");
            assert!(Http::to(&url).is_err(), "{url:?}");
        }
    }
    for url in ["http://example.com:65535", "http://[::1]:8080/x", "http://[::1]/", "http://127.0.0.1:1/"] {
        assert!(Http::to(url).is_ok(), "{url:?}");
    }
    let http = || Http::to("http://example.com/").unwrap();
    for secret in [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_short",
        "whsec_!fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ] {
        assert!(http().with_secret(secret).is_err(), "{secret:?}");
    }
    for name in ["content-length", "content-encoding", "ce-id", "webhook-signature", "a b", ""] {
        assert!(http().with_header(name, "a").is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn headers_that_differ_in_case_alone_are_rejected_and_not_made_one() {
    let server = Server::answering(200).await;
    let placed = event().with_header("X-Shop", "a");
    to(&server).publish(&placed).await.unwrap();
    let error = to(&server).publish(&placed.with_header("x-shop", "b")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("in another case"), "{error}");
}

//! Redis Streams as a transport.
#![cfg(feature = "redis")]

mod broker;

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use outbox_conformance::{
    Skip, require,
    transport::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
};
use outbox_delivery::transport::{
    RedisStreams,
    message::{Encoding, Route},
};
use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Transport, async_trait};
use redis::{FromRedisValue, ToRedisArgs, aio::MultiplexedConnection};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Builder, sync::Mutex, time::Instant};

use crate::broker::{Broker, PASSWORD};

const MAX_BYTES: usize = 500_000;

type Entry = (String, Vec<(String, Vec<u8>)>);

fn given_url() -> Result<String, Skip> {
    std::env::var("OUTBOX_TEST_REDIS_URL").map_err(|_| {
        Skip::new(
            "OUTBOX_TEST_REDIS_URL names no server: run `cargo xtask servers up`, or `cargo xtask test`",
        )
    })
}

async fn connection(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn ask<T: FromRedisValue>(url: &str, command: &str, args: impl ToRedisArgs) -> T {
    redis::cmd(command).arg(args).query_async(&mut connection(url).await).await.unwrap()
}

async fn entries(url: &str, stream: &str) -> Vec<Entry> {
    ask(url, "XRANGE", &[stream, "-", "+"]).await
}

/// A name that no other test has.
fn unique() -> String {
    format!("outbox-test-{}", EventId::new())
}

fn event() -> Event {
    Event::new("order.placed", json!({ "total": 4200 })).unwrap()
}

/// A transport to a stream of its own.
struct Stream {
    url: String,
    name: String,
    transport: RedisStreams,
}

impl Stream {
    fn new(url: &str) -> Self {
        let name = unique();
        let transport =
            RedisStreams::new(url).unwrap().with_max_bytes(MAX_BYTES).with_route(Route::to(&name));
        Self { url: url.to_owned(), name, transport }
    }

    async fn received(&self) -> Vec<Received> {
        entries(&self.url, &self.name).await.iter().map(|(_, fields)| read(fields)).collect()
    }
}

fn read(fields: &[(String, Vec<u8>)]) -> Received {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let headers: BTreeMap<_, _> =
        fields.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect();
    Received {
        id: headers["ce-id"].parse().unwrap(),
        event_type: headers["ce-type"].clone(),
        payload: serde_json::from_str(&headers["data"]).unwrap(),
        partition_key: headers.get("ce-partitionkey").cloned(),
        headers,
    }
}

#[async_trait]
impl TransportHarness for Stream {
    type Transport = RedisStreams;

    async fn open() -> Result<Self, Skip> {
        Ok(Self::new(&given_url()?))
    }

    fn transport(&self) -> &RedisStreams {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.received().await
    }

    async fn close(&self) {
        ask::<()>(&self.url, "DEL", &self.name).await;
    }
}

#[async_trait]
impl RefusingHarness for Stream {
    fn too_large(&self) -> Event {
        Event::new("suite.large", json!({ "text": "x".repeat(MAX_BYTES) })).unwrap()
    }
}

outbox_conformance::transport_suite!(Stream; publish, refuse);

/// The same with a server of its own.
struct OwnServer {
    stream: Stream,
    broker: Mutex<Broker>,
}

#[async_trait]
impl TransportHarness for OwnServer {
    type Transport = RedisStreams;

    async fn open() -> Result<Self, Skip> {
        let broker = Broker::redis().await?;
        Ok(Self { stream: Stream::new(broker.url()), broker: Mutex::new(broker) })
    }

    fn transport(&self) -> &RedisStreams {
        &self.stream.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.stream.received().await
    }
}

#[async_trait]
impl OutageHarness for OwnServer {
    async fn stop(&self) {
        self.broker.lock().await.kill().await;
    }

    async fn start(&self) {
        self.broker.lock().await.start().await;
    }
}

outbox_conformance::transport_suite!(OwnServer; outage, durable);

/// A stream for each type, of which one is away while something else has its name.
struct Streams {
    url: String,
    prefix: String,
    transport: RedisStreams,
}

impl Streams {
    fn named(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

#[async_trait]
impl TransportHarness for Streams {
    type Transport = RedisStreams;

    async fn open() -> Result<Self, Skip> {
        let (url, prefix) = (given_url()?, unique());
        let route = Route::by_type_below(format!("{prefix}."));
        Ok(Self { transport: RedisStreams::new(&url).unwrap().with_route(route), url, prefix })
    }

    fn transport(&self) -> &RedisStreams {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        let mut received = Vec::new();
        for stream in ask::<Vec<String>>(&self.url, "KEYS", self.named("*")).await {
            if ask::<String>(&self.url, "TYPE", &stream).await == "stream" {
                received.extend(entries(&self.url, &stream).await.iter().map(|(_, fields)| read(fields)));
            }
        }
        received
    }

    async fn close(&self) {
        ask::<()>(&self.url, "DEL", ask::<Vec<String>>(&self.url, "KEYS", self.named("*")).await).await;
    }
}

#[async_trait]
impl PartHarness for Streams {
    async fn take_away(&self) {
        ask::<()>(&self.url, "RENAME", &[self.named(PART), self.named("kept")]).await;
        ask::<()>(&self.url, "SET", &[self.named(PART), "no stream".to_owned()]).await;
    }

    async fn bring_back(&self) {
        ask::<()>(&self.url, "RENAME", &[self.named("kept"), self.named(PART)]).await;
    }
}

outbox_conformance::transport_suite!(Streams; part);

#[tokio::test]
async fn a_stream_is_trimmed_to_about_its_length_and_never_below() {
    let Some(url) = require("redis::trimmed", given_url()) else { return };
    let name = unique();
    let transport = RedisStreams::new(&url).unwrap().with_route(Route::to(&name)).with_max_len(200);
    let events: Vec<_> = (0..1000).map(|_| event()).collect();
    assert!(transport.publish_all(&events).await.iter().all(|published| published.result.is_ok()));
    let length: usize = ask(&url, "XLEN", &name).await;
    assert!((200..1000).contains(&length), "{length}");
    let newest: Vec<Entry> = ask(&url, "XREVRANGE", &[&name, "+", "-", "COUNT", "1"]).await;
    assert_eq!(newest.len(), 1);
    ask::<()>(&url, "DEL", &name).await;
}

#[tokio::test]
async fn a_length_that_the_server_cannot_count_to_is_taken_as_the_largest() {
    let Some(url) = require("redis::longest", given_url()) else { return };
    let name = unique();
    for length in [i64::MAX.cast_unsigned(), i64::MAX.cast_unsigned() + 1, u64::MAX] {
        let transport = RedisStreams::new(&url).unwrap().with_route(Route::to(&name)).with_max_len(length);
        transport.publish(&event()).await.unwrap();
    }
    assert_eq!(entries(&url, &name).await.len(), 3);
    ask::<()>(&url, "DEL", &name).await;
}

#[tokio::test]
async fn a_length_of_none_loses_nothing() {
    let Some(url) = require("redis::length_of_none", given_url()) else { return };
    let name = unique();
    let transport = RedisStreams::new(&url).unwrap().with_route(Route::to(&name)).with_max_len(0);
    let event = event();
    transport.publish(&event).await.unwrap();
    assert!(!entries(&url, &name).await.is_empty(), "accepted, and trimmed at once");
    ask::<()>(&url, "DEL", &name).await;
}

/// In simulated time: nothing but the time-out ends such a call.
#[tokio::test(start_paused = true)]
async fn calls_to_a_server_that_says_nothing_do_not_wait_for_one_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = RedisStreams::new(&format!("redis://{}/", listener.local_addr().unwrap())).unwrap();
    let (started, events) = (Instant::now(), [event(), event(), event(), event()]);
    for result in join_all(events.iter().map(|event| transport.publish(event))).await {
        assert_eq!(result.unwrap_err().kind(), PublishErrorKind::Unavailable);
    }
    assert_eq!(started.elapsed().as_secs(), 10, "the default");
}

#[tokio::test]
async fn a_value_that_the_server_does_not_take_is_rejected_and_harms_no_other() {
    let Some(broker) = require("redis::bulk", Broker::redis().await) else { return };
    ask::<()>(broker.url(), "CONFIG", &["SET", "proto-max-bulk-len", "1mb"]).await;
    let transport = RedisStreams::new(broker.url()).unwrap();
    let large = Event::new("large", json!("x".repeat(1_100_000))).unwrap();
    let mut kinds = Vec::new();
    // The server may have closed the connection before its answer was read.
    while kinds.len() < 50 && kinds.last() != Some(&PublishErrorKind::Rejected) {
        kinds.push(transport.publish(&large).await.unwrap_err().kind());
    }
    let (last, before) = kinds.split_last().unwrap();
    assert_eq!(*last, PublishErrorKind::Rejected);
    assert!(before.iter().all(|kind| *kind == PublishErrorKind::Unavailable), "{kinds:?}");
    transport.publish(&event()).await.unwrap();
}

#[tokio::test]
async fn a_timeout_of_any_length_is_taken() {
    let Some(url) = require("redis::timeout", given_url()) else { return };
    let name = unique();
    for timeout in [Duration::from_hours(24 * 365), Duration::MAX] {
        let transport = RedisStreams::new(&url).unwrap().with_route(Route::to(&name)).with_timeout(timeout);
        transport.publish(&event()).await.unwrap();
    }
    ask::<()>(&url, "DEL", &name).await;
}

#[tokio::test]
async fn a_key_that_is_no_stream_fails_its_event_alone() {
    let Some(url) = require("redis::no_stream", given_url()) else { return };
    let (name, other) = (unique(), unique());
    ask::<()>(&url, "SET", &[&name, "text"]).await;
    let route = {
        let (name, other) = (name.clone(), other.clone());
        Route::new(move |event| if event.partition_key().is_some() { name.clone() } else { other.clone() })
    };
    let transport = RedisStreams::new(&url).unwrap().with_route(route).with_encoding(Encoding::Plain);
    let published = transport.publish_all(&[event().with_partition_key("a"), event()]).await;
    for published in published {
        match published.result {
            Ok(()) => assert_eq!(entries(&url, &other).await.len(), 1),
            Err(error) => {
                assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
                assert!(error.to_string().contains(&name), "{error}");
            }
        }
    }
    ask::<()>(&url, "DEL", &[&name, &other]).await;
}

#[tokio::test]
async fn a_server_without_memory_is_no_event_s_fault() {
    let Some(broker) = require("redis::memory", Broker::redis().await) else { return };
    let transport = RedisStreams::new(broker.url()).unwrap();
    transport.publish(&event()).await.unwrap();
    ask::<()>(broker.url(), "CONFIG", &["SET", "maxmemory", "1"]).await;
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    ask::<()>(broker.url(), "CONFIG", &["SET", "maxmemory", "0"]).await;
    transport.publish(&event()).await.unwrap();
    assert_eq!(entries(broker.url(), "order.placed").await.len(), 2);
}

#[tokio::test]
async fn a_header_with_the_name_of_a_field_is_rejected_in_any_case() {
    let Some(url) = require("redis::fields", given_url()) else { return };
    let transport = RedisStreams::new(&url).unwrap().with_route(Route::to(unique()));
    for name in ["ce-id", "data", "content-type", "Ce-Id", "CE-anything", "Data", "Content-Type"] {
        let published = transport.publish(&event().with_header(name, "x")).await;
        let kind = published.as_ref().map_err(PublishError::kind);
        assert_eq!(kind, Err(PublishErrorKind::Rejected), "{name}");
        let error = published.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_nobody_runs_is_unavailable() {
    let transport = RedisStreams::new("redis://127.0.0.1:1/").unwrap();
    assert_eq!(transport.publish(&event()).await.unwrap_err().kind(), PublishErrorKind::Unavailable);
}

#[tokio::test]
async fn the_password_stands_in_no_text() {
    let transport = RedisStreams::new(&format!("redis://:{PASSWORD}@127.0.0.1:1/")).unwrap();
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    let unreadable = RedisStreams::new(&format!("redis://:{PASSWORD}@host:no-port/")).unwrap_err();
    for text in
        [format!("{transport:?}"), format!("{error} {error:?}"), format!("{unreadable} {unreadable:?}")]
    {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(format!("{transport:?}").contains("127.0.0.1:1"));
}

#[tokio::test]
async fn a_wrong_password_is_no_event_s_fault() {
    let Some(broker) = require("redis::password", Broker::redis().await) else { return };
    let transport = RedisStreams::new(&format!("redis://:wrong@127.0.0.1:{}/", broker.port())).unwrap();
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_user_who_may_add_to_no_stream_is_no_event_s_fault_and_one_who_may_not_to_this_is() {
    let Some(broker) = require("redis::permissions", Broker::redis().await) else { return };
    for (name, rules, expected) in [
        ("nowhere", &["~*", "&*", "+@all", "-xadd"][..], PublishErrorKind::Unavailable),
        ("elsewhere", &["~elsewhere", "&*", "+@all"], PublishErrorKind::Failed),
    ] {
        let user = [&["SETUSER", name, "on", ">word"], rules].concat();
        ask::<()>(broker.url(), "ACL", user).await;
        let url = format!("redis://{name}:word@127.0.0.1:{}/", broker.port());
        let transport = RedisStreams::new(&url).unwrap();
        let error = transport.publish(&event()).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        let elsewhere = transport.with_route(Route::to("elsewhere")).publish(&event()).await;
        assert_eq!(elsewhere.is_ok(), name == "elsewhere", "{elsewhere:?}");
    }
}

/// Of a client that has not said a password the server reads short commands only.
#[tokio::test]
async fn a_password_that_was_not_said_is_no_event_s_fault() {
    let Some(broker) = require("redis::no_password", Broker::redis().await) else { return };
    let url = format!("redis://127.0.0.1:{}/", broker.port());
    let transports = [Encoding::Binary, Encoding::Structured, Encoding::Plain]
        .map(|encoding| RedisStreams::new(&url).unwrap().with_encoding(encoding));
    let events = [event(), Event::new("large", json!("x".repeat(20 * 1024))).unwrap()];
    for (transport, event) in transports.iter().flat_map(|one| events.iter().map(move |event| (one, event))) {
        let error = transport.publish(event).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    }
    ask::<()>(broker.url(), "CONFIG", &["SET", "requirepass", ""]).await;
    for transport in transports {
        transport.publish(&event()).await.unwrap();
    }
}

/// As it does where TLS has no provider of cryptography.
#[test]
fn a_client_that_panics_when_it_connects_is_no_event_s_fault() {
    // Without I/O, for which the client does not ask before it uses it.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let transport = RedisStreams::new("redis://127.0.0.1:1/").unwrap();
    for _ in 0..2 {
        let error = runtime.block_on(transport.publish(&event())).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}

#[tokio::test]
async fn a_url_that_wants_tls_is_told_the_feature() {
    for scheme in ["rediss", "REDISS", "valkeys"] {
        let error = RedisStreams::new(&format!("{scheme}://:{PASSWORD}@localhost/")).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains("`tokio-rustls-comp`") && !text.contains(PASSWORD), "{text}");
    }
}

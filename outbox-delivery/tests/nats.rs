//! NATS JetStream.
#![cfg(feature = "nats")]

mod broker;
mod percent;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_nats::jetstream::{self, consumer::pull, stream::Config};
use futures_util::StreamExt;
use outbox_conformance::{
    Skip, require,
    transport::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
};
use outbox_delivery::transport::{
    Nats, async_nats,
    message::{Encoding, Route},
};
use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Published, Transport, async_trait};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use crate::broker::{Broker, PASSWORD};

const HANG: Duration = Duration::from_secs(30);

/// A stream of a test's own, and a transport to it.
struct Stream {
    name: String,
    url: String,
    transport: Nats,
}

impl Stream {
    async fn at(url: &str, config: Config) -> Self {
        let name = format!("outbox-{}", EventId::new());
        let config = Config { name: name.clone(), subjects: vec![format!("{name}.>")], ..config };
        let context = jetstream::new(client(url).await);
        let mut created = context.create_stream(config.clone()).await;
        // A server removes its folder of streams with the last of them, also while another is being made.
        for _ in 0..20 {
            if created.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            created = context.create_stream(config.clone()).await;
        }
        created.expect("a stream");
        let transport = Nats::connect(url).await.expect("the server of the test");
        let transport = transport.with_route(Route::by_type_below(format!("{name}.")));
        Self { name, url: url.to_owned(), transport }
    }

    /// All messages, as a consumer of its own gets them.
    async fn messages(&self) -> Vec<jetstream::Message> {
        let mut stream =
            jetstream::new(client(&self.url).await).get_stream(&self.name).await.expect("the stream");
        let count = stream.info().await.expect("its state").state.messages;
        let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.expect("a consumer");
        let messages = consumer.messages().await.expect("the messages");
        let count = usize::try_from(count).expect("a count");
        let messages = messages.take(count).map(|message| message.expect("a message")).collect();
        tokio::time::timeout(HANG, messages).await.expect("all messages")
    }

    async fn received(&self) -> Vec<Received> {
        self.messages().await.iter().map(read).collect()
    }

    async fn delete(&self) {
        jetstream::new(client(&self.url).await)
            .delete_stream(&self.name)
            .await
            .expect("the stream is deleted");
    }
}

/// A client that shares nothing with the transport.
async fn client(url: &str) -> async_nats::Client {
    let server: async_nats::ServerAddr = url.parse().expect("a URL");
    let (user, password) = (server.username().unwrap_or_default(), server.password().unwrap_or_default());
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    options.connect(server).await.expect("the server of the test")
}

/// A CloudEvent in binary mode, as the specification says.
fn read(message: &jetstream::Message) -> Received {
    let headers = message.headers.as_ref().expect("headers");
    let header = |name: &str| headers.get(name).map(|value| percent::decoded(value.as_str().as_bytes()));
    let plain = headers.iter().map(|(name, values)| {
        (AsRef::<str>::as_ref(name).to_ascii_lowercase(), values[0].as_str().to_owned())
    });
    Received {
        id: header("ce-id").expect("an id").parse().expect("a UUID"),
        event_type: header("ce-type").expect("a type"),
        payload: serde_json::from_slice(&message.payload).expect("JSON"),
        partition_key: header("ce-partitionkey"),
        headers: plain.collect(),
    }
}

/// On the server that all tests share.
struct Shared(Stream);

#[async_trait]
impl TransportHarness for Shared {
    type Transport = Nats;

    async fn open() -> Result<Self, Skip> {
        let url = std::env::var("OUTBOX_TEST_NATS_URL").map_err(|_| {
            Skip::new("set OUTBOX_TEST_NATS_URL to a NATS with JetStream, or run `cargo xtask test`")
        })?;
        Ok(Self(Stream::at(&url, Config::default()).await))
    }

    fn transport(&self) -> &Nats {
        &self.0.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.0.received().await
    }

    async fn close(&self) {
        self.0.delete().await;
    }
}

#[async_trait]
impl RefusingHarness for Shared {
    fn too_large(&self) -> Event {
        Event::new("suite.too_large", json!("x".repeat(9_000_000))).unwrap()
    }
}

/// On a server of the test's own, which it kills.
struct Own {
    broker: Mutex<Broker>,
    stream: Stream,
}

#[async_trait]
impl TransportHarness for Own {
    type Transport = Nats;

    async fn open() -> Result<Self, Skip> {
        let broker = Broker::nats().await?;
        let stream = Stream::at(broker.url(), Config::default()).await;
        Ok(Self { broker: Mutex::new(broker), stream })
    }

    fn transport(&self) -> &Nats {
        &self.stream.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.stream.received().await
    }
}

#[async_trait]
impl OutageHarness for Own {
    async fn stop(&self) {
        self.broker.lock().await.kill().await;
    }

    async fn start(&self) {
        self.broker.lock().await.start().await;
    }
}

/// Two streams, of which one is away while it has other subjects.
struct Streams {
    here: Stream,
    part: Stream,
    transport: Nats,
}

impl Streams {
    async fn give_part(&self, subjects: String) {
        let context = jetstream::new(client(&self.here.url).await);
        let config = Config { name: self.part.name.clone(), subjects: vec![subjects], ..Config::default() };
        context.update_stream(config).await.expect("other subjects");
    }
}

#[async_trait]
impl TransportHarness for Streams {
    type Transport = Nats;

    async fn open() -> Result<Self, Skip> {
        let Shared(here) = Shared::open().await?;
        let part = Stream::at(&here.url, Config::default()).await;
        let names = (here.name.clone(), part.name.clone());
        let route = Route::new(move |event| {
            let kind = event.event_type();
            format!("{}.{kind}", if kind == PART { &names.1 } else { &names.0 })
        });
        let transport = Nats::connect(&here.url).await.expect("the server of the test").with_route(route);
        Ok(Self { here, part, transport })
    }

    fn transport(&self) -> &Nats {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        let mut received = self.here.received().await;
        received.extend(self.part.received().await);
        received
    }

    async fn close(&self) {
        self.here.delete().await;
        self.part.delete().await;
    }
}

#[async_trait]
impl PartHarness for Streams {
    async fn take_away(&self) {
        self.give_part(format!("{}-elsewhere", self.part.name)).await;
    }

    async fn bring_back(&self) {
        self.give_part(format!("{}.>", self.part.name)).await;
    }
}

mod streams {
    use super::*;
    outbox_conformance::transport_suite!(Streams; part);
}

mod shared {
    use super::*;
    outbox_conformance::transport_suite!(Shared; publish, refuse);
}

mod own {
    use super::*;
    outbox_conformance::transport_suite!(Own; outage, durable);
}

async fn stream(test: &str, config: Config) -> Option<(Stream, Broker)> {
    let broker = require(test, Broker::nats().await)?;
    Some((Stream::at(broker.url(), config).await, broker))
}

fn header<'a>(message: &'a jetstream::Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|headers| headers.get(name)).expect("the header").as_str()
}

fn event(event_type: &str) -> Event {
    Event::new(event_type, json!({ "total": 4200 })).unwrap().with_resource("order", "o-17")
}

#[tokio::test]
async fn a_stream_keeps_one_of_what_is_published_twice() {
    let Some((stream, _broker)) = stream("duplicates", Config::default()).await else { return };
    let placed = event("order.placed");
    for _ in 0..3 {
        stream.transport.publish(&placed).await.unwrap();
    }
    let messages = stream.messages().await;
    assert_eq!(messages.len(), 1);
    assert_eq!(header(&messages[0], "Nats-Msg-Id"), placed.id().to_string());
    assert_eq!(messages[0].subject.as_str(), format!("{}.order.placed", stream.name));
}

#[tokio::test]
async fn the_body_is_what_the_encoding_says() {
    let Some((stream, _broker)) = stream("encodings", Config::default()).await else { return };
    let events = [event("a"), event("b"), event("c")];
    for (event, encoding) in events.iter().zip([Encoding::Binary, Encoding::Structured, Encoding::Plain]) {
        stream.transport.clone().with_encoding(encoding).publish(event).await.unwrap();
    }
    let messages = stream.messages().await;
    let content_types: Vec<_> = messages.iter().map(|message| header(message, "Content-Type")).collect();
    assert_eq!(header(&messages[0], "ce-datacontenttype"), "application/json");
    assert_eq!(content_types, ["application/json", "application/cloudevents+json", "application/json"]);
    let body = |index: usize| serde_json::from_slice::<Value>(&messages[index].payload).unwrap();
    assert_eq!(body(0), json!({ "total": 4200 }));
    assert_eq!((&body(1)["subject"], &body(1)["data"]["total"]), (&json!("order/o-17"), &json!(4200)));
    assert_eq!(serde_json::from_value::<Event>(body(2)).unwrap(), events[2]);
}

#[tokio::test]
async fn what_is_larger_than_the_stream_takes_is_rejected() {
    let config = Config { max_message_size: 1000, ..Config::default() };
    let Some((stream, _broker)) = stream("max_message_size", config).await else { return };
    let large = Event::new("order.placed", json!("x".repeat(1000))).unwrap();
    let error = stream.transport.publish(&large).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    stream.transport.publish(&Event::new("order.placed", json!(1)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_full_stream_fails_the_event_for_now() {
    let config =
        Config { max_messages: 1, discard: jetstream::stream::DiscardPolicy::New, ..Config::default() };
    let Some((stream, _broker)) = stream("full", config).await else { return };
    stream.transport.publish(&event("a")).await.unwrap();
    let error = stream.transport.publish(&event("b")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("maximum messages exceeded"), "{error}");
}

#[tokio::test]
async fn a_server_that_has_no_room_left_is_no_event_s_fault() {
    let Some(broker) = require("no room", Broker::small_nats().await) else { return };
    let stream = Stream::at(broker.url(), Config::default()).await;
    let large = || Event::new("large", json!("x".repeat(100_000))).unwrap();
    let mut published = Ok(());
    for _ in 0..20 {
        if published.is_ok() {
            published = stream.transport.publish(&large()).await;
        }
    }
    let error = published.expect_err("two megabytes have no room");
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    let context = jetstream::new(client(&stream.url).await);
    context.get_stream(&stream.name).await.unwrap().purge().await.unwrap();
    stream.transport.publish(&large()).await.unwrap();
}

/// With one code a server tells of a stream that is full, and of a disk that is.
#[tokio::test]
async fn a_store_that_fails_is_no_event_s_fault_unless_its_stream_is_full() {
    use PublishErrorKind::{Failed, Unavailable};
    const ANSWERS: [(&str, PublishErrorKind); 6] = [
        ("maximum messages exceeded", Failed),
        ("maximum bytes exceeded", Failed),
        ("maximum messages per subject exceeded", Failed),
        ("message too large", Failed),
        ("write /data/jetstream/shop/msgs/77.blk: no space left on device", Unavailable),
        ("store is closed", Unavailable),
    ];
    let Some(broker) = require("store", Broker::nats().await) else { return };
    let server = client(broker.url()).await;
    let mut messages = server.subscribe("store.*").await.unwrap();
    server.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let asked: usize = message.subject.trim_start_matches("store.").parse().unwrap();
            let error = json!({ "code": 503, "err_code": 10077, "description": ANSWERS[asked].0 });
            let answer = json!({ "error": error, "stream": "shop", "seq": 0 });
            server.publish(message.reply.unwrap(), answer.to_string().into()).await.unwrap();
        }
    });
    let transport = Nats::connect(broker.url()).await.unwrap();
    for (index, (description, kind)) in ANSWERS.into_iter().enumerate() {
        let error = transport.publish(&event(&format!("store.{index}"))).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(description), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_no_event_s_fault() {
    let Some(broker) = require("no JetStream", Broker::nats_without_jetstream().await) else { return };
    let transport = Nats::connect(broker.url()).await.unwrap();
    let error = transport.publish(&event("order.placed")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert!(error.to_string().starts_with("JetStream is not available"), "{error}");
    let of_key = |key: usize| event("order.placed").with_partition_key(key.to_string());
    let events: Vec<_> = (0..600).map(|n| of_key(n % 300)).collect();
    let mut is_unavailable = false;
    for published in transport.publish_all(&events).await {
        match published.result.unwrap_err().kind() {
            PublishErrorKind::Unavailable => is_unavailable = true,
            kind => assert_eq!(kind, PublishErrorKind::NotAttempted),
        }
    }
    assert!(is_unavailable);
}

/// Nobody answers there.
#[tokio::test]
async fn a_subject_without_a_stream_fails_its_event_where_the_user_may_not_ask_for_jetstream() {
    let Some(broker) = require("reserved", Broker::reserved_nats().await) else { return };
    let stream = Stream::at(broker.url(), Config::default()).await;
    stream.transport.publish(&event("a")).await.unwrap();
    let elsewhere = stream.transport.clone().with_route(Route::to("nobody.listens"));
    let error = elsewhere.with_timeout(Duration::from_secs(1)).publish(&event("a")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(error.to_string().starts_with("no stream has the subject `nobody.listens`"), "{error}");
}

#[tokio::test]
async fn a_subject_without_a_stream_is_said_by_its_name() {
    let Some((stream, _broker)) = stream("no stream", Config::default()).await else { return };
    let elsewhere = stream.transport.clone().with_route(Route::to("nobody.listens"));
    let error = elsewhere.publish(&event("a")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed);
    assert!(error.to_string().starts_with("no stream has the subject `nobody.listens`"), "{error}");
}

#[tokio::test]
async fn a_subject_that_nobody_acknowledges_fails_its_events_and_no_others() {
    let Some((stream, mut broker)) = stream("silent", Config::default()).await else { return };
    // Somebody who hears it and does not answer, as a stream without the majority of its replicas.
    let listener = client(&stream.url).await;
    let _listening = listener.subscribe("silent").await.unwrap();
    listener.flush().await.unwrap();
    let transport =
        stream.transport.clone().with_route(Route::by_type()).with_timeout(Duration::from_secs(2));
    let events = [event("silent"), event(&format!("{}.good", stream.name)).with_partition_key("other")];
    let published = transport.publish_all(&events).await;
    let kinds = published.iter().map(|one| (one.id, one.result.as_ref().err().map(PublishError::kind)));
    let kinds: HashMap<_, _> = kinds.collect();
    assert_eq!(kinds[&events[0].id()], Some(PublishErrorKind::Failed));
    assert_eq!(kinds[&events[1].id()], None);
    broker.kill().await;
    assert_eq!(transport.publish(&events[0]).await.unwrap_err().kind(), PublishErrorKind::Unavailable);
}

/// What the server said before an event began says nothing of it.
#[tokio::test]
async fn a_server_that_has_answered_for_others_and_says_no_more_is_no_event_s_fault() {
    let Some(broker) = require("no more", Broker::nats().await) else { return };
    // Somebody who hears it and does not answer.
    let listener = client(broker.url()).await;
    let _listening = listener.subscribe("silent").await.unwrap();
    listener.flush().await.unwrap();
    let port = proxy(broker.port(), |sent| {
        let is_late = sent.windows(9).any(|word| word == b"HPUB late");
        if is_late { Passage::Silent } else { Passage::Open }
    })
    .await;
    let transport = Nats::connect(&format!("nats://outbox:{PASSWORD}@127.0.0.1:{port}")).await.unwrap();
    let transport = transport.with_timeout(Duration::from_secs(2));
    // As many as are published side by side: the last one begins when the server has answered for the first.
    let event = |event_type: &str| Event::new(event_type, json!({})).unwrap();
    let mut events: Vec<_> = (0..256).map(|_| event("silent")).collect();
    let late = event("late");
    events.push(late.clone());
    for Published { id, result } in transport.publish_all(&events).await {
        let error = result.unwrap_err();
        let is_late = id == late.id();
        let kind = if is_late { PublishErrorKind::Unavailable } else { PublishErrorKind::Failed };
        assert_eq!(error.kind(), kind, "{error}");
    }
}

/// So a server before 2.10.19 answers, in a cluster, to the copy of a message that it has yet to store, and may drop.
#[tokio::test]
async fn a_duplicate_without_a_place_in_the_stream_has_failed() {
    let Some(broker) = require("duplicate of nothing", Broker::nats().await) else { return };
    let server = client(broker.url()).await;
    let mut messages = server.subscribe("place.*").await.unwrap();
    server.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let place: u64 = message.subject.trim_start_matches("place.").parse().unwrap();
            let answer = json!({ "stream": "shop", "seq": place, "duplicate": true });
            server.publish(message.reply.unwrap(), answer.to_string().into()).await.unwrap();
        }
    });
    let transport = Nats::connect(broker.url()).await.unwrap();
    let error = transport.publish(&event("place.0")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("place.0"), "{error}");
    transport.publish(&event("place.17")).await.unwrap();
}

/// The server closes the connection where the line of a command is longer than it reads.
#[tokio::test]
async fn a_subject_that_is_too_long_for_the_server_is_rejected_and_disturbs_no_other_event() {
    let Some((stream, _broker)) = stream("long subject", Config::default()).await else { return };
    let subject = |length: usize| format!("{}.{}", stream.name, "x".repeat(length - stream.name.len() - 1));
    let route = |length: usize| stream.transport.clone().with_route(Route::to(subject(length)));
    for length in [3801, 4000, 4090, 5000, 100_000] {
        let transport = route(length);
        let (bad, placed) = (event("long"), event("a"));
        let (refused, accepted) = tokio::join!(transport.publish(&bad), stream.transport.publish(&placed));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{length}: {error}");
        let said = error.to_string();
        assert!(said.contains(&format!("{length} bytes")) && said.contains("3800"), "{said}");
        // Not the subject, which has no place in a line of a log.
        assert!(said.len() < 500, "{said}");
        accepted.unwrap();
        stream.transport.publish(&event("b")).await.unwrap();
    }
    route(3800).publish(&event("longest")).await.unwrap();
    assert_eq!(stream.messages().await.len(), 11);
}

/// A route that goes by what an event says is not to hand out what the server obeys.
#[tokio::test]
async fn a_subject_of_the_server_s_own_is_rejected_and_does_nothing() {
    let Some((stream, _broker)) = stream("own subject", Config::default()).await else { return };
    stream.transport.publish(&event("before")).await.unwrap();
    for request in [format!("$JS.API.STREAM.DELETE.{}", stream.name), "$SYS.REQ.SERVER.PING".to_owned()] {
        let transport = stream.transport.clone().with_route(Route::to(request.clone()));
        let error = transport.publish(&event("a")).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
        assert!(error.to_string().contains(&request), "{error}");
    }
    stream.transport.publish(&event("after")).await.unwrap();
    assert_eq!(stream.messages().await.len(), 2);
}

#[tokio::test]
async fn a_header_that_reads_like_one_of_the_server_s_is_rejected() {
    let Some((stream, _broker)) = stream("headers", Config::default()).await else { return };
    for (name, value) in [
        ("Nats-Msg-Id", "1"),
        ("nats-expected-stream", "other"),
        ("Original-Nats-Msg-Id", "1"),
        ("x-NATS-rollup", "all"),
        ("x-note", "Nats-Msg-Id:1"),
        ("x-note", "see nats-msg-id: 1"),
        ("x-note", "nats-nats-TTL:1h"),
    ] {
        let error = stream.transport.publish(&event("a").with_header(name, value)).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{name}: {value}: {error}");
        let said = error.to_string();
        assert!(said.contains(name) && said.contains("a header of its own"), "{said}");
    }
    assert!(stream.messages().await.is_empty());
    let harmless = ["https://nats-1.example.com:8080/", "Nats-Msg-Id", "gnats: 1", "a:nats-b"];
    for value in harmless {
        stream.transport.publish(&event("a").with_header("x-note", value)).await.unwrap();
    }
    let arrived = stream.messages().await;
    assert_eq!(arrived.iter().map(|message| header(message, "x-note")).collect::<Vec<_>>(), harmless);
}

#[tokio::test]
async fn an_attribute_that_reads_like_a_header_of_the_server_s_arrives_and_hides_no_id() {
    let Some((stream, _broker)) = stream("attributes", Config::default()).await else { return };
    let transport = stream.transport.clone().with_route(Route::to(format!("{}.a", stream.name)));
    let event_type = "Nats-Msg-Id:1, 100%";
    let events: Vec<_> = (0..20).map(|_| event(event_type)).collect();
    // A stream that found another id, or none, would keep one or all of them.
    for event in events.iter().chain(&events) {
        transport.publish(event).await.unwrap();
    }
    let arrived = stream.received().await;
    assert_eq!(arrived.len(), events.len());
    assert!(arrived.iter().all(|one| one.event_type == event_type), "{arrived:?}");
}

/// The inbox of the reply stands in the same line.
#[tokio::test]
async fn the_longest_subject_fits_beside_a_long_inbox() {
    let Some((stream, broker)) = stream("long inbox", Config::default()).await else { return };
    let options =
        async_nats::ConnectOptions::with_user_and_password("outbox".to_owned(), PASSWORD.to_owned());
    let options = options.custom_inbox_prefix("x".repeat(200));
    let client = options.connect(format!("127.0.0.1:{}", broker.port())).await.unwrap();
    let subject = format!("{}.{}", stream.name, "x".repeat(3800 - stream.name.len() - 1));
    let event = Event::new("a", json!("x".repeat(900_000))).unwrap();
    Nats::new(client).with_route(Route::to(subject)).publish(&event).await.unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_its_server_publishes_once_it_is_there() {
    let Some((stream, mut broker)) = stream("first connection", Config::default()).await else { return };
    broker.kill().await;
    let options =
        async_nats::ConnectOptions::with_user_and_password("outbox".to_owned(), PASSWORD.to_owned());
    let address = format!("127.0.0.1:{}", broker.port());
    let client = options.retry_on_initial_connect().connect(address).await.unwrap();
    let transport = Nats::new(client).with_route(Route::by_type_below(format!("{}.", stream.name)));
    let placed = event("order.placed");
    let error = transport.publish(&placed).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    broker.start().await;
    let publishing = async {
        while transport.publish(&placed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, publishing).await.expect("it publishes in the end");
    assert_eq!(stream.messages().await.len(), 1);
}

/// What becomes of what a client has sent, and of its connection.
enum Passage {
    Open,
    Closed,
    /// It stays open, and nothing more goes to the server.
    Silent,
}

/// In front of a server: its port.
async fn proxy(port: u16, passage: impl Fn(&[u8]) -> Passage + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let passage = Arc::new(passage);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            let passage = Arc::clone(&passage);
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let forth = async {
                    let mut buffer = vec![0; 65_536];
                    while let Ok(size @ 1..) = from_client.read(&mut buffer).await {
                        match passage(&buffer[..size]) {
                            Passage::Open => drop(to_server.write_all(&buffer[..size]).await),
                            Passage::Closed => return,
                            Passage::Silent => std::future::pending().await,
                        }
                    }
                };
                tokio::select! {
                    () = forth => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
            });
        }
    });
    own
}

/// In front of a server: its port, and whether it is to close the next connection by which a message is published.
async fn in_front_of(port: u16) -> (u16, Arc<AtomicBool>) {
    let is_to_close = Arc::new(AtomicBool::new(false));
    let closes = Arc::clone(&is_to_close);
    let own = proxy(port, move |sent| {
        let is_message = sent.windows(4).any(|word| word == b"HPUB");
        if is_message && closes.swap(false, SeqCst) { Passage::Closed } else { Passage::Open }
    })
    .await;
    (own, is_to_close)
}

#[tokio::test]
async fn a_connection_that_breaks_and_is_back_at_once_is_no_event_s_fault() {
    let Some((stream, broker)) = stream("reconnection", Config::default()).await else { return };
    let (port, is_to_close) = in_front_of(broker.port()).await;
    let url = format!("nats://outbox:{PASSWORD}@127.0.0.1:{port}");
    let transport = Nats::connect(&url).await.unwrap();
    let transport = transport.with_route(Route::by_type_below(format!("{}.", stream.name)));
    for _ in 0..5 {
        let publishing = async {
            while transport.publish(&event("order.placed")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(HANG, publishing).await.expect("it publishes again");
        is_to_close.store(true, SeqCst);
        let error = transport.publish(&event("order.placed")).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn the_password_is_in_no_error_and_in_no_debug_output() {
    let Some(mut broker) = require("password", Broker::nats().await) else { return };
    let transport = Nats::connect(broker.url()).await.unwrap();
    broker.kill().await;
    let refused = transport.publish(&event("a")).await.unwrap_err();
    let unreachable = Nats::connect(broker.url()).await.unwrap_err();
    let said = format!("{transport:?} {refused} {refused:?} {unreachable} {unreachable:?}");
    assert!(!said.contains(PASSWORD), "{said}");
}

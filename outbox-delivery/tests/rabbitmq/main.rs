//! RabbitMQ as a transport.
#![cfg(feature = "rabbitmq")]

#[path = "../broker/mod.rs"]
mod broker;
mod proxy;
mod silence;

use std::{
    sync::{
        Arc, Mutex as BlockingMutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use outbox_conformance::{
    Skip, require,
    transport::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
};
use outbox_delivery::transport::{
    RabbitMq,
    message::{Encoding, Route},
};
use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Published, Transport, async_trait};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    broker::{Broker, PASSWORD},
    proxy::Proxy,
};

const MAX_BYTES: usize = 500_000;

fn given_url() -> Result<String, Skip> {
    std::env::var("OUTBOX_TEST_RABBITMQ_URL").map_err(|_| {
        Skip::new(
            "OUTBOX_TEST_RABBITMQ_URL names no server: run `cargo xtask servers up`, or `cargo xtask test`",
        )
    })
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await.unwrap();
}

/// A queue, and an exchange of the same name that goes with it, bound by this key.
async fn bind(channel: &Channel, name: &str, kind: lapin::ExchangeKind, key: &str) {
    declare(channel, name, FieldTable::default()).await;
    let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(name.into(), name.into(), key.into(), options, FieldTable::default()).await.unwrap();
}

/// A name that no other test has.
fn unique() -> String {
    format!("outbox-test-{}", EventId::new())
}

/// A transport to a queue of its own.
struct Queue {
    url: String,
    name: String,
    transport: RabbitMq,
    seen: BlockingMutex<Vec<Received>>,
}

impl Queue {
    async fn new(url: &str) -> Self {
        let name = unique();
        let transport = RabbitMq::new(url).unwrap().with_max_bytes(MAX_BYTES).with_route(Route::to(&name));
        let queue = Self { url: url.to_owned(), name, transport, seen: BlockingMutex::default() };
        queue.declare().await;
        queue
    }

    async fn declare(&self) {
        let (_connection, channel) = channel(&self.url).await;
        declare(&channel, &self.name, FieldTable::default()).await;
    }

    async fn received(&self) -> Vec<Received> {
        let (_connection, channel) = channel(&self.url).await;
        let get = || channel.basic_get(self.name.clone().into(), BasicGetOptions { no_ack: true });
        while let Some(message) = get().await.unwrap() {
            self.seen.lock().unwrap().push(read(&message));
        }
        self.seen.lock().unwrap().clone()
    }

    async fn close(&self) {
        let (_connection, channel) = channel(&self.url).await;
        channel.queue_delete(self.name.clone().into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

fn read(message: &BasicGetMessage) -> Received {
    let headers = message.properties.headers().clone().unwrap_or_default();
    let headers = headers.inner().iter().map(|(name, value)| {
        let AMQPValue::LongString(value) = value else { panic!("a header that is no text: {value:?}") };
        (name.as_str().to_lowercase(), value.to_string())
    });
    let headers: std::collections::BTreeMap<_, _> = headers.collect();
    assert_eq!(*message.properties.delivery_mode(), Some(2));
    let event_type = headers["cloudevents:type"].clone();
    // The property takes no more than that.
    let kind = message.properties.kind().as_ref().map(lapin::types::ShortString::as_str);
    assert_eq!(kind, Some(&*event_type).filter(|event_type| event_type.len() <= 255));
    Received {
        id: message.properties.message_id().as_ref().unwrap().as_str().parse().unwrap(),
        event_type,
        payload: serde_json::from_slice(&message.data).unwrap(),
        partition_key: headers.get("cloudevents:partitionkey").cloned(),
        headers,
    }
}

fn too_large() -> Event {
    Event::new("suite.large", json!({ "text": "x".repeat(MAX_BYTES) })).unwrap()
}

#[async_trait]
impl TransportHarness for Queue {
    type Transport = RabbitMq;

    async fn open() -> Result<Self, Skip> {
        Ok(Self::new(&given_url()?).await)
    }

    fn transport(&self) -> &RabbitMq {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.received().await
    }

    async fn close(&self) {
        self.close().await;
    }
}

#[async_trait]
impl RefusingHarness for Queue {
    fn too_large(&self) -> Event {
        too_large()
    }
}

outbox_conformance::transport_suite!(Queue; publish, refuse);

/// The same with a broker of its own.
struct OwnBroker {
    queue: Queue,
    broker: Mutex<Broker>,
}

#[async_trait]
impl TransportHarness for OwnBroker {
    type Transport = RabbitMq;

    async fn open() -> Result<Self, Skip> {
        let broker = Broker::rabbitmq().await?;
        let queue = Queue::new(broker.url()).await;
        // The broker confirms a declaration before it is on the disk, and keeps it back for up to two seconds.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Self { queue, broker: Mutex::new(broker) })
    }

    fn transport(&self) -> &RabbitMq {
        &self.queue.transport
    }

    async fn received(&self) -> Vec<Received> {
        self.queue.received().await
    }
}

#[async_trait]
impl OutageHarness for OwnBroker {
    async fn stop(&self) {
        self.broker.lock().await.kill().await;
    }

    async fn start(&self) {
        self.broker.lock().await.start().await;
        // As a consumer does: one that is killed right after a queue was declared may not have that on its disk yet.
        self.queue.declare().await;
    }
}

outbox_conformance::transport_suite!(OwnBroker; outage, durable);

/// Two queues, of which one is away while it is deleted.
struct Queues {
    here: Queue,
    part: Queue,
    transport: RabbitMq,
    is_away: AtomicBool,
}

#[async_trait]
impl TransportHarness for Queues {
    type Transport = RabbitMq;

    async fn open() -> Result<Self, Skip> {
        let url = given_url()?;
        let (here, part) = (Queue::new(&url).await, Queue::new(&url).await);
        let names = (here.name.clone(), part.name.clone());
        let route = Route::new(
            move |event| {
                if event.event_type() == PART { names.1.clone() } else { names.0.clone() }
            },
        );
        let transport = RabbitMq::new(&url).unwrap().with_route(route);
        Ok(Self { here, part, transport, is_away: AtomicBool::new(false) })
    }

    fn transport(&self) -> &RabbitMq {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        let mut received = self.here.received().await;
        if !self.is_away.load(Ordering::SeqCst) {
            received.extend(self.part.received().await);
        }
        received
    }

    async fn close(&self) {
        self.here.close().await;
        self.part.close().await;
    }
}

#[async_trait]
impl PartHarness for Queues {
    async fn take_away(&self) {
        // It is to come back with what it has.
        self.part.received().await;
        self.part.close().await;
        self.is_away.store(true, Ordering::SeqCst);
    }

    async fn bring_back(&self) {
        self.part.declare().await;
        self.is_away.store(false, Ordering::SeqCst);
    }
}

outbox_conformance::transport_suite!(Queues; part);

#[tokio::test]
async fn a_message_without_a_queue_has_failed_until_there_is_one() {
    let Some(url) = require("rabbitmq::without_queue", given_url()) else { return };
    let (name, event) = (unique(), Event::new("order.placed", json!({})).unwrap());
    let transport = RabbitMq::new(&url).unwrap().with_route(Route::to(&name));
    let error = transport.publish(&event).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(
        error.to_string().starts_with(&format!("no queue is bound for the routing key `{name}`")),
        "{error}"
    );

    let (_connection, channel) = channel(&url).await;
    declare(&channel, &name, FieldTable::default()).await;
    transport.publish(&event).await.unwrap();
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

/// A broker says of an unroutable message at once that it comes back, and of the others when they are on the disk.
#[tokio::test]
async fn a_message_that_comes_back_is_told_from_those_that_are_confirmed_at_the_same_time() {
    let Some(url) = require("rabbitmq::mixed", given_url()) else { return };
    let (prefix, (_connection, channel)) = (unique(), channel(&url).await);
    let queue = |kind: &str| format!("{prefix}.{kind}");
    for kind in ["classic", "quorum"] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        declare(&channel, &queue(kind), arguments).await;
    }
    let transport = RabbitMq::new(&url).unwrap().with_route(Route::by_type_below(format!("{prefix}.")));
    for round in 0..50 {
        let events: Vec<_> = (0..60)
            .map(|n| {
                let kind = fastrand::choice(["classic", "quorum", "unbound"]).unwrap();
                let event = Event::new(kind, json!({})).unwrap();
                // Some alone, and some with a key that many have.
                if n % 3 == 0 { event } else { event.with_partition_key(format!("{kind}-{}", n % 10)) }
            })
            .collect();
        let published = transport.publish_all(&events).await;
        assert_eq!(published.len(), events.len());
        for Published { id, result } in published {
            let event = events.iter().find(|event| event.id() == id).unwrap();
            let kind = result.as_ref().err().map(PublishError::kind);
            let is_right = match event.event_type() {
                "unbound" => {
                    matches!(kind, Some(PublishErrorKind::Failed | PublishErrorKind::NotAttempted))
                }
                _ => kind.is_none(),
            };
            assert!(is_right, "round {round}: {} is {result:?}", event.event_type());
        }
    }
    for kind in ["classic", "quorum"] {
        channel.queue_delete(queue(kind).into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_queue_that_is_full_fails_an_event_and_what_follows_it_waits() {
    let Some(url) = require("rabbitmq::full", given_url()) else { return };
    let (name, (_connection, channel)) = (unique(), channel(&url).await);
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    declare(&channel, &name, arguments).await;
    let transport = RabbitMq::new(&url).unwrap().with_route(Route::to(&name));
    let event = || Event::new("order.placed", json!({})).unwrap().with_partition_key("one");
    let published = transport.publish_all(&[event(), event(), event()]).await;
    let kinds: Vec<_> = published.into_iter().map(|one| one.result.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(PublishErrorKind::Failed), Some(PublishErrorKind::NotAttempted)]);
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn an_exchange_that_is_missing_is_no_event_s_fault() {
    let Some(url) = require("rabbitmq::exchange", given_url()) else { return };
    let (name, (_connection, channel)) = (unique(), channel(&url).await);
    let transport = RabbitMq::new(&url).unwrap().with_exchange(&name).with_encoding(Encoding::Structured);
    let events: Vec<_> = (0..3).map(|_| Event::new("order.placed", json!({})).unwrap()).collect();
    for published in transport.publish_all(&events).await {
        let error = published.result.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
        assert!(error.to_string().starts_with(&format!("RabbitMQ has no exchange `{name}`")), "{error}");
    }

    bind(&channel, &name, lapin::ExchangeKind::Topic, "order.*").await;
    assert!(transport.publish_all(&events).await.iter().all(|published| published.result.is_ok()));
    let message =
        channel.basic_get(name.clone().into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
    assert_eq!((&body["specversion"], &body["type"]), (&json!("1.0"), &json!("order.placed")));
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_the_user_may_not_write_has_failed_and_nothing_else() {
    let Some(url) = require("rabbitmq::permission", given_url()) else { return };
    let (name, (_connection, channel)) = (unique(), channel(&url).await);
    // The broker answers as where the permission is missing.
    let options = ExchangeDeclareOptions { internal: true, ..ExchangeDeclareOptions::default() };
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare(name.clone().into(), kind, options, FieldTable::default()).await.unwrap();
    let transport = RabbitMq::new(&url).unwrap().with_exchange(&name);
    let error = transport.publish(&Event::new("order.placed", json!({})).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("with the routing key `order.placed`"), "{error}");
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn headers_that_fill_a_frame_arrive_and_larger_ones_are_rejected() {
    let Some(url) = require("rabbitmq::frame", given_url()) else { return };
    let queue = Queue::new(&url).await;
    let transport =
        RabbitMq::new(&format!("{url}?frame_max=8192")).unwrap().with_route(Route::to(&queue.name));
    let event = |size: usize| {
        let event = Event::new("order.placed", json!({})).unwrap().with_header("x-large", "x".repeat(size));
        event.with_header("x-small", "x")
    };
    // From what is taken to what is not, across every size at which a frame could be full.
    let mut accepted = 0;
    for size in (6000..8400).step_by(10) {
        match transport.publish(&event(size)).await {
            Ok(()) => accepted += 1,
            Err(error) => assert_eq!(error.kind(), PublishErrorKind::Rejected, "{size}: {error}"),
        }
    }
    assert!((20..200).contains(&accepted), "{accepted}");
    assert_eq!(queue.received().await.len(), accepted);
    queue.close().await;
}

#[tokio::test]
async fn headers_that_have_no_room_in_a_frame_are_rejected() {
    let Some(url) = require("rabbitmq::headers", given_url()) else { return };
    let transport = RabbitMq::new(&url).unwrap();
    let event = Event::new("order.placed", json!({})).unwrap();
    for event in [
        event.clone().with_header("x-large", "x".repeat(200_000)),
        event.clone().with_header("x".repeat(300), "x"),
        event.with_header("cloudEvents:id", "1"),
    ] {
        let error = transport.publish(&event).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    }
}

#[tokio::test]
async fn a_type_that_is_too_long_for_the_property_is_an_attribute_alone() {
    let Some(url) = require("rabbitmq::long_type", given_url()) else { return };
    let queue = Queue::new(&url).await;
    let (_connection, channel) = channel(&url).await;
    let types = [("x".repeat(255), true), ("x".repeat(256), false), ("ß".repeat(256), false)];
    for (event_type, has_room) in types {
        queue.transport.publish(&Event::new(event_type.as_str(), json!({})).unwrap()).await.unwrap();
        let message = channel.basic_get(queue.name.clone().into(), BasicGetOptions { no_ack: true }).await;
        let message = message.unwrap().unwrap();
        let kind = message.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
        assert_eq!(kind, has_room.then(|| event_type.clone()));
        let headers = message.properties.headers().clone().unwrap();
        let attribute = headers.inner().get("cloudEvents:type").cloned();
        assert_eq!(attribute, Some(AMQPValue::LongString(event_type.into())));
    }
    queue.close().await;
}

#[tokio::test]
async fn a_time_beyond_all_clocks_is_waited_for_as_any_other() {
    let Some(url) = require("rabbitmq::longest", given_url()) else { return };
    let queue = Queue::new(&url).await;
    let transport =
        RabbitMq::new(&url).unwrap().with_route(Route::to(&queue.name)).with_timeout(Duration::MAX);
    transport.publish(&Event::new("order.placed", json!({})).unwrap()).await.unwrap();
    assert_eq!(queue.received().await.len(), 1);
    queue.close().await;
}

#[tokio::test]
async fn channels_that_the_broker_has_closed_use_no_connection_up() {
    let Some(url) = require("rabbitmq::channels", given_url()) else { return };
    let (name, (_connection, channel)) = (unique(), channel(&url).await);
    let transport = RabbitMq::new(&format!("{url}?channel_max=10")).unwrap().with_exchange(&name);
    let events: Vec<_> = (0..30).map(|_| Event::new("order.placed", json!({})).unwrap()).collect();
    // Each closes at least one channel, and the connection has no more than ten.
    for _ in 0..20 {
        for published in transport.publish_all(&events).await {
            let kind = published.result.unwrap_err().kind();
            let is_innocent = matches!(kind, PublishErrorKind::Unavailable | PublishErrorKind::NotAttempted);
            assert!(is_innocent, "{kind:?}");
        }
    }
    bind(&channel, &name, lapin::ExchangeKind::Fanout, "").await;
    // The first may be the one that finds out that the connection is of no use.
    let first = transport.publish_all(&events).await;
    let second = transport.publish_all(&events).await;
    let has_worked = |published: &[Published]| published.iter().all(|one| one.result.is_ok());
    assert!(has_worked(&first) || has_worked(&second), "{second:?}");
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_routing_key_of_a_reply_is_rejected_and_harms_no_other() {
    let Some(url) = require("rabbitmq::reply", given_url()) else { return };
    let queue = Queue::new(&url).await;
    let transport = RabbitMq::new(&url).unwrap();
    let event = |event_type: &str| Event::new(event_type, json!({})).unwrap();
    for key in ["amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMDI0MDAAAAAAAA.b", "amq.rabbitmq.reply-to.x"] {
        let published = transport.publish_all(&[event(key), event(&queue.name)]).await;
        let kind = |published: &Published| published.result.as_ref().err().map(PublishError::kind);
        let kinds: Vec<_> = published.iter().map(kind).collect();
        assert_eq!(kinds, [Some(PublishErrorKind::Rejected), None], "{key}");
    }
    assert_eq!(queue.received().await.len(), 2);
    queue.close().await;
}

#[tokio::test]
async fn a_header_with_a_meaning_of_its_own_is_rejected_in_every_encoding() {
    let Some(url) = require("rabbitmq::attributes", given_url()) else { return };
    let of_attributes =
        ["cloudEvents:foo", "cloudEvents_id", "cloudEvents:subject", "CLOUDEVENTS:id", "cloudevents_x"];
    for name in of_attributes.into_iter().chain(["CC", "BCC", "x-delivery-count"]) {
        for encoding in [Encoding::Binary, Encoding::Structured, Encoding::Plain] {
            let transport = RabbitMq::new(&url).unwrap().with_encoding(encoding);
            let event = Event::new("order.placed", json!({})).unwrap().with_header(name, "1");
            let error = transport.publish(&event).await.unwrap_err();
            assert_eq!(error.kind(), PublishErrorKind::Rejected, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[tokio::test]
async fn an_address_of_ipv6_is_connected_to() {
    let Some(url) = require("rabbitmq::ipv6", given_url()) else { return };
    let ipv6 = Proxy::at("[::1]:0", &url).await.map_err(|_| Skip::new("this machine has no IPv6"));
    let Some(proxy) = require("rabbitmq::ipv6", ipv6) else { return };
    assert!(proxy.url().contains("@[::1]:"), "{}", proxy.url());
    let queue = Queue::new(&url).await;
    let transport = RabbitMq::new(proxy.url()).unwrap().with_route(Route::to(&queue.name));
    let event = Event::new("order.placed", json!({})).unwrap();
    transport.publish(&event).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    assert_eq!(queue.received().await[0].id, event.id());
    queue.close().await;
}

#[test]
fn a_url_goes_where_it_says() {
    for (url, address) in [
        ("amqp://u:pw@[2001:db8::dead:beef]:46193/%2f", "[2001:db8::dead:beef]:46193"),
        ("amqp://[::1]", "[::1]:5672"),
        ("amqps://u:p%40@[::1]/%2f", "[::1]:5671"),
        ("amqps://[::1]:5/v?heartbeat=10", "[::1]:5"),
        ("amqp://u:pw@broker.example/a@b", "broker.example:5672"),
        ("amqp://127.0.0.1:5?heartbeat=10", "127.0.0.1:5"),
        // As a secret that was read from a file ends.
        (" amqp://localhost:1\n", "localhost:1"),
    ] {
        let transport = format!("{:?}", RabbitMq::new(url).unwrap());
        assert!(transport.contains(&format!("address: {address:?},")), "{url}: {transport}");
    }
}

#[test]
fn a_url_that_says_no_place_is_refused_and_does_not_mean_this_machine() {
    for url in [
        "amqp:///%2f",
        "amqp://",
        "amqp:/broker:5672/%2f",
        "amqp://u:pw@:5672/%2f",
        "amqp://u:pw@/%2f",
        "amqp://:5672/%2f",
        "amqp:///broker:5672/%2f",
        "amqp://broker:99999/%2f",
        "amqp://broker:port/%2f",
        "amqp://broker:-1/%2f",
        "amqp://broker:5672x/%2f",
        "amqp://[::1/%2f",
        "amqp://[::1]x:5672/%2f",
        "amqp://[fe80::1%25eth0]/%2f",
        "amqp://[localhost]/%2f",
        "amqp://::1/%2f",
        "amqp://a b/%2f",
        "amqp:/\t/[::1]/%2f",
        "amqp://\t[::1]/%2f",
        "http://broker/%2f",
    ] {
        let error = RabbitMq::new(url).map(|transport| format!("{transport:?}")).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{url}");
        assert!(error.to_string().starts_with("the URL of RabbitMQ cannot be read"), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_password_stands_in_no_text() {
    let url = format!("amqp://outbox:{PASSWORD}@127.0.0.1:1/%2f");
    let transport = Arc::new(RabbitMq::new(&url).unwrap());
    let error = transport.publish(&Event::new("a.b", json!({})).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    let unreadable = RabbitMq::new(&format!("amqp:outbox:{PASSWORD}@")).unwrap_err();
    for text in
        [format!("{transport:?}"), format!("{error} {error:?}"), format!("{unreadable} {unreadable:?}")]
    {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(format!("{transport:?}").contains("127.0.0.1:1"));
}

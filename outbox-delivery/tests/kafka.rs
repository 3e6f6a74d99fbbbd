//! Kafka as a transport, against the cluster that librdkafka has for tests of clients. It speaks the protocol over
//! TCP and can be stopped, and forgets nothing by that, so there is nothing to say of what survives a crash.
#![cfg(feature = "kafka")]

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use outbox_conformance::{
    Skip,
    transport::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
};
use outbox_delivery::transport::{Kafka, message::Route};
use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Published, Transport, async_trait};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr as Code},
};
use serde_json::json;

const MAX_BYTES: usize = 500_000;
const PARTITIONS: i32 = 3;
/// A guard against hanging, no promise.
const PATIENCE: Duration = Duration::from_secs(30);

enum Order {
    Stop,
    Start,
    /// Takes this topic away, as far as a producer can see.
    LoseTopic(String),
    /// Makes a topic, of which this broker leads all partitions.
    Create(String, i32),
    StopOne(i32),
    StartOne(i32),
    /// Refuses so many of the next requests of this kind.
    Refuse(RDKafkaApiKey, Code, usize),
}

/// A cluster, mostly of one broker. It lives in a thread, because it cannot be moved between them.
struct Cluster {
    address: String,
    orders: Mutex<mpsc::Sender<(Order, mpsc::Sender<()>)>>,
}

impl Cluster {
    fn start(topic: &str, brokers: i32) -> Self {
        let (orders, received) = mpsc::channel::<(Order, mpsc::Sender<()>)>();
        let (started, address) = mpsc::channel();
        let topic = topic.to_owned();
        thread::spawn(move || {
            let cluster = MockCluster::new(brokers).unwrap();
            cluster.create_topic(&topic, PARTITIONS, 1).unwrap();
            started.send(cluster.bootstrap_servers()).unwrap();
            for (order, done) in received {
                match order {
                    Order::Stop => cluster.broker_down(1).unwrap(),
                    Order::Start => cluster.broker_up(1).unwrap(),
                    Order::LoseTopic(topic) => {
                        cluster.topic_error(&topic, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
                    }
                    Order::Create(topic, broker) => {
                        cluster.create_topic(&topic, PARTITIONS, 1).unwrap();
                        for partition in 0..PARTITIONS {
                            cluster.partition_leader(&topic, partition, Some(broker)).unwrap();
                        }
                    }
                    Order::StopOne(broker) => cluster.broker_down(broker).unwrap(),
                    Order::StartOne(broker) => cluster.broker_up(broker).unwrap(),
                    Order::Refuse(kind, error, count) => {
                        cluster.request_errors(kind, &vec![error; count]);
                    }
                }
                done.send(()).unwrap();
            }
        });
        Self { address: address.recv().unwrap(), orders: Mutex::new(orders) }
    }

    fn order(&self, order: Order) {
        let (sender, done) = mpsc::channel();
        self.orders.lock().unwrap().send((order, sender)).unwrap();
        done.recv().unwrap();
    }
}

/// A transport to a topic of its own.
struct Topic {
    cluster: Cluster,
    name: String,
    transport: Kafka,
}

impl Topic {
    fn new() -> Self {
        let name = format!("outbox-test-{}", EventId::new());
        let cluster = Cluster::start(&name, 1);
        let transport = Kafka::new(&cluster.address)
            .with_max_bytes(MAX_BYTES)
            // As long as the tests of an outage wait for each answer.
            .with_timeout(Duration::from_secs(3))
            .with_setting("reconnect.backoff.max.ms", "500")
            .with_route(Route::to(&name));
        Self { cluster, name, transport }
    }

    /// A transport with time for what the client does after a refusal.
    fn patient(&self) -> Kafka {
        Kafka::new(&self.cluster.address).with_timeout(PATIENCE).with_route(Route::to(&self.name))
    }

    /// Refuses so many of the next messages.
    fn refuse(&self, code: Code, count: usize) {
        self.cluster.order(Order::Refuse(RDKafkaApiKey::Produce, code, count));
    }

    /// All of the topic, in the order of each partition.
    fn read(address: &str, topic: &str) -> Vec<Received> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address).set("group.id", "reader");
        let consumer: BaseConsumer = config.create().unwrap();
        let (mut partitions, mut count) = (TopicPartitionList::new(), 0);
        for partition in 0..PARTITIONS {
            let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
            partitions.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
            count += high - low;
        }
        consumer.assign(&partitions).unwrap();
        let (mut received, end) = (Vec::new(), Instant::now() + PATIENCE);
        while i64::try_from(received.len()).unwrap() < count {
            let left = end.saturating_duration_since(Instant::now());
            match consumer.poll(left).expect("a message in time") {
                Ok(message) => received.push(read(&message)),
                // It tells of every broker that is away, and has what it was asked for from another.
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        received
    }
}

fn read(message: &BorrowedMessage) -> Received {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = message.headers().unwrap().iter();
    let headers: BTreeMap<_, _> =
        headers.map(|header| (header.key.to_lowercase(), text(header.value.unwrap()))).collect();
    let partition_key = message.key().map(text);
    assert_eq!(headers.get("ce_partitionkey"), partition_key.as_ref());
    Received {
        id: headers["ce_id"].parse().unwrap(),
        event_type: headers["ce_type"].clone(),
        payload: serde_json::from_slice(message.payload().unwrap()).unwrap(),
        partition_key,
        headers,
    }
}

#[async_trait]
impl TransportHarness for Topic {
    type Transport = Kafka;

    async fn open() -> Result<Self, Skip> {
        Ok(Self::new())
    }

    fn transport(&self) -> &Kafka {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        let (address, name) = (self.cluster.address.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || Self::read(&address, &name)).await.unwrap()
    }
}

#[async_trait]
impl RefusingHarness for Topic {
    fn too_large(&self) -> Event {
        Event::new("suite.large", json!({ "text": "x".repeat(MAX_BYTES) })).unwrap()
    }
}

#[async_trait]
impl OutageHarness for Topic {
    async fn stop(&self) {
        self.cluster.order(Order::Stop);
    }

    async fn start(&self) {
        self.cluster.order(Order::Start);
    }
}

outbox_conformance::transport_suite!(Topic; publish, refuse, outage);

/// Two topics on a broker each, of which one is away while its broker is down.
struct Topics {
    cluster: Cluster,
    transport: Kafka,
    is_away: AtomicBool,
}

const HERE: &str = "suite.here";

#[async_trait]
impl TransportHarness for Topics {
    type Transport = Kafka;

    async fn open() -> Result<Self, Skip> {
        let cluster = Cluster::start("other", 2);
        cluster.order(Order::Create(HERE.to_owned(), 1));
        cluster.order(Order::Create(PART.to_owned(), 2));
        let route = Route::new(|event| if event.event_type() == PART { PART } else { HERE }.to_owned());
        let transport =
            Kafka::new(&cluster.address).with_setting("reconnect.backoff.max.ms", "500").with_route(route);
        Ok(Self { cluster, transport, is_away: AtomicBool::new(false) })
    }

    fn transport(&self) -> &Kafka {
        &self.transport
    }

    async fn received(&self) -> Vec<Received> {
        let address = self.cluster.address.clone();
        let topics = if self.is_away.load(Ordering::SeqCst) { &[HERE][..] } else { &[HERE, PART] };
        let read = move || topics.iter().flat_map(|topic| Topic::read(&address, topic)).collect();
        tokio::task::spawn_blocking(read).await.unwrap()
    }
}

#[async_trait]
impl PartHarness for Topics {
    async fn take_away(&self) {
        self.cluster.order(Order::StopOne(2));
        self.is_away.store(true, Ordering::SeqCst);
    }

    async fn bring_back(&self) {
        self.cluster.order(Order::StartOne(2));
        self.is_away.store(false, Ordering::SeqCst);
    }
}

outbox_conformance::transport_suite!(Topics; part);

fn event() -> Event {
    Event::new("order.placed", json!({ "total": 4200 })).unwrap()
}

#[tokio::test]
async fn a_topic_that_is_missing_has_failed() {
    let topic = Topic::new();
    topic.transport.publish(&event()).await.unwrap();
    topic.cluster.order(Order::LoseTopic(topic.name.clone()));
    let transport = Kafka::new(&topic.cluster.address).with_route(Route::to(&topic.name));
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    assert!(error.to_string().starts_with(&format!("there is no topic `{}`", topic.name)), "{error}");
}

#[tokio::test]
async fn a_partition_without_a_leader_fails_its_events_and_no_others() {
    let cluster = Cluster::start("other", 2);
    let transport = Kafka::new(&cluster.address);
    let events = ["silent.a", "silent.b", "good"].map(|name| Event::new(name, json!({})).unwrap());
    let all_accepted = |published: Vec<Published>| published.iter().all(|one| one.result.is_ok());
    for (name, broker) in [("silent.a", 2), ("silent.b", 2), ("good", 1)] {
        cluster.order(Order::Create(name.to_owned(), broker));
    }
    assert!(all_accepted(transport.publish_all(&events).await));
    cluster.order(Order::StopOne(2));
    let published = transport.publish_all(&events).await;
    let kind = |event: &Event| {
        let published = published.iter().find(|published| published.id == event.id()).unwrap();
        published.result.as_ref().err().map(PublishError::kind)
    };
    let failed = Some(PublishErrorKind::Failed);
    assert_eq!([kind(&events[0]), kind(&events[1]), kind(&events[2])], [failed, failed, None]);
    cluster.order(Order::StopOne(1));
    let error = transport.publish(&events[2]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
}

/// What a broker says of a message stands for all that came in the same request.
#[tokio::test]
async fn a_message_that_is_refused_in_company_is_sent_alone_before_it_is_rejected() {
    let topic = Topic::new();
    let transport = topic.patient();
    transport.publish(&event()).await.unwrap();
    for code in [
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        // The request is too large, and no message need be.
        Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
    ] {
        topic.refuse(code, 1);
        transport.publish(&event()).await.unwrap();
        topic.refuse(code, 2);
        let error = transport.publish(&event()).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
        transport.publish(&event()).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_came_with_one_to_blame_is_sent_alone_and_never_rejected_for_it() {
    let topic = Topic::new();
    let transport = topic.patient();
    let code = Code::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD;
    topic.refuse(code, 1);
    transport.publish(&event()).await.unwrap();
    topic.refuse(code, 2);
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
}

#[tokio::test]
async fn what_a_broker_does_not_know_the_reason_of_has_failed() {
    let topic = Topic::new();
    topic.refuse(Code::RD_KAFKA_RESP_ERR_UNKNOWN, 1);
    let transport = topic.patient();
    let error = transport.publish(&event()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    transport.publish(&event()).await.unwrap();
}

#[tokio::test]
async fn a_producer_that_breaks_while_nothing_is_under_way_is_made_anew() {
    let topic = Topic::new();
    let code = Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    topic.cluster.order(Order::Refuse(RDKafkaApiKey::InitProducerId, code, 1));
    // It makes the producer and sends nothing.
    topic.transport.publish(&topic.too_large()).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut published = topic.transport.publish(&event()).await;
    for _ in 0..5 {
        if published.is_err() {
            published = topic.transport.publish(&event()).await;
        }
    }
    published.unwrap();
}

#[tokio::test]
async fn a_name_that_is_no_topic_is_rejected() {
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "größe", "a\0b", &long] {
        let transport = Kafka::new("127.0.0.1:1").with_route(Route::to(name));
        let error = transport.publish(&event()).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    }
}

#[tokio::test]
async fn a_header_with_the_name_of_another_is_rejected_in_any_case() {
    let transport = Kafka::new("127.0.0.1:1").with_timeout(Duration::from_millis(100));
    for name in ["ce_id", "content-type", "a\0b", "Ce_Id", "CE_anything", "Content-Type"] {
        let error = transport.publish(&event().with_header(name, "x")).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{name:?}: {error}");
    }
}

/// Both names of a setting would be taken in the order of a map, which is another in every producer.
#[tokio::test]
async fn of_two_names_of_a_setting_the_last_counts() {
    let transport = Kafka::new("127.0.0.1:1")
        .with_setting("delivery.timeout.ms", "700")
        .with_setting("queue.buffering.max.ms", "1")
        .with_setting("metadata.broker.list", "127.0.0.1:2")
        .with_setting("compression.type", "lz4")
        .with_setting("compression.codec", "none");
    let shown = format!("{transport:?}");
    for (last, other) in [
        ("delivery.timeout.ms", "message.timeout.ms"),
        ("queue.buffering.max.ms", "linger.ms"),
        ("metadata.broker.list", "bootstrap.servers"),
        ("compression.codec", "compression.type"),
    ] {
        assert!(shown.contains(&format!("{last:?}")) && !shown.contains(&format!("{other:?}")), "{shown}");
    }
    let shown = format!("{:?}", transport.with_timeout(Duration::from_secs(1)));
    assert!(shown.contains("message.timeout.ms") && !shown.contains("delivery.timeout.ms"), "{shown}");
}

#[tokio::test]
async fn all_replicas_are_waited_for_whatever_name_the_setting_has() {
    let topic = Topic::new();
    for _ in 0..12 {
        let transport = Kafka::new(&topic.cluster.address)
            .with_setting("request.required.acks", "1")
            .with_setting("acks", "1")
            .with_setting("enable.idempotence", "false")
            .with_route(Route::to(&topic.name));
        transport.publish(&event()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_accepted_is_heard_of_whatever_the_settings_say() {
    let topic = Topic::new();
    let transport = topic.patient().with_setting("delivery.report.only.error", "true");
    let event = event();
    let published = tokio::time::timeout(PATIENCE, transport.publish(&event)).await;
    published.expect("it is heard of").unwrap();
}

#[tokio::test]
async fn a_timeout_of_any_length_is_taken() {
    let topic = Topic::new();
    for timeout in [Duration::from_hours(3), Duration::from_hours(24 * 365), Duration::MAX] {
        let transport =
            Kafka::new(&topic.cluster.address).with_timeout(timeout).with_route(Route::to(&topic.name));
        transport.publish(&event()).await.unwrap();
    }
}

#[tokio::test]
async fn a_limit_of_any_size_is_taken() {
    let topic = Topic::new();
    for limit in [0, usize::MAX] {
        let transport =
            Kafka::new(&topic.cluster.address).with_max_bytes(limit).with_route(Route::to(&topic.name));
        transport.publish(&event()).await.unwrap();
    }
}

#[tokio::test]
async fn the_values_of_settings_stand_in_no_text() {
    let secret = "s3cret-of-the-tests";
    for name in ["no.such.setting", "queue.buffering.max.messages"] {
        let transport = Kafka::new("127.0.0.1:1").with_setting(name, secret);
        let error = transport.publish(&event()).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
        let text = format!("{transport:?} {error} {error:?}");
        assert!(text.contains(name) && !text.contains(secret), "{text}");
    }
}

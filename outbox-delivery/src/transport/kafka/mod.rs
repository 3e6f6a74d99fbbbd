//! Kafka as a transport.

mod producer;
mod refused;
mod settings;

use std::{fmt, ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use outbox_traits::{Event, PublishError, Published, Transport};
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureRecord, Producer as _},
};
use tokio::{task::spawn_blocking, time::Instant};

use self::{
    producer::{Company, Producers},
    refused::{is_of_company, is_timeout, not_in_time, refused},
};
use crate::transport::{
    by_key::publish_by_key,
    message::{Encoding, Message, Route},
    probe::Probe,
};

/// Publishes events to topics of Kafka, or of another broker of its protocol.
///
/// An event is accepted when the broker reported that all replicas in sync have it (`acks=all`): how many these are
/// at least is the topic's `min.insync.replicas`. The producer is idempotent (`enable.idempotence`), so that what it
/// sends again after a lost answer is written once. What the relay publishes again is another message.
///
/// The partition key of the event is the key of the message, and chooses the partition as clients in Java do
/// (`murmur2_random`). The attributes of a CloudEvent are headers with the prefix `ce_`, beside `content-type` and
/// the headers of the event; a header of the event with such a name, in any case, is
/// [`Rejected`](outbox_traits::PublishErrorKind::Rejected). So is a topic whose name Kafka does not know how to
/// spell. A topic that is missing, where the broker does not create it, has
/// [`Failed`](outbox_traits::PublishErrorKind::Failed).
///
/// In a batch the keys are published side by side, and an event once the one before it of its key was accepted.
///
/// It connects with the first event, and again after it has lost the connection; until then events are
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable), each after the timeout. Where the cluster answers and
/// one partition does not, its events have [`Failed`](outbox_traits::PublishErrorKind::Failed). For TLS and SASL switch
/// the features `ssl` and `sasl` of the crate `rdkafka` on.
///
/// | default | |
/// |---|---|
/// | [route](Self::with_route) | the type of the event is the topic |
/// | [encoding](Self::with_encoding) | [`Encoding::Binary`] |
/// | [source](Self::with_source) | `outbox`, where the event has none |
/// | [limit](Self::with_max_bytes) | 1,000,000 bytes, which brokers take unless they are told otherwise |
/// | [timeout](Self::with_timeout) | 10 seconds |
///
/// ```
/// use outbox_delivery::transport::{Kafka, message::Route};
///
/// let transport = Kafka::new("kafka-1:9092,kafka-2:9092")
///     .with_route(Route::to("shop-events"))
///     .with_setting("client.id", "shop");
/// ```
pub struct Kafka {
    producers: Producers,
    route: Route,
    encoding: Encoding,
    source: String,
}

const KEYS_AT_ONCE: usize = 1024;
const MAX_BYTES: usize = 1_000_000;
/// What `message.max.bytes` may be.
const TAKEN_BYTES: RangeInclusive<usize> = 1000..=1_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest `message.timeout.ms` in whole days, and the longest `topic.metadata.propagation.max.ms`.
const MAX_TIMEOUT: Duration = Duration::from_hours(24 * 24);
const MAX_PROPAGATION: Duration = Duration::from_hours(1);
/// How long the cluster may take to answer at all.
const PROBE: Duration = Duration::from_secs(5);

impl Kafka {
    /// A transport to the cluster of these brokers, with commas between them: `host:9092,host:9092`.
    #[must_use]
    pub fn new(brokers: &str) -> Self {
        let kafka = Self {
            producers: Producers::new(brokers),
            route: Route::by_type(),
            encoding: Encoding::default(),
            source: "outbox".to_owned(),
        };
        kafka.with_max_bytes(MAX_BYTES).with_timeout(TIMEOUT)
    }

    /// With the topic of this name for each event. By default its type.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// With this form of the messages. By default [`Encoding::Binary`].
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The `source` of the CloudEvent of an event that has [none of its own](Event::with_source). By default, and where it
    /// is empty, `outbox`.
    ///
    /// It names the producer: a consumer of several tells their events apart by it, and by nothing else where they have
    /// types in common. It becomes a reference to a URI, such as `shop` or `https://example.com/shop`.
    /// [`Encoding::Plain`] has none.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// With this limit, from a thousand bytes to a billion: a message with more, key and headers included, is
    /// [`Rejected`](outbox_traits::PublishErrorKind::Rejected). By default 1,000,000 bytes. It is the setting
    /// `message.max.bytes`.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.clamp(*TAKEN_BYTES.start(), *TAKEN_BYTES.end());
        self.with_setting("message.max.bytes", max_bytes.to_string())
    }

    /// Waits so long for the report on an event, to the millisecond, and for 24 days at most. Then the event has failed
    /// if the cluster still answers, and otherwise the cluster counts as unavailable, after five more seconds at most.
    /// It is the setting `message.timeout.ms`. A topic counts as missing after half of it, or after an hour.
    /// By default 10 seconds.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let millis = timeout.as_millis().clamp(1, MAX_TIMEOUT.as_millis());
        // Longer, and a topic that is missing would look like a cluster that is.
        let missing = (millis / 2).min(MAX_PROPAGATION.as_millis());
        self.with_setting("message.timeout.ms", millis.to_string())
            .with_setting("topic.metadata.propagation.max.ms", missing.to_string())
    }

    /// With a setting of librdkafka, by the name that its documentation gives, such as `security.protocol`. A name
    /// or a value that it does not know makes every event
    /// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable). What is set last counts, under whichever of its names,
    /// [limit](Self::with_max_bytes) and [timeout](Self::with_timeout) among it. `enable.idempotence`, `acks` and
    /// `delivery.report.only.error` stay as they are.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.producers.set(name, value.into());
        self
    }

    async fn send(&self, event: &Event, probe: &Probe) -> Result<(), PublishError> {
        let began = Instant::now();
        let message = Message::of(event, self.encoding, &self.source)?;
        let topic = topic(self.route.try_of(event)?)?;
        let headers = headers(&message)?;
        let record = || FutureRecord {
            key: event.partition_key(),
            headers: Some(headers.clone()),
            ..FutureRecord::to(&topic).payload(&*message.body)
        };
        let mut produced = self.produce(record(), Company::Together).await?;
        if let Err(Refusal::Report(error)) = &produced
            && is_of_company(error)
        {
            produced = self.produce(record(), Company::Alone).await?;
        }
        let Err(Refusal::Client(error) | Refusal::Report(error)) = produced else { return Ok(()) };
        if is_timeout(&error) && probe.answer(began, self.is_answering(&topic)).await {
            return Err(not_in_time(error, &topic));
        }
        Err(refused(error, &topic))
    }

    /// Sends a message, and waits for the report on it.
    async fn produce(
        &self,
        record: FutureRecord<'_, str, [u8]>,
        company: Company,
    ) -> Result<Result<(), Refusal>, PublishError> {
        let producer = self.producers.get(company)?;
        let produced = match producer.send_result(record) {
            Ok(report) => report
                .await
                .map_err(|_| {
                    PublishError::unavailable("the producer of Kafka was closed before it reported")
                })?
                .map(drop)
                .map_err(|(error, _)| Refusal::Report(error)),
            Err((error, _)) => Err(Refusal::Client(error)),
        };
        if produced.is_err() {
            self.producers.forget_if_broken(company, &producer);
        }
        Ok(produced)
    }

    /// Whether the cluster answers anything.
    async fn is_answering(&self, topic: &str) -> bool {
        let Ok(producer) = self.producers.get(Company::Together) else { return false };
        let topic = topic.to_owned();
        let ask = move || producer.client().fetch_metadata(Some(&topic), PROBE).is_ok();
        spawn_blocking(ask).await.unwrap_or(false)
    }
}

/// Who did not take a message.
enum Refusal {
    Client(KafkaError),
    /// The cluster, or the client when its time was over.
    Report(KafkaError),
}

/// The name of a topic, if it is one.
fn topic(name: String) -> Result<String, PublishError> {
    let is_known = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if (1..=249).contains(&name.len()) && name.chars().all(is_known) && name != "." && name != ".." {
        return Ok(name);
    }
    Err(PublishError::rejected(format!(
        "{name:?} is no topic of Kafka: have the route give one such as `order.placed`, of at most 249 letters and \
         digits of ASCII, dots, underscores and hyphens"
    )))
}

fn headers(message: &Message) -> Result<OwnedHeaders, PublishError> {
    let mut headers = OwnedHeaders::new_with_capacity(message.attributes.len() + message.headers.len() + 1)
        .insert(Header { key: "content-type", value: Some(message.content_type) });
    for (name, value) in &message.attributes {
        headers = headers.insert(Header { key: &format!("ce_{name}"), value: Some(value) });
    }
    for (name, value) in &message.headers {
        // Names of Kafka differ in case, and to some readers of CloudEvents they are the same.
        let lower = name.to_ascii_lowercase();
        // The client ends a name at the first NUL.
        if lower.starts_with("ce_") || lower == "content-type" || name.contains('\0') {
            return Err(PublishError::rejected(format!(
                "the header {name:?} cannot be told from those of every message: give it another name"
            )));
        }
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    Ok(headers)
}

#[async_trait]
impl Transport for Kafka {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        self.send(event, &Probe::default()).await
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let probe = Probe::default();
        publish_by_key(events, KEYS_AT_ONCE, |event| self.send(event, &probe)).await
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of the settings, and not the values, among which passwords may be.
        f.debug_struct("Kafka").field("settings", &self.producers.names()).finish_non_exhaustive()
    }
}

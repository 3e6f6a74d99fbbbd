//! RabbitMQ as a transport.

mod channels;
mod outgoing;

use std::{fmt, slice, time::Duration};

use async_trait::async_trait;
use lapin::{
    Channel, Confirmation, ErrorKind, PublisherConfirm,
    options::BasicPublishOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::ShortString,
};
use outbox_traits::{Event, PublishError, Published, Transport};
use tokio::time::timeout;

use self::{
    channels::Channels,
    outgoing::{Mapping, Outgoing},
};
use super::{
    by_key::{publish_by_key, unavailable},
    message::{Encoding, Route},
};

/// Publishes events to RabbitMQ, or another broker of AMQP 0-9-1 with publisher confirms.
///
/// An event is accepted when the broker has confirmed the message: it is then on the disk of every durable queue
/// it was routed to, or of a majority of the members of a quorum queue. Messages are persistent and mandatory. One
/// that no queue wants comes back and is [`Failed`](outbox_traits::PublishErrorKind::Failed), not
/// [`Rejected`](outbox_traits::PublishErrorKind::Rejected): somebody has yet to bind a queue, and the event is as
/// good as before. This transport declares neither exchanges nor queues.
///
/// The message id is the id of the event, and the type the type of the event. The attributes of a CloudEvent are
/// headers with the prefix `cloudEvents:`.
///
/// In a batch the keys are published side by side, and an event once the one before it of its key was confirmed.
///
/// | default | |
/// |---|---|
/// | [exchange](Self::with_exchange) | the one without a name, which takes a message to the queue of the routing key |
/// | [route](Self::with_route) | the type of the event is the routing key |
/// | [encoding](Self::with_encoding) | [`Encoding::Binary`] |
/// | [source](Self::with_source) | `outbox`, where the event has none |
/// | [limit](Self::with_max_bytes) | 16 MiB, which is what RabbitMQ 4 takes unless it is told otherwise |
/// | [timeout](Self::with_timeout) | 10 seconds |
///
/// It connects with the first event, and again after it has lost the connection; until then events are
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable). So they are where the exchange is missing or may
/// not be written to. For `amqps` switch a feature of the crate `lapin` on, such as `rustls`.
///
/// ```no_run
/// use outbox_delivery::transport::{RabbitMq, message::Route};
///
/// let transport = RabbitMq::new("amqp://user:password@localhost:5672/%2f")?
///     .with_exchange("shop")
///     .with_route(Route::by_type());
/// # Ok::<(), outbox_traits::PublishError>(())
/// ```
pub struct RabbitMq {
    channels: Channels,
    mapping: Mapping,
    timeout: Duration,
}

/// What became of one message.
enum Outcome {
    Answer(Result<(), PublishError>),
    /// The broker closed the channel, because of this message or another one that was in flight.
    ChannelClosed(lapin::Error),
}

const KEYS_AT_ONCE: usize = 256;
const MAX_BYTES: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

impl RabbitMq {
    /// A transport to the broker at this URL: `amqp://user:password@host:5672/vhost`, where the vhost `/` is
    /// written `%2f`.
    ///
    /// # Errors
    /// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) if the URL cannot be read.
    pub fn new(url: &str) -> Result<Self, PublishError> {
        Ok(Self {
            channels: Channels::new(url)?,
            mapping: Mapping {
                exchange: ShortString::default(),
                route: Route::by_type(),
                encoding: Encoding::default(),
                source: "outbox".to_owned(),
                max_bytes: MAX_BYTES,
            },
            timeout: TIMEOUT,
        })
    }

    /// With this exchange, which must exist.
    ///
    /// # Panics
    /// If the name is longer than 255 bytes, which no exchange has.
    #[must_use]
    pub fn with_exchange(mut self, exchange: &str) -> Self {
        self.mapping.exchange = ShortString::try_new(exchange).unwrap_or_else(|problem| panic!("{problem}"));
        self
    }

    /// With this routing key for each event, of at most 255 bytes.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.mapping.route = route;
        self
    }

    /// With this form of the messages.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.mapping.encoding = encoding;
        self
    }

    /// With this `source` of a CloudEvent whose event has none.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.mapping.source = source.into();
        self
    }

    /// With this limit: a message with more bytes is [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
    /// Headers alone may have 96 KiB.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.mapping.max_bytes = max_bytes;
        self
    }

    /// Waits so long for a connection, and for the confirm of an event; then the broker counts as unavailable. So
    /// it does while it takes nothing because it lacks memory or disk.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn channel(&self) -> Result<Channel, PublishError> {
        match timeout(self.timeout, self.channels.take()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(self.down("could not connect to").with_source(error)),
            Err(_) => Err(self.down("no connection in time to")),
        }
    }

    /// Sends one event of a batch, by the channel of the batch.
    async fn send(&self, event: &Event, channel: &Channel) -> Result<(), PublishError> {
        let message = self.mapping.outgoing(event)?;
        if let Some(answer) = self.attempt(&message, channel).await.answer() {
            return answer;
        }
        // One of those in flight was to blame. Alone, each shows whether it was that one; what the broker had taken
        // before comes twice.
        let alone = self.channel().await?;
        let result = match self.attempt(&message, &alone).await {
            Outcome::Answer(answer) => answer,
            Outcome::ChannelClosed(error) => Err(self.refused(error)),
        };
        self.channels.give_back(alone);
        result
    }

    async fn attempt(&self, message: &Outgoing, channel: &Channel) -> Outcome {
        let confirmed = async { self.publish(message, channel).await?.await };
        match timeout(self.timeout, confirmed).await {
            Ok(Ok(confirmation)) => Outcome::Answer(answer(message, confirmation)),
            Ok(Err(error))
                if self.channels.is_connected() && !error.is_io_error() && !error.is_amqp_hard_error() =>
            {
                Outcome::ChannelClosed(error)
            }
            Ok(Err(error)) => Outcome::Answer(Err(self.down("lost the connection to").with_source(error))),
            Err(_) => {
                // The connection may be half open, and would never say so.
                self.channels.disconnect();
                Outcome::Answer(Err(self.down("no confirm in time from")))
            }
        }
    }

    async fn publish(&self, message: &Outgoing, channel: &Channel) -> Result<PublisherConfirm, lapin::Error> {
        let (exchange, routing_key) = (self.mapping.exchange.clone(), message.routing_key.clone());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish(exchange, routing_key, options, &message.body, message.properties.clone()).await
    }

    fn down(&self, what: &str) -> PublishError {
        PublishError::unavailable(format!("{what} RabbitMQ at {}", self.channels.address()))
    }

    /// The broker closed the channel because of one message.
    fn refused(&self, error: lapin::Error) -> PublishError {
        let soft = match error.kind() {
            ErrorKind::ProtocolError(error) => match error.kind() {
                AMQPErrorKind::Soft(soft) => Some(soft.clone()),
                AMQPErrorKind::Hard(_) => None,
            },
            _ => None,
        };
        match soft {
            Some(AMQPSoftError::PRECONDITIONFAILED) => {
                PublishError::rejected("RabbitMQ does not take a message like this").with_source(error)
            }
            Some(AMQPSoftError::NOTFOUND | AMQPSoftError::ACCESSREFUSED) => PublishError::unavailable(format!(
                "RabbitMQ has no exchange `{}` for this user: declare it, or grant the permission to write to it",
                self.mapping.exchange
            ))
            .with_source(error),
            _ => PublishError::failed("RabbitMQ closed the channel").with_source(error),
        }
    }
}

impl Outcome {
    fn answer(self) -> Option<Result<(), PublishError>> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::ChannelClosed(_) => None,
        }
    }
}

fn answer(message: &Outgoing, confirmation: Confirmation) -> Result<(), PublishError> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Err(PublishError::failed(format!(
                "no queue is bound for the routing key `{}` ({} {}): declare and bind one",
                message.routing_key, returned.reply_code, returned.reply_text
            )))
        }
        Confirmation::Nack(None) => Err(PublishError::failed(format!(
            "RabbitMQ refused the message with the routing key `{}`: a queue is full, or could not store it",
            message.routing_key
        ))),
        Confirmation::NotRequested => Err(PublishError::failed("RabbitMQ does not confirm on this channel")),
    }
}

#[async_trait]
impl Transport for RabbitMq {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut published = self.publish_all(slice::from_ref(event)).await;
        published.pop().map_or_else(|| Err(PublishError::not_attempted()), |published| published.result)
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        if events.is_empty() {
            return Vec::new();
        }
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(error) => return unavailable(events, error),
        };
        let published = publish_by_key(events, KEYS_AT_ONCE, |event| self.send(event, &channel)).await;
        self.channels.give_back(channel);
        published
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq")
            .field("address", &self.channels.address())
            .field("exchange", &self.mapping.exchange.as_str())
            .finish_non_exhaustive()
    }
}

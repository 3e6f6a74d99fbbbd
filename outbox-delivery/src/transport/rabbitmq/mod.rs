//! RabbitMQ as a transport.

mod channels;
mod confirms;
mod outgoing;
mod uri;

use std::{fmt, slice, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, future::join_all};
use lapin::{
    Channel, Confirmation, ErrorKind,
    options::BasicPublishOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::ShortString,
};
use outbox_traits::{Event, PublishError, PublishErrorKind, Published, Transport};
use tokio::time::{Instant, timeout};

use self::{
    channels::{Channels, Taken},
    confirms::Answer,
    outgoing::{Mapping, Outgoing},
};
use super::{
    by_key::publish_in_rounds,
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
/// The message id is the id of the event, and the type the type of the event, unless that has more than 255 bytes: then
/// the message has none. The attributes of a CloudEvent are headers with the prefix `cloudEvents:`; a header of the event
/// that begins with it, or with `cloudEvents_`, is [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
///
/// A batch goes in rounds: the next event of each key, side by side, once all of the round before were confirmed. After
/// a round in which an event was not confirmed in time, the rest is not tried.
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
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable). So they are where the exchange is missing. What the
/// user may not write has [`Failed`](outbox_traits::PublishErrorKind::Failed). For `amqps` switch a feature of the crate `lapin` on, such as `rustls`.
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

const KEYS_AT_ONCE: usize = 256;
/// How many events have a channel of their own at the same time, after the broker has closed that of their round.
const ALONE_AT_ONCE: usize = 8;
/// How long one waits for a sign of life after a confirm has not come: the round that began last before half of a relay's
/// call was over has to end within the other half.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
const MAX_BYTES: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

impl RabbitMq {
    /// A transport to the broker at this URL: `amqp://user:password@host:5672/vhost`, where the vhost `/` is
    /// written `%2f`. The host is a name or an address, one of IPv6 in brackets; the port is 5672, or 5671 for `amqps`,
    /// unless the URL has one.
    ///
    /// # Errors
    /// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) if the URL cannot be read or names no host.
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

    /// With this exchange, which must exist. By default the one without a name, which has every queue under its own.
    ///
    /// # Panics
    /// If the name is longer than 255 bytes, which no exchange has.
    #[must_use]
    pub fn with_exchange(mut self, exchange: &str) -> Self {
        self.mapping.exchange = ShortString::try_new(exchange).unwrap_or_else(|problem| panic!("{problem}"));
        self
    }

    /// With this routing key for each event, of at most 255 bytes. By default its type.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.mapping.route = route;
        self
    }

    /// With this form of the messages. By default [`Encoding::Binary`].
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.mapping.encoding = encoding;
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
        self.mapping.source = source.into();
        self
    }

    /// With this limit: a message with more bytes is [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
    /// Headers alone have to fit into a frame, of 128 KiB unless the broker says otherwise (`frame_max`).
    /// By default 16 MiB.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.mapping.max_bytes = max_bytes;
        self
    }

    /// Waits so long for a connection, and for the confirm of an event. Then the event has failed if the broker still
    /// answers, and otherwise the broker counts as unavailable, as it does while it takes nothing because it lacks
    /// memory or disk. By default 10 seconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn channel(&self) -> Result<Taken, PublishError> {
        if self.channels.is_blocked() {
            return Err(self.down("memory or disk is short, and nothing is taken, at"));
        }
        match timeout(self.timeout, self.channels.take()).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(error)) => Err(self.down("could not connect to").with_source(error)),
            Err(_) => Err(self.down("no connection in time to")),
        }
    }

    /// Sends these events at the same time, and says what became of each and whether others may follow.
    async fn send(&self, events: Vec<&Event>) -> (Vec<Result<(), PublishError>>, bool) {
        let began = Instant::now();
        let mut results = self.attempt(&events).await;
        let is_down = |result: &Result<_, PublishError>| {
            result.as_ref().is_err_and(|error| error.kind() == PublishErrorKind::Unavailable)
        };
        // One of those in flight made the broker close the channel. Alone, each shows whether it was that one; what
        // the broker had taken before comes twice.
        let mut again: Vec<_> =
            events.iter().zip(&mut results).filter(|(_, result)| result.is_none()).collect();
        for some in again.chunks_mut(ALONE_AT_ONCE) {
            let alone = some.iter_mut().map(|(event, result)| async {
                let unclear = || Err(PublishError::failed("RabbitMQ said nothing of the event"));
                let tried = self.attempt(slice::from_ref(*event)).await.pop().flatten();
                **result = Some(tried.unwrap_or_else(unclear));
            });
            join_all(alone).await;
            // Each of the others would close one more channel, or wait for as long as that of one which is silent.
            let is_down = some.iter().any(|(_, result)| result.as_ref().is_some_and(is_down));
            if is_down || began.elapsed() >= self.timeout {
                break;
            }
        }
        let left = || Err(PublishError::not_attempted());
        let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or_else(left)).collect();
        // Where each round waits for a queue that is silent, the whole batch would take longer than anybody waits for it.
        let goes_on = began.elapsed() < self.timeout && !results.iter().any(is_down);
        (results, goes_on)
    }

    /// Sends events by a channel that has no others; `None`: what became of it is to be found out alone.
    async fn attempt(&self, events: &[&Event]) -> Vec<Option<Result<(), PublishError>>> {
        let taken = match self.channel().await {
            Ok(taken) => taken,
            Err(error) => {
                let mut error = Some(error);
                let mut next = || error.take().unwrap_or_else(PublishError::not_attempted);
                return events.iter().map(|_| Some(Err(next()))).collect();
            }
        };
        let messages: Vec<_> =
            events.iter().map(|event| self.mapping.outgoing(event, taken.frame_max)).collect();
        let sent = messages.iter().flatten();
        let sent = sent.map(|message| (message, self.publish(message, &taken.channel).boxed())).collect();
        let answers = confirms::answers(sent, self.timeout).await;
        let is_connected = self.is_connected(&taken, &answers).await;
        if answers.iter().all(Answer::is_confirm) {
            self.channels.give_back(taken);
        }
        let mut answers = answers.into_iter();
        let is_alone = events.len() == 1;
        let result = |message| match message {
            Ok(message) => self.read(&message, answers.next()?, is_connected, is_alone),
            Err(error) => Some(Err(error)),
        };
        messages.into_iter().map(result).collect()
    }

    /// Whether the connection can still be used after these answers.
    async fn is_connected(&self, taken: &Taken, answers: &[Answer]) -> bool {
        let is_silent = answers.iter().any(|answer| matches!(answer, Answer::Silence));
        if !is_silent {
            return self.channels.is_connected(taken);
        }
        // It reads nothing, not even that a connection is given up. The one that there is goes on when it does.
        if self.channels.is_blocked() {
            return false;
        }
        // It may be half open, and would never say so; or one queue is silent, and the others are not.
        let sign_of_life = self.channels.is_answering(taken);
        let is_answering = timeout(self.timeout.min(SIGN_OF_LIFE), sign_of_life).await.unwrap_or(false);
        if !is_answering {
            self.channels.disconnect(taken);
        }
        is_answering
    }

    /// What an answer means for its event; `None`: that is to be found out alone.
    fn read(
        &self,
        message: &Outgoing,
        answer: Answer,
        is_connected: bool,
        is_alone: bool,
    ) -> Option<Result<(), PublishError>> {
        let key = &message.routing_key;
        Some(match answer {
            Answer::Accepted => Ok(()),
            Answer::CameBack(reason) => Err(PublishError::failed(format!(
                "no queue is bound for the routing key `{key}` ({reason}): declare and bind one"
            ))),
            Answer::Refused => Err(PublishError::failed(format!(
                "RabbitMQ refused the message with the routing key `{key}`: a queue is full, or could not store it"
            ))),
            Answer::Silence if is_connected => Err(PublishError::failed(format!(
                "RabbitMQ did not confirm the message with the routing key `{key}` in time, and answers otherwise: a \
                 queue may lack the majority of its members"
            ))),
            Answer::Silence => Err(self.down("no confirm in time from")),
            Answer::Closed(error) if !is_connected || error.is_io_error() || error.is_amqp_hard_error() => {
                Err(self.down("lost the connection to").with_source(error))
            }
            Answer::Closed(error) if is_alone => Err(self.refused(key, error)),
            Answer::Closed(_) | Answer::Unclear => return None,
        })
    }

    async fn publish(&self, message: &Outgoing, channel: &Channel) -> Result<Confirmation, lapin::Error> {
        let (exchange, routing_key) = (self.mapping.exchange.clone(), message.routing_key.clone());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = message.properties.clone();
        channel.basic_publish(exchange, routing_key, options, &message.body, properties).await?.await
    }

    fn down(&self, what: &str) -> PublishError {
        PublishError::unavailable(format!("{what} RabbitMQ at {}", self.channels.address()))
    }

    /// The broker closed the channel because of one message.
    fn refused(&self, routing_key: &ShortString, error: lapin::Error) -> PublishError {
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
            Some(AMQPSoftError::NOTFOUND) => PublishError::unavailable(format!(
                "RabbitMQ has no exchange `{}`: declare it",
                self.mapping.exchange
            ))
            .with_source(error),
            // A permission may be of the exchange, or of some routing keys alone.
            Some(AMQPSoftError::ACCESSREFUSED) => PublishError::failed(format!(
                "RabbitMQ does not let this user write to the exchange `{}` with the routing key `{routing_key}`: \
                 grant the permission",
                self.mapping.exchange
            ))
            .with_source(error),
            _ => PublishError::failed("RabbitMQ closed the channel").with_source(error),
        }
    }
}

#[async_trait]
impl Transport for RabbitMq {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut published = self.publish_all(slice::from_ref(event)).await;
        published.pop().map_or_else(|| Err(PublishError::not_attempted()), |published| published.result)
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        publish_in_rounds(events, KEYS_AT_ONCE, |round| self.send(round)).await
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

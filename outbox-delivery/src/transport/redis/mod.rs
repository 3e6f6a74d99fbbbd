//! Redis Streams as a transport.

mod connection;

use std::{fmt, slice, time::Duration};

use async_trait::async_trait;
use outbox_traits::{Event, PublishError, Published, Transport};
use redis::{Cmd, ErrorKind, RedisError, aio::MultiplexedConnection};

use self::connection::Connections;
use crate::transport::{
    by_key::{publish_by_key, unavailable},
    message::{Encoding, Message, Route},
};

/// Publishes events to streams of Redis, or of Valkey.
///
/// An event is accepted when the server has added it to the stream. How long it lives then is a matter of the
/// server: with `appendonly yes` and `appendfsync always` it is on the disk by then; with `everysec`, the default, a
/// crash can lose the last seconds, and without an append-only file everything since the last snapshot. Replicas
/// get it later: a failover can lose what was accepted.
///
/// An entry of a stream has the fields `content-type` and `data`, which is the body, and before them the attributes
/// of a CloudEvent with the prefix `ce-`, and the headers of the event. A header with the name of another field,
/// or one that begins with `ce-`, in any case, is [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
///
/// In a batch the keys are published side by side, in a pipeline, and an event once the one before it of its key
/// was accepted.
///
/// It connects with the first event, and again after it has lost the connection; until then events are
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable). So they are where the server has no memory left,
/// wants another password or one at all, is still loading, is a replica, or is one of a cluster and has not the stream:
/// this transport knows no cluster.
///
/// For `rediss` switch the feature `tokio-rustls-comp` of the crate `redis` on. It brings no provider of cryptography:
/// where the program has none by its other crates, or several, install one before the first event, by
/// `rustls::crypto::CryptoProvider::install_default`. Else `rustls` panics, and every event is
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable).
///
/// | default | |
/// |---|---|
/// | [route](Self::with_route) | the type of the event is the key of the stream |
/// | [encoding](Self::with_encoding) | [`Encoding::Binary`] |
/// | [source](Self::with_source) | `outbox`, where the event has none |
/// | [length](Self::with_max_len) | none: streams grow until somebody trims them |
/// | [limit](Self::with_max_bytes) | 16 MiB |
/// | [timeout](Self::with_timeout) | 10 seconds |
///
/// ```no_run
/// use outbox_delivery::transport::{RedisStreams, message::Route};
///
/// let transport = RedisStreams::new("redis://:password@localhost:6379/")?
///     .with_route(Route::to("shop.events"))
///     .with_max_len(1_000_000);
/// # Ok::<(), outbox_traits::PublishError>(())
/// ```
pub struct RedisStreams {
    connections: Connections,
    route: Route,
    encoding: Encoding,
    source: String,
    max_len: Option<u64>,
    max_bytes: usize,
}

const KEYS_AT_ONCE: usize = 256;
const MAX_BYTES: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

impl RedisStreams {
    /// A transport to the server at this URL: `redis://user:password@host:6379/0`.
    ///
    /// # Errors
    /// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) if the URL cannot be read, or is one of `rediss`
    /// and no feature for TLS is on.
    pub fn new(url: &str) -> Result<Self, PublishError> {
        Ok(Self {
            connections: Connections::new(url, TIMEOUT)?,
            route: Route::by_type(),
            encoding: Encoding::default(),
            source: "outbox".to_owned(),
            max_len: None,
            max_bytes: MAX_BYTES,
        })
    }

    /// With the stream of this key for each event. By default its type.
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

    /// Trims a stream to about so many entries when it adds to it (`MAXLEN ~`), whether anybody has read the oldest
    /// or not. Redis trims whole nodes of a hundred entries, and so keeps some more, never fewer. More than [`i64::MAX`],
    /// to which Redis counts, is as much as that, and none is as much as one. By default nothing is trimmed.
    #[must_use]
    pub fn with_max_len(mut self, max_len: u64) -> Self {
        self.max_len = Some(max_len.clamp(1, i64::MAX.cast_unsigned()));
        self
    }

    /// With this limit: a message with more bytes is [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
    /// Names and values of its fields count. By default 16 MiB.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Waits so long for a connection, and for the answer to an event; then the server counts as unavailable. By default
    /// 10 seconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.connections.timeout = timeout;
        self
    }

    fn command(&self, event: &Event) -> Result<Cmd, PublishError> {
        let message = Message::of(event, self.encoding, &self.source)?;
        message.check_size(self.max_bytes)?;
        let mut command = redis::cmd("XADD");
        command.arg(self.route.try_of(event)?);
        if let Some(max_len) = self.max_len {
            command.arg("MAXLEN").arg("~").arg(max_len);
        }
        command.arg("*");
        for (name, value) in &message.attributes {
            command.arg(format!("ce-{name}")).arg(value);
        }
        for (name, value) in &message.headers {
            // A reader may take names in any case for the same.
            let lower = name.to_ascii_lowercase();
            if lower.starts_with("ce-") || matches!(lower.as_str(), "content-type" | "data") {
                return Err(PublishError::rejected(format!(
                    "the header `{name}` has the name of a field of every entry: give it another name"
                )));
            }
            command.arg(name).arg(value);
        }
        command.arg("content-type").arg(message.content_type).arg("data").arg(message.body);
        Ok(command)
    }

    async fn send(
        &self,
        event: &Event,
        (connection, number): &(MultiplexedConnection, u64),
    ) -> Result<(), PublishError> {
        let command = self.command(event)?;
        // The connection puts what is sent at the same time into one pipeline.
        let Err(error) = command.query_async::<String>(&mut connection.clone()).await else { return Ok(()) };
        if is_too_large(&error) {
            // The server closes it.
            self.connections.forget(*number);
            let message = "Redis takes no value of this size (`proto-max-bulk-len`)";
            return Err(PublishError::rejected(message).with_source(error));
        }
        if is_of_event(&error) {
            let stream = self.route.try_of(event)?;
            let what = format!("Redis did not add the event to the stream `{stream}`");
            return Err(PublishError::failed(what).with_source(error));
        }
        self.connections.forget(*number);
        Err(self.down("takes no events").with_source(error))
    }

    fn down(&self, what: &str) -> PublishError {
        PublishError::unavailable(format!("Redis at {} {what}", self.connections.address()))
    }
}

/// Whether the server read no further than a length in the command, which is that of the event. Of a client that has
/// not said its password it calls much shorter ones `unauthenticated`: those are not the event's fault.
fn is_too_large(error: &RedisError) -> bool {
    is_of_protocol(error)
        && error.detail().is_some_and(|detail| {
            detail.contains("invalid bulk length") || detail.contains("invalid multibulk length")
        })
}

/// Whether the server did not read the command to its end, and closes the connection.
fn is_of_protocol(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.starts_with("Protocol error"))
}

/// Whether the server answered, and refused this event and perhaps no other.
fn is_of_event(error: &RedisError) -> bool {
    /// What the server says of its own state.
    const OF_SERVER: &[&str] = &[
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
    ];
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        && error.code().is_some_and(|code| !OF_SERVER.contains(&code))
        && !is_of_protocol(error)
        && !is_of_command(error)
}

/// Whether the user may add to no stream at all. It may also be one stream that is not his.
fn is_of_command(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
        && error.detail().is_some_and(|detail| detail.contains("permissions to run the 'xadd' command"))
}

#[async_trait]
impl Transport for RedisStreams {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut published = self.publish_all(slice::from_ref(event)).await;
        published.pop().map_or_else(|| Err(PublishError::not_attempted()), |published| published.result)
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        if events.is_empty() {
            return Vec::new();
        }
        match self.connections.get().await {
            Ok(connection) => {
                publish_by_key(events, KEYS_AT_ONCE, |event| self.send(event, &connection)).await
            }
            Err(error) => unavailable(events, self.down("cannot be reached").with_source(error)),
        }
    }
}

impl fmt::Debug for RedisStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreams")
            .field("address", &self.connections.address())
            .field("max_len", &self.max_len)
            .finish_non_exhaustive()
    }
}

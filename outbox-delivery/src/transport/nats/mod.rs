//! NATS JetStream as a transport.

mod connect;

use std::{borrow::Cow, error::Error as StdError, fmt, str::FromStr, sync::atomic::Ordering, time::Duration};

use async_nats::{
    Client, ConnectError, HeaderMap, HeaderName, HeaderValue, Request, RequestErrorKind, Subject,
    connection::State,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, Context, ContextBuilder, ErrorCode,
        context::{AccountErrorKind, PublishErrorKind as NatsErrorKind},
        message::PublishMessage,
    },
};
use async_trait::async_trait;
use outbox_traits::{Event, PublishError, Published, Transport};
use tokio::time::Instant;

use crate::transport::{
    by_key::publish_by_key,
    message::{Encoding, Message, Route, percent_encoded},
    probe::Probe,
};

/// Publishes events to streams of NATS JetStream.
///
/// An event is accepted when a stream acknowledged that it has stored it. Its id is the `Nats-Msg-Id`, so that the
/// stream keeps one of what is published twice within its duplicate window, which is two minutes unless the stream
/// says otherwise. The streams are yours: one of them must have the subject of every event.
///
/// In a batch the keys are published side by side, and an event once the one before it of its key was
/// acknowledged: a key costs a round trip for each event, and a batch of many keys about as many as its longest
/// key has events.
///
/// | default | |
/// |---|---|
/// | [route](Self::with_route) | the type of the event is the subject |
/// | [encoding](Self::with_encoding) | [`Encoding::Binary`], with attributes as headers such as `ce-type` |
/// | [source](Self::with_source) | `outbox`, where the event has none |
/// | [timeout](Self::with_timeout) | 5 seconds |
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use outbox_delivery::transport::{Nats, message::Route};
///
/// let transport = Nats::connect("nats://localhost:4222").await?.with_route(Route::by_type_below("shop."));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Nats {
    client: Client,
    context: Context,
    route: Route,
    encoding: Encoding,
    source: String,
    timeout: Duration,
}

const KEYS_AT_ONCE: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest subject, in bytes. A server reads 4,096 bytes for the line of a command (`max_control_line`), and closes
/// the connection, which all events share, where one is longer. In it stand also the inbox of the reply, of 52 bytes
/// unless the client has a prefix of its own, two sizes of at most ten digits, and three blanks: so that such a prefix
/// may have some 200 bytes.
const SUBJECT_BYTES: usize = 3800;

impl Nats {
    /// Connects to a server, or to one of several of a cluster, with commas between them. A user and a password, or
    /// a token, may stand in the URL: `nats://user:password@localhost:4222`. They hold for all servers, and so may stand
    /// in one of several URLs alone.
    ///
    /// # Errors
    /// If none can be reached, or if several URLs have different credentials. A client that waits for its server is made
    /// with [`ConnectOptions::retry_on_initial_connect`](async_nats::ConnectOptions::retry_on_initial_connect), and
    /// given to [`new`](Self::new).
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Ok(Self::new(connect::connect(url).await?))
    }

    /// With a client of one's own, for other options of the connection: credentials, certificates, names.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            context: context(&client, TIMEOUT),
            client,
            route: Route::by_type(),
            encoding: Encoding::default(),
            source: "outbox".to_owned(),
            timeout: TIMEOUT,
        }
    }

    /// With this subject for each event, by default its type, of at most 3,800 bytes: with a longer one it is
    /// [`Rejected`](outbox_traits::PublishErrorKind::Rejected).
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

    /// Waits so long for the acknowledgement of an event, and as long again for any answer. Then the event has failed
    /// if there was one, and otherwise the server counts as unavailable. So it does where the user may not publish to
    /// `_INBOX.>`, which is how the server is asked. By default 5 seconds.
    ///
    /// Where no stream has the subject of an event it waits as long for a word of JetStream (`$JS.API.INFO`). The event has
    /// failed, unless JetStream is not there: then it is unavailable. Where the user may not ask, the event has failed once
    /// the time is over.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.context = context(&self.client, timeout);
        self.timeout = timeout;
        self
    }

    fn message(&self, event: &Event) -> Result<(Subject, PublishMessage), PublishError> {
        let message = Message::of(event, self.encoding, &self.source)?;
        let subject = subject(&self.route.try_of(event)?)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            let (name, value) = header(name, value)?;
            headers.append(name, value);
        }
        for (name, value) in &message.attributes {
            headers.insert(format!("ce-{name}"), &*attribute(value));
        }
        headers.insert("Content-Type", message.content_type);
        if self.encoding == Encoding::Binary {
            // By the binding's draft it is an attribute like others, and `Content-Type` tells the modes apart.
            headers.insert("ce-datacontenttype", message.content_type);
        }
        headers.insert(NATS_MESSAGE_ID, event.id().to_string());
        Ok((subject, PublishMessage::build().headers(headers).payload(message.body.into())))
    }

    async fn send(&self, event: &Event, probes: &Probes) -> Result<(), PublishError> {
        let began = Instant::now();
        let (subject, message) = self.message(event)?;
        // The client would keep it for when it is connected again, and nobody would wait for it any more.
        if self.is_disconnected() {
            return Err(PublishError::unavailable("there is no connection to NATS"));
        }
        let connects = self.connects();
        let acknowledged = async { self.context.send_publish(subject.clone(), message).await?.await };
        let acknowledged = tokio::select! {
            acknowledged = acknowledged => acknowledged,
            () = self.disconnected(connects) => {
                // The acknowledgement was to come by the connection that is gone.
                let message = "the connection to NATS broke before the event was acknowledged";
                return Err(PublishError::unavailable(message));
            }
        };
        let error = match acknowledged {
            Ok(answer) if answer.duplicate && answer.sequence == 0 => return Err(not_stored_yet(&subject)),
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let kind = error.kind();
        if kind == NatsErrorKind::TimedOut && probes.server.answer(began, self.is_answering()).await {
            return Err(not_in_time(error, &subject));
        }
        if kind == NatsErrorKind::StreamNotFound
            && !probes.jetstream.answer(began, self.has_jetstream()).await
        {
            return Err(no_jetstream(error));
        }
        Err(refused(error, &subject))
    }

    /// Whether the server answers anything. A request to nobody it answers by itself.
    async fn is_answering(&self) -> bool {
        let request = Request::new().timeout(Some(self.timeout));
        match self.client.send_request(self.client.new_inbox(), request).await {
            Ok(_) => true,
            Err(error) => error.kind() == RequestErrorKind::NoResponders,
        }
    }

    /// Whether JetStream is there, of which a server says nothing to who publishes: where it is off, or was given up as the
    /// disk is full, no subject has a stream. Where the user may not ask there is no answer, and it counts as there.
    async fn has_jetstream(&self) -> bool {
        let connects = self.connects();
        tokio::select! {
            account = self.context.query_account() => match account.map_err(|error| error.kind()) {
                Err(AccountErrorKind::JetStreamUnavailable) => false,
                Err(AccountErrorKind::JetStream(error)) => !is_down(error.error_code()),
                _ => true,
            },
            // A server that stops ends JetStream first, and then the connections.
            () = self.disconnected(connects) => false,
        }
    }

    fn is_disconnected(&self) -> bool {
        self.client.connection_state() != State::Connected
    }

    /// How often the client has connected: it may have done so again before anybody looks.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    async fn disconnected(&self, connects: u64) {
        while !self.is_disconnected() && self.connects() == connects {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What events of a batch wanted to know.
#[derive(Default)]
struct Probes {
    /// Whether the server answers anything.
    server: Probe,
    /// Whether JetStream is there.
    jetstream: Probe,
}

fn context(client: &Client, timeout: Duration) -> Context {
    // Without back-pressure it fails events when there are many at once.
    ContextBuilder::new().timeout(timeout).backpressure_on_inflight(true).build(client.clone())
}

/// A subject that fits into a command, without wildcards, blanks and empty parts, which no stream could have.
fn subject(text: &str) -> Result<Subject, PublishError> {
    if text.len() > SUBJECT_BYTES {
        return Err(PublishError::rejected(format!(
            "the subject of the event has {} bytes, and at most {SUBJECT_BYTES} fit into a command of NATS: have the \
             route give a shorter one, and write the rest into the event",
            text.len()
        )));
    }
    // What an event says is not to become a request to the server.
    if ["$JS.", "$SYS."].iter().any(|own| text.starts_with(own)) {
        return Err(PublishError::rejected(format!(
            "{text:?} is a subject of the server's own: have the route give one such as `order.placed`"
        )));
    }
    let is_literal = text.split('.').all(|part| part != "*" && part != ">");
    let subject = Subject::validated(text).ok().filter(|_| is_literal);
    subject.ok_or_else(|| {
        PublishError::rejected(format!(
            "{text:?} is no subject of NATS: have the route give one such as `order.placed`, without blanks, \
             wildcards and empty parts"
        ))
    })
}

/// A header of the event as one of the message: exactly, or not at all.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), PublishError> {
    let lower = name.to_ascii_lowercase();
    if lower.contains("nats-") || reads_like_the_server_s(value) {
        return Err(PublishError::rejected(format!(
            "the event's header {name:?} has `Nats-` in its name, or something like `Nats-Msg-Id:` in its value, \
             which a server may take for a header of its own: give it another name, or write the value in another \
             way"
        )));
    }
    // Those that mean something to a reader of CloudEvents.
    let is_taken = lower == "content-type" || lower.starts_with("ce-");
    // A reader strips the blanks around a value.
    let is_stripped = value.trim() != value;
    let parsed = HeaderName::from_str(name).ok().zip(HeaderValue::from_str(value).ok());
    parsed.filter(|_| !is_taken && !is_stripped).ok_or_else(|| {
        PublishError::rejected(format!(
            "NATS has no form for the event's header {name:?}: its name must be of printable ASCII without colons, \
             and must not be `Content-Type` or begin with `ce-`, and its value must have no line breaks and no \
             blanks around it"
        ))
    })
}

/// The value of an attribute. Readers decode it, so that there is a way to write also what reads like a header.
fn attribute(value: &str) -> Cow<'_, str> {
    let encoded = percent_encoded(value);
    if reads_like_the_server_s(&encoded) { encoded.replace('-', "%2D").into() } else { encoded }
}

/// Whether something like `Nats-Msg-Id:` stands in a text. A server looks for its own headers among the bytes of all of
/// them, and older ones take for one what stands in another: the id of another event, for which they acknowledge this one
/// as a duplicate and drop it, or they do not find the id that is there (nats-server 3645 and 7465).
fn reads_like_the_server_s(text: &str) -> bool {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let lower = text.to_ascii_lowercase();
    lower.split("nats-").skip(1).any(|rest| rest.trim_start_matches(is_of_name).starts_with(':'))
}

fn not_in_time(error: jetstream::context::PublishError, subject: &Subject) -> PublishError {
    let message = format!(
        "the stream of `{subject}` did not acknowledge the event in time, and NATS answers otherwise: the stream may \
         lack the majority of its replicas, or acknowledge nothing"
    );
    PublishError::failed(message).with_source(error)
}

/// What servers before 2.10.19 say of the copy of a message that they have yet to store: that it is a duplicate, and has
/// no place in the stream. They may still drop that message.
fn not_stored_yet(subject: &Subject) -> PublishError {
    PublishError::failed(format!(
        "the stream of `{subject}` calls the event a duplicate, and has not stored the one before it"
    ))
}

fn no_jetstream(error: jetstream::context::PublishError) -> PublishError {
    let message = "JetStream is not available: switch it on, or look into the log of the server, which gives it up \
                   where the disk is full";
    PublishError::unavailable(message).with_source(error)
}

fn refused(error: jetstream::context::PublishError, subject: &Subject) -> PublishError {
    let answer = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    let refused = match (error.kind(), answer) {
        (NatsErrorKind::MaxPayloadExceeded, _) => {
            PublishError::rejected("the message is larger than the server takes (`max_payload`)")
        }
        (_, Some(answer)) if is_too_large(answer.error_code()) => {
            PublishError::rejected(format!("the message is larger than the stream of `{subject}` takes"))
        }
        (NatsErrorKind::TimedOut, _) => {
            PublishError::unavailable("NATS did not acknowledge the event in time")
        }
        (NatsErrorKind::BrokenPipe, _) => PublishError::unavailable("the connection to NATS broke"),
        (_, Some(answer)) if is_exhausted(answer.error_code()) => {
            PublishError::unavailable("JetStream has no room left for messages")
        }
        (_, Some(answer)) if is_down(answer.error_code()) => {
            PublishError::unavailable("JetStream is not available")
        }
        (_, Some(answer)) if is_store_broken(answer) => {
            PublishError::unavailable("JetStream could not write the event to its store")
        }
        (NatsErrorKind::StreamNotFound, _) => PublishError::failed(format!(
            "no stream has the subject `{subject}`: create one, or add the subject to one"
        )),
        _ => PublishError::failed(format!("the stream of `{subject}` did not store the event")),
    };
    refused.with_source(error)
}

fn is_too_large(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)
}

fn is_down(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::JETSTREAM_NOT_ENABLED
            | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
    )
}

/// Whether the server or the account has no room left, and so no stream has.
fn is_exhausted(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
    )
}

/// Whether the store took nothing, and neither a limit of its stream nor the message is why. The server has one code for
/// all that its stores say, and of a disk that is full or broken they say what the system does.
fn is_store_broken(answer: &jetstream::Error) -> bool {
    const OTHER_REASONS: &[&str] = &[
        "maximum messages exceeded",
        "maximum bytes exceeded",
        "maximum messages per subject exceeded",
        // Both are written by servers.
        "message to large",
        "message too large",
    ];
    let text = answer.to_string();
    answer.error_code() == ErrorCode::STREAM_STORE_FAILED
        && !OTHER_REASONS.iter().any(|reason| text.starts_with(reason))
}

#[async_trait]
impl Transport for Nats {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        self.send(event, &Probes::default()).await
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let probes = Probes::default();
        publish_by_key(events, KEYS_AT_ONCE, |event| self.send(event, &probes)).await
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client, which has the credentials.
        f.debug_struct("Nats")
            .field("encoding", &self.encoding)
            .field("source", &self.source)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

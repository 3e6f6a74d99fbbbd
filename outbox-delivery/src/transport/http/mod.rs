//! Webhooks as a transport.

mod answer;
mod client;
mod config;
mod connect;
mod headers;

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Uri,
    header::{CONTENT_TYPE, HeaderName},
};
use outbox_traits::{Event, PublishError, PublishErrorKind, Published, Transport};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio::time::{Instant, error::Elapsed, timeout_at};

pub use self::config::HttpConfigError;
use self::{answer::Answer, client::Client};
use crate::{
    relay::MAX_INTERVAL,
    transport::{
        by_key::publish_by_key,
        message::{Encoding, Message, percent_encoded},
    },
};

/// Posts each event to a URL, as a CloudEvent over HTTP and, with a secret, as a
/// [Standard Webhook](https://www.standardwebhooks.com).
///
/// An event is accepted when the answer is a 2xx. The header `webhook-id` has its id.
///
/// | answer | |
/// |---|---|
/// | 2xx | accepted |
/// | 401, 402, 407, 429, 502, 503, 504; no connection in time, TLS included | [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) |
/// | 403, 404, 405, 408, 409, 421, 423, 425 | [`Failed`](outbox_traits::PublishErrorKind::Failed) |
/// | another 4xx with a `Retry-After` | [`Failed`](outbox_traits::PublishErrorKind::Failed) |
/// | another 4xx without one | [`Rejected`](outbox_traits::PublishErrorKind::Rejected) |
/// | anything else, a redirect among it | [`Failed`](outbox_traits::PublishErrorKind::Failed) |
/// | none in time, where another event of the batch was answered meanwhile | [`Failed`](outbox_traits::PublishErrorKind::Failed) |
/// | none in time, where none was | [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) |
///
/// The status decides. The body is waited for a second more at most, for the text of an error.
///
/// What an answer says in `Retry-After` is the error's [`retry_after`](PublishError::retry_after), up to a day.
/// Redirects are not followed.
///
/// In a batch 16 keys are posted at the same time, and an event once the one before it of its key was accepted. After
/// one that was not answered in time, the rest of the batch is not tried.
///
/// The signature is over the id, the time and the body. In [`Encoding::Binary`] the attributes are headers, and so
/// not signed: a receiver that acts on more than the payload and the id wants [`Encoding::Structured`].
///
/// | default | |
/// |---|---|
/// | [encoding](Self::with_encoding) | [`Encoding::Binary`], with attributes as headers such as `ce-type` |
/// | [source](Self::with_source) | `outbox`, where the event has none |
/// | [timeout](Self::with_timeout) | 15 seconds |
/// | [secret](Self::with_secret) | none: not signed |
///
/// ```
/// use outbox_delivery::transport::{Http, message::Encoding};
///
/// # fn example() -> Result<(), outbox_delivery::transport::HttpConfigError> {
/// let transport = Http::to("https://example.com/webhooks")?
///     .with_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?
///     .with_encoding(Encoding::Structured);
/// # Ok(())
/// # }
/// ```
pub struct Http {
    client: Client,
    url: Uri,
    headers: HeaderMap,
    secrets: Vec<Webhook>,
    encoding: Encoding,
    source: String,
    timeout: Duration,
}

const KEYS_AT_ONCE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(15);

impl Http {
    /// Posts to this URL, of `http` or `https`, where the certificate must be good by the roots of the machine.
    ///
    /// # Errors
    /// If it is no such URL, if its port is no number from 1 to 65535, if a user or a password stands in it
    /// ([`with_header`](Self::with_header) takes an `Authorization`), or, for `https`, if the machine has no roots.
    pub fn to(url: &str) -> Result<Self, HttpConfigError> {
        let url = config::endpoint(url)?;
        Ok(Self {
            client: Client::new(&url)?,
            url,
            headers: HeaderMap::new(),
            secrets: Vec::new(),
            encoding: Encoding::default(),
            source: "outbox".to_owned(),
            timeout: TIMEOUT,
        })
    }

    /// Signs with this secret, which begins with `whsec_` and is Base64 of 24 to 64 bytes. With a second call there
    /// are two signatures, one by each, so that a secret can be replaced while receivers know the old one.
    ///
    /// # Errors
    /// If the secret is none of these. The error does not show it.
    pub fn with_secret(mut self, secret: &str) -> Result<Self, HttpConfigError> {
        self.secrets.push(config::secret(secret)?);
        Ok(self)
    }

    /// With this header in every request, such as `Authorization`. Its value is shown nowhere.
    ///
    /// It is not an event's to change: one that has a header of this name with another value is
    /// [`Rejected`](outbox_traits::PublishErrorKind::Rejected). With the same value it is one header.
    ///
    /// # Errors
    /// If it has no form in HTTP, or is one that the transport sets itself. The error does not show the value.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, HttpConfigError> {
        let (name, mut value) = headers::header(name, value).ok_or_else(|| config::no_header(name))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
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

    /// Waits so long for an answer, from the beginning of the request on. By default 15 seconds.
    ///
    /// Where there is no connection, TLS included, after nine tenths of it or after 5 seconds, whichever is less, the
    /// answer is [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.for_requests_of(timeout);
        self.timeout = timeout;
        self
    }

    fn request(&self, event: &Event) -> Result<Request<Full<Bytes>>, PublishError> {
        let message = Message::of(event, self.encoding, &self.source)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            // Two names that differ in case alone would be one.
            let header = headers::header(name, value).filter(|(name, _)| !headers.contains_key(name));
            let (name, value) = header.ok_or_else(|| headers::refused(name))?;
            headers::append(&mut headers, name, value)?;
        }
        for (name, value) in &self.headers {
            match headers.get(name) {
                // What the user of the transport sets is not an event's to change.
                Some(other) if other != value => return Err(headers::taken(name)),
                Some(_) => {}
                None => headers::append(&mut headers, name.clone(), value.clone())?,
            }
        }
        for (name, value) in &message.attributes {
            let (name, value) =
                (headers::name(&format!("ce-{name}"))?, headers::value(&percent_encoded(value))?);
            headers::append(&mut headers, name, value)?;
        }
        headers::append(&mut headers, CONTENT_TYPE, headers::value(message.content_type)?)?;
        let (id, time) = (event.id().to_string(), Utc::now().timestamp());
        headers::append(&mut headers, HeaderName::from_static(HEADER_WEBHOOK_ID), headers::value(&id)?)?;
        headers::append(
            &mut headers,
            HeaderName::from_static(HEADER_WEBHOOK_TIMESTAMP),
            headers::value(&time.to_string())?,
        )?;
        if !self.secrets.is_empty() {
            let signatures: Result<Vec<_>, _> =
                self.secrets.iter().map(|secret| secret.sign(&id, time, &message.body)).collect();
            let signatures =
                signatures.map_err(|_| PublishError::rejected("the body of the event cannot be signed"))?;
            headers::append(
                &mut headers,
                HeaderName::from_static(HEADER_WEBHOOK_SIGNATURE),
                headers::value(&signatures.join(" "))?,
            )?;
        }
        let mut request =
            Request::post(self.url.clone()).body(Full::from(message.body)).map_err(|error| {
                PublishError::rejected("the event has no form as a request of HTTP").with_source(error)
            })?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn post(&self, event: &Event, batch: &Batch) -> Result<(), PublishError> {
        let request = self.request(event)?;
        let began = Instant::now();
        let end = began + self.timeout.min(MAX_INTERVAL);
        let sent = timeout_at(end, self.client.send(&request)).await;
        let response = sent.map_err(|elapsed| self.too_slow(elapsed, began, batch))??;
        *batch.answered() = Some(Instant::now());
        Answer::of(response, end).await.result()
    }

    /// It may be the event or the webhook that is slow. Where another one was answered meanwhile it is the event; else nobody
    /// knows, and none is to blame.
    fn too_slow(&self, elapsed: Elapsed, began: Instant, batch: &Batch) -> PublishError {
        batch.is_slow.store(true, Ordering::Relaxed);
        let is_answering = batch.answered().is_some_and(|answered| answered >= began);
        let kind = if is_answering { PublishErrorKind::Failed } else { PublishErrorKind::Unavailable };
        PublishError::new(kind, format!("the webhook did not answer within {:?}", self.timeout))
            .with_source(elapsed)
    }

    /// Without the path, which may be a secret.
    fn host(&self) -> String {
        let scheme = self.url.scheme_str().unwrap_or_default();
        format!("{scheme}://{}", self.url.authority().map(ToString::to_string).unwrap_or_default())
    }
}

/// What is known of the webhook by the events of a batch.
#[derive(Default)]
struct Batch {
    /// When it last answered one, whatever it said.
    answered: Mutex<Option<Instant>>,
    /// It has not answered one in time.
    is_slow: AtomicBool,
}

impl Batch {
    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for Http {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        self.post(event, &Batch::default()).await
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let batch = &Batch::default();
        publish_by_key(events, KEYS_AT_ONCE, |event| async move {
            // After one that was slow the rest does not wait as long once more for each.
            if batch.is_slow.load(Ordering::Relaxed) {
                return Err(PublishError::not_attempted());
            }
            self.post(event, batch).await
        })
        .await
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("host", &self.host())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("secrets", &self.secrets.len())
            .field("encoding", &self.encoding)
            .field("source", &self.source)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

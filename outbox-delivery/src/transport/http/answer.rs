//! What an answer means for the event.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Response, StatusCode, body::Incoming, header::RETRY_AFTER};
use outbox_traits::{PublishError, PublishErrorKind};
use tokio::time::{Instant, timeout_at};

use crate::publish::asking_for;

/// As much of a body as is read, so that its connection can be used again.
const MAX_BODY: usize = 64 * 1024;
/// As long as it is waited for.
const BODY: Duration = Duration::from_secs(1);
/// As much of it as an error shows.
const MAX_SHOWN: usize = 200;
/// As long as an answer may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

pub(super) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    beginning: String,
}

impl Answer {
    /// The status says what it means, and is there: the body is of use for the text of an error, and where it was
    /// read to its end the connection can be used again. So it is waited for only a little, and not beyond `end`.
    pub(super) async fn of(response: Response<Incoming>, end: Instant) -> Self {
        let (head, body) = response.into_parts();
        let mut bytes = Vec::new();
        // Dropped before its end, it takes its connection with it.
        let _ = timeout_at(end.min(Instant::now() + BODY), read(body, &mut bytes)).await;
        Self {
            status: head.status,
            retry_after: retry_after(&head.headers, Utc::now()),
            beginning: String::from_utf8_lossy(&bytes).chars().take(MAX_SHOWN).collect(),
        }
    }

    pub(super) fn result(self) -> Result<(), PublishError> {
        let Self { status, retry_after, beginning } = self;
        if status.is_success() {
            return Ok(());
        }
        let mut message = format!("the webhook answered {status}");
        if status.is_redirection() {
            message.push_str(", and redirects are not followed");
        }
        if !beginning.is_empty() {
            message = format!("{message}: {beginning:?}");
        }
        let kind = match meaning(status) {
            // What is to come again later is not refused for good: RFC 9110, 15.5.14.
            PublishErrorKind::Rejected if retry_after.is_some() => PublishErrorKind::Failed,
            kind => kind,
        };
        Err(asking_for(retry_after, PublishError::new(kind, message)))
    }
}

/// An event is set aside for what is wrong with it, and not for a token, a bill or a path that somebody will see to, nor for
/// a gateway that finds nobody behind it.
fn meaning(status: StatusCode) -> PublishErrorKind {
    match status {
        StatusCode::UNAUTHORIZED
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => PublishErrorKind::Unavailable,
        StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::LOCKED
        | StatusCode::TOO_EARLY => PublishErrorKind::Failed,
        _ if status.is_client_error() => PublishErrorKind::Rejected,
        _ => PublishErrorKind::Failed,
    }
}

/// What came is there also where the rest does not come.
async fn read(mut body: Incoming, bytes: &mut Vec<u8>) {
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend(frame.into_data().unwrap_or_default());
        if bytes.len() > MAX_BODY {
            return;
        }
    }
}

/// Seconds, or a date by the clock of this machine.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let time = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // As many digits as anybody likes.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        date(text)?.signed_duration_since(now).to_std().unwrap_or_default()
    };
    Some(time.min(MAX_RETRY_AFTER))
}

/// In any of the three forms of HTTP, or as in a mail: with another zone, say.
fn date(text: &str) -> Option<DateTime<Utc>> {
    let date = httpdate::parse_http_date(text).map(DateTime::from).ok();
    date.or_else(|| Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:27:00Z").unwrap().to_utc();
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Wednesday, 21-Oct-15 07:28:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Wed Oct 21 07:28:00 2015"), Some(Duration::from_secs(60)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn nobody_is_left_alone_for_ever() {
        assert_eq!(read("18446744073709551615"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("18446744073709551616"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("99999999999999999999999999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("Sat, 21 Oct 2215 07:28:00 GMT"), Some(MAX_RETRY_AFTER));
    }
}

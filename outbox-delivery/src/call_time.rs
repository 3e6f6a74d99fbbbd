//! For how long a call of the transport may begin events.
//!
//! A call that is given up at its end has failed with all of its events, those among them that were accepted; and of one that is
//! cut off at the end of the relay nobody knows which were. So who publishes one after the other stops in time and leaves the rest
//! for the next call.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// When half of the time is over, and what is cancelled when the relay is to stop. The rest of the time is for what has begun by
    /// then. A pair, since the fields of a type would be read by nobody where no transport is there that asks.
    static LIMITS: (Instant, CancellationToken);
}

/// A call that may take so long, of a relay that may be stopped.
pub(crate) fn limited<T>(
    time: Duration,
    stop: &CancellationToken,
    call: impl Future<Output = T>,
) -> impl Future<Output = T> {
    LIMITS.scope((Instant::now() + time / 2, stop.clone()), call)
}

/// Whether the call in which this runs is to begin nothing more: it has used up half of its time, or its relay stops. Where no
/// relay has made it, it has all the time that there is.
#[cfg(any(
    feature = "http",
    feature = "in-process",
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "redis"
))]
pub(crate) fn is_to_end() -> bool {
    LIMITS.try_with(|(half, stop)| *half <= Instant::now() || stop.is_cancelled()).unwrap_or(false)
}

/// The report on an event that was left for the next call.
#[cfg(any(feature = "http", feature = "in-process", feature = "kafka", feature = "nats", feature = "redis"))]
pub(crate) fn not_begun() -> outbox_traits::PublishError {
    use outbox_traits::{PublishError, PublishErrorKind};

    let message =
        "not attempted, because the relay stops, or events before it used up half of the time for the call";
    PublishError::new(PublishErrorKind::NotAttempted, message)
}

//! How much of its time a call of the transport has used up.
//!
//! A call that is given up at its end has failed with all of its events, those among them that were accepted. So who
//! publishes one after the other stops in time and leaves the rest for the next call.

use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    /// When half of the time is over. The other half is for what has begun by then.
    static HALF: Instant;
}

/// A call that may take so long.
pub(crate) fn limited<T>(time: Duration, call: impl Future<Output = T>) -> impl Future<Output = T> {
    HALF.scope(Instant::now() + time / 2, call)
}

/// Whether the call in which this runs has used up half of its time. Where no relay has made it, it has all the time
/// that there is.
#[cfg(any(
    feature = "http",
    feature = "in-process",
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "redis"
))]
pub(crate) fn is_half_over() -> bool {
    HALF.try_with(|half| *half <= Instant::now()).unwrap_or(false)
}

/// The report on an event that was left for the next call.
#[cfg(any(feature = "http", feature = "in-process", feature = "kafka", feature = "nats", feature = "redis"))]
pub(crate) fn not_begun() -> outbox_traits::PublishError {
    use outbox_traits::{PublishError, PublishErrorKind};

    let message = "not attempted, because half of the time for the call was used up by events before it";
    PublishError::new(PublishErrorKind::NotAttempted, message)
}

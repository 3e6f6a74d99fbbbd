//! What becomes of an event that was not accepted.

use std::time::Duration;

use outbox_traits::{Event, PublishError, PublishErrorKind};

use crate::retry::Retry;

/// A delivery that failed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failed<'a> {
    /// The event.
    pub event: &'a Event,
    /// Why it was not accepted.
    pub error: &'a PublishError,
    /// How many deliveries were started, this one included.
    pub attempts: u32,
    /// How many of them failed, this one included.
    pub failures: u32,
}

impl<'a> Failed<'a> {
    /// A delivery that failed, to try a policy with: of so many that were started, so many have failed, this one included.
    ///
    /// ```
    /// use outbox_delivery::{Decision, ExponentialRetry, Failed, RetryPolicy};
    /// use outbox_traits::{Event, PublishError};
    ///
    /// # fn main() -> outbox_traits::Result<()> {
    /// let (event, error) = (Event::new("order.placed", ())?, PublishError::failed("no"));
    /// let policy = ExponentialRetry::default().with_max_failures(3);
    /// assert!(matches!(policy.decide(&Failed::new(&event, &error, 2, 2)), Decision::Retry { .. }));
    /// assert_eq!(policy.decide(&Failed::new(&event, &error, 3, 3)), Decision::DeadLetter);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(event: &'a Event, error: &'a PublishError, attempts: u32, failures: u32) -> Self {
        Self { event, error, attempts, failures }
    }
}

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is tried again after this time; its partition key waits for it.
    Retry {
        /// How long from now on, by the store's clock. Where a relay [runs](crate::Relay::run), what is shorter than
        /// 10 ms counts as 10 ms.
        after: Duration,
    },
    /// It becomes a dead letter, and its key goes on without it, unless the relay
    /// [holds the keys](crate::Relay::with_held_keys) of all dead letters.
    DeadLetter,
    /// It becomes a dead letter, and its key waits until somebody requeues or discards it.
    HoldKey,
}

/// Decides what becomes of an event that was not accepted.
///
/// It is asked about each event that [`Failed`](PublishErrorKind::Failed) or was
/// [`Rejected`](PublishErrorKind::Rejected), and not where nothing was tried. Where it panics,
/// [`ExponentialRetry::default`] decides, and the panic stands in the log and in the event's last error. A function can
/// be one:
///
/// ```
/// use std::time::Duration;
/// use outbox_delivery::{Decision, Failed, Relay};
/// # use outbox_traits::{ClaimStore, Transport};
///
/// # fn build(store: impl ClaimStore, transport: impl Transport) {
/// let relay = Relay::new(store, transport).with_retry_policy(|failed: &Failed<'_>| {
///     if failed.event.event_type().starts_with("mail.") && failed.failures >= 3 {
///         return Decision::DeadLetter;
///     }
///     Decision::Retry { after: Duration::from_secs(10) }
/// });
/// # }
/// ```
pub trait RetryPolicy: Send + Sync + 'static {
    /// What becomes of this one.
    fn decide(&self, failed: &Failed<'_>) -> Decision;
}

impl<F: Fn(&Failed<'_>) -> Decision + Send + Sync + 'static> RetryPolicy for F {
    fn decide(&self, failed: &Failed<'_>) -> Decision {
        self(failed)
    }
}

/// Tries again after a time that doubles with each failure and is shortened at random ("full jitter"), and sets
/// an event aside after a number of failures, or at once where it was
/// [`Rejected`](PublishErrorKind::Rejected).
///
/// Where the other side said when to try again ([`PublishError::retry_after`]), it waits for at least so long.
///
/// By default from 100 ms to 5 minutes, and 20 failures: an event is set aside after somewhat less than an hour
/// on average.
#[derive(Clone, Copy, Debug)]
pub struct ExponentialRetry {
    retry: Retry,
    max_failures: u32,
}

impl ExponentialRetry {
    /// Waits up to `first` after the first failure, then up to twice as long each time, and never more than
    /// `longest`. What is shorter than 10 ms counts as that, as with every [policy](Decision::Retry).
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { retry: Retry::new(first, longest), ..Self::default() }
    }

    /// After how many failures an event becomes a dead letter, at least one. By default 20; `u32::MAX` is never.
    #[must_use]
    pub fn with_max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures.max(1);
        self
    }
}

impl Default for ExponentialRetry {
    fn default() -> Self {
        Self { retry: Retry::new(Duration::from_millis(100), Duration::from_mins(5)), max_failures: 20 }
    }
}

impl RetryPolicy for ExponentialRetry {
    fn decide(&self, failed: &Failed<'_>) -> Decision {
        let is_rejected = failed.error.kind() == PublishErrorKind::Rejected;
        let is_over = self.max_failures != u32::MAX && failed.failures >= self.max_failures;
        if is_rejected || is_over {
            return Decision::DeadLetter;
        }
        let asked_for = failed.error.retry_after().unwrap_or_default();
        Decision::Retry { after: self.retry.delay_after(failed.failures).max(asked_for) }
    }
}

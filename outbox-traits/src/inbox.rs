//! The consumer's side: what was processed already.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::{Error, ErrorKind, EventId, Result};

/// The most characters of the name of a consumer.
pub const MAX_CONSUMER_CHARS: usize = 200;

/// What an inbox says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// It is new to this consumer, and is now marked as processed, if the session commits.
    New,
    /// This consumer has processed it already: there is nothing to do.
    Duplicate,
}

impl Receipt {
    /// Whether the event is new, and so to be processed.
    #[must_use]
    pub fn is_new(self) -> bool {
        self == Self::New
    }
}

/// A durable list of what each consumer has processed, beside the consumer's own data.
///
/// A relay delivers at least once. A consumer that asks its inbox first, in the transaction in which it does its
/// work, does that work once: the mark and the work are committed together or not at all.
///
/// # The contract
/// - Of any number of sessions that ask for the same consumer and event, one at most is told [`Receipt::New`] and
///   commits. The others wait for it, are told [`Receipt::Duplicate`], or get a
///   [`Conflict`](ErrorKind::Conflict).
/// - Rolled back, the mark was never there.
/// - A duplicate leaves the session usable.
/// - Consumers are apart from one another, and their names are compared exactly.
/// - Marks stay until they are purged by their age: an event that is delivered later than that is new again.
#[async_trait]
pub trait InboxStore: Debug + Send + Sync + 'static {
    /// The consumer's own open transaction, as [`OutboxStore::Session`](crate::OutboxStore::Session).
    type Session: ?Sized + Send
    where
        Self: Sized;

    /// Says whether the event is new to the consumer, and marks it as processed.
    ///
    /// # Errors
    /// [`InvalidEvent`](ErrorKind::InvalidEvent) if the [name of the consumer](check_consumer) cannot be kept;
    /// [`Conflict`](ErrorKind::Conflict) if another session is at the same event: try again in a new session.
    async fn process_once(
        &self,
        session: &mut Self::Session,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt>
    where
        Self: Sized;

    /// Deletes marks that are at least so old by the store's clock and returns how many; zero means all. In bounded
    /// batches, so that no consumer waits for it.
    async fn purge(&self, older_than: Duration) -> Result<u64>;
}

/// Whether an inbox keeps the name of a consumer: it is not blank, has at most [`MAX_CONSUMER_CHARS`] characters, and
/// no NUL among them.
///
/// # Errors
/// [`InvalidEvent`](ErrorKind::InvalidEvent), which says what is wrong.
pub fn check_consumer(consumer: &str) -> Result<()> {
    let length = consumer.chars().count();
    let problem = if consumer.trim().is_empty() {
        "is blank".to_owned()
    } else if length > MAX_CONSUMER_CHARS {
        format!("has {length} characters and the limit is {MAX_CONSUMER_CHARS}")
    } else if consumer.contains('\0') {
        "contains a NUL character".to_owned()
    } else {
        return Ok(());
    };
    // Not the whole of what may be megabytes.
    let shown: String = consumer.chars().take(40).collect();
    let message = format!("the name of the consumer {shown:?} {problem}: choose another");
    Err(Error::new(ErrorKind::InvalidEvent, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_consumer_is_bounded_and_not_blank() {
        for good in ["billing", "é", " billing ", &"é".repeat(MAX_CONSUMER_CHARS)] {
            check_consumer(good).unwrap();
        }
        for (bad, why) in
            [("", "blank"), (" \t", "blank"), ("a\0", "NUL"), (&*"é".repeat(MAX_CONSUMER_CHARS + 1), "201")]
        {
            let error = check_consumer(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEvent);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

//! One call of the transport, and what can be believed of its answer.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use outbox_traits::{Event, EventId, PublishError, Published, Transport};
use tokio_util::sync::CancellationToken;

/// The answer for each event of a batch, in its order.
pub(crate) struct Answers {
    pub(crate) results: Vec<Result<(), PublishError>>,
    pub(crate) ending: Ending,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a report.
    Reported,
    /// Without one: it panicked, or ran out of time. Nobody knows which of its events is to blame.
    Broken,
    /// The relay itself ended it. No event is to blame.
    Cut,
}

/// Publishes events, for so long at most, and until it is cut off.
pub(crate) async fn publish(
    transport: &dyn Transport,
    events: &[Event],
    timeout: Duration,
    cut: &CancellationToken,
) -> Answers {
    // The transport is used again after a panic, as it would be in another task.
    let call = AssertUnwindSafe(async { transport.publish_all(events).await }).catch_unwind();
    let all_failed = |message: String, ending| {
        let results = events.iter().map(|_| Err(PublishError::failed(message.clone()))).collect();
        Answers { results, ending }
    };
    tokio::select! {
        biased;
        // First, because not one more publish is to begin.
        () = cut.cancelled() => {
            let results = events.iter().map(|_| Err(PublishError::not_attempted())).collect();
            Answers { results, ending: Ending::Cut }
        }
        published = call => match published {
            Ok(published) => Answers { results: read(events, published), ending: Ending::Reported },
            Err(panic) => {
                all_failed(format!("the transport panicked: {}", text_of(&*panic)), Ending::Broken)
            }
        },
        () = tokio::time::sleep(timeout) => {
            let message = format!("the transport did not answer within {timeout:?}");
            all_failed(message, Ending::Broken)
        }
    }
}

/// An event is accepted if the transport said so, and nothing else, of that very event.
fn read(events: &[Event], published: Vec<Published>) -> Vec<Result<(), PublishError>> {
    let mut answers: HashMap<EventId, Result<(), PublishError>> = HashMap::new();
    for Published { id, result } in published {
        if result.is_err() || !answers.contains_key(&id) {
            answers.insert(id, result);
        }
    }
    let forgotten = || Err(PublishError::failed("the transport did not report on the event"));
    events.iter().map(|event| answers.remove(&event.id()).unwrap_or_else(forgotten)).collect()
}

/// What a panic says, where it is text.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

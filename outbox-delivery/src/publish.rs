//! One call of the transport, and what can be believed of its answer.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use outbox_traits::{Event, EventId, PublishError, Published, Transport};

/// The answer for each event of a batch, in its order.
pub(crate) struct Answers {
    pub(crate) results: Vec<Result<(), PublishError>>,
    pub(crate) has_panicked: bool,
}

pub(crate) async fn publish(transport: &dyn Transport, events: &[Event]) -> Answers {
    // The transport is used again after a panic, as it would be in another task.
    let call = AssertUnwindSafe(async { transport.publish_all(events).await });
    match call.catch_unwind().await {
        Ok(published) => Answers { results: read(events, published), has_panicked: false },
        Err(panic) => {
            let message = format!("the transport panicked: {}", text_of(&*panic));
            let results = events.iter().map(|_| Err(PublishError::failed(message.clone()))).collect();
            Answers { results, has_panicked: true }
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

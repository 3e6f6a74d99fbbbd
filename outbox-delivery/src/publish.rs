//! One call of the transport, and what can be believed of its answer.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Published};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{call_time, guard, lanes::Lane, record::Record, relay::Common, spans::Spans};

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

/// Publishes events, until the time-out or until it is cut off, and writes down that it did. Once the relay is to stop, those that
/// have begun are finished, and others need not begin.
pub(crate) async fn publish(
    common: &Common,
    record: &Record,
    events: &[Event],
    stop: &CancellationToken,
    cut: &CancellationToken,
) -> Answers {
    let spans = Spans::new(&common.name, events);
    let began = Instant::now();
    let published = guard::wait(async { common.transport.publish_all(events).await });
    let published = call_time::limited(common.publish_timeout, stop, published);
    let call = call(published, events, common.publish_timeout, cut);
    let answers = call.instrument(spans.call.clone()).await;
    record.called(events.len(), began.elapsed(), answers.ending);
    spans.end(&answers.results);
    answers
}

async fn call(
    call: impl Future<Output = Result<Vec<Published>, String>>,
    events: &[Event],
    timeout: Duration,
    cut: &CancellationToken,
) -> Answers {
    let all_failed = |message: String, ending| {
        let results = events.iter().map(|_| Err(PublishError::failed(message.clone()))).collect();
        Answers { results, ending }
    };
    tokio::select! {
        biased;
        // First, because not one more publish is to begin.
        () = cut.cancelled() => {
            let message = "cut off, at the end of its lease or of the relay";
            let cut = |_| Err(PublishError::new(PublishErrorKind::NotAttempted, message));
            Answers { results: events.iter().map(cut).collect(), ending: Ending::Cut }
        }
        published = call => match published {
            Ok(published) => Answers { results: read(events, published), ending: Ending::Reported },
            Err(panic) => all_failed(format!("the transport panicked: {panic}"), Ending::Broken),
        },
        () = tokio::time::sleep(timeout) => {
            let message = format!("the transport did not answer within {timeout:?}");
            all_failed(message, Ending::Broken)
        }
    }
}

/// For how long an error asks for the transport to be left alone. Whatever that is, it is asked again after five
/// minutes.
pub(crate) fn asks_for(error: &PublishError) -> Duration {
    error.retry_after().unwrap_or_default().min(Duration::from_mins(5))
}

/// An event is accepted if the transport said so, and nothing else, of that very event.
fn read(events: &[Event], published: Vec<Published>) -> Vec<Result<(), PublishError>> {
    let mut answers: HashMap<EventId, Result<(), PublishError>> = HashMap::new();
    for Published { id, result } in published {
        let result = result.map_err(readable);
        if result.is_err() || !answers.contains_key(&id) {
            guard::discard(answers.insert(id, result));
        }
    }
    let forgotten = || Err(PublishError::failed("the transport did not report on the event"));
    let mut failed = HashSet::new();
    let results = events
        .iter()
        .map(|event| {
            let result = answers.remove(&event.id()).unwrap_or_else(forgotten);
            let lane = Lane::of(event);
            if result.is_err() {
                failed.insert(lane);
                return result;
            }
            if failed.contains(&lane) { Err(out_of_order(event)) } else { result }
        })
        .collect();
    answers.into_values().for_each(guard::discard);
    results
}

/// It comes again after the one before it: what its key has been told last is then the last of it.
fn out_of_order(event: &Event) -> PublishError {
    let message =
        "accepted, although an event before it of the same key was not: it is published again after that one";
    tracing::warn!(event = %event.id(), "the transport does not keep the order: {message}");
    PublishError::new(PublishErrorKind::NotAttempted, message)
}

/// The error, or one of the same kind in its place if it has a source that panics when it is asked for its text.
fn readable(error: PublishError) -> PublishError {
    match guard::run(|| error.to_string()) {
        Ok(_) => error,
        Err(panic) => {
            let text = format!("the transport failed, and the text of its error panicked: {panic}");
            let readable = asking_for(error.retry_after(), PublishError::new(error.kind(), text));
            guard::discard(error);
            readable
        }
    }
}

/// The error, asking for as much time as the one in whose place it stands.
pub(crate) fn asking_for(time: Option<Duration>, error: PublishError) -> PublishError {
    match time {
        Some(time) => error.with_retry_after(time),
        None => error,
    }
}

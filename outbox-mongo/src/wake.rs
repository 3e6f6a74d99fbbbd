//! Wake-ups: a change stream on the collection.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bson::{Document, doc};
use mongodb::{
    change_stream::ChangeStream,
    error::Error as DriverError,
    options::{ReadConcern, ReadPreference, SelectionCriteria},
};
use outbox_traits::{Result, WakeStore, Wakeups, async_trait};
use tokio::time::{sleep, timeout};

use crate::{
    MongoOutbox,
    document::{PENDING, SCHEDULED},
};

const LISTEN: &str = "listen to";

/// For how long the server waits for a change before it answers that there is none: so seldom it is asked where
/// nothing happens. A change it tells at once.
const AWAIT: Duration = Duration::from_secs(5);
/// For how long no answer is none yet; the driver may have to find another primary meanwhile.
const SILENCE: Duration = Duration::from_secs(30);
/// Changes in one answer. They are one wake-up.
const CHANGES: u32 = 1000;
/// Between tries to listen again: at first, and at most. So that not all who lost a server come back to it at once,
/// each is longer by up to as much.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Each listener has a change stream of its own, and with it a connection of the client's pool for as long as it
/// lives: have one for each process, and not one for each worker. It needs the privileges `find` and `changeStream` on
/// the collection.
///
/// It wakes for what becomes visible with majority, whoever wrote it: inserts, what makes an event pending again, and a
/// dead letter that held its key and is discarded. A stream that ends, for whatever reason, is opened anew, at first
/// soon and then in growing intervals; what may have been missed meanwhile is one wake-up.
#[async_trait]
impl WakeStore for MongoOutbox {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        self.ready(LISTEN).await?;
        let stream = self.watch().await.map_err(self.error(LISTEN))?;
        let listener = Listener { outbox: self.clone(), stream: Some(stream), pauses: pauses() };
        let namespace = self.namespace();
        Ok(Box::new(MongoWakeups { namespace, step: Mutex::new(Box::pin(listener.step())) }))
    }
}

impl MongoOutbox {
    /// The changes from now on that are of interest, without what is in them.
    async fn watch(&self) -> Result<ChangeStream<Document>, DriverError> {
        let again = doc! {
            "operationType": "update",
            "updateDescription.updatedFields.status": { "$in": [PENDING, SCHEDULED] },
        };
        let pipeline = [
            doc! { "$match": { "$or": [{ "operationType": "insert" }, again] } },
            doc! { "$project": { "_id": 1 } },
        ];
        let watch = self.events.watch().pipeline(pipeline).max_await_time(AWAIT).batch_size(CHANGES);
        let watch = watch
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        Ok(watch.await?.with_type())
    }
}

struct Listener {
    outbox: MongoOutbox,
    /// None while there is none.
    stream: Option<ChangeStream<Document>>,
    pauses: ExponentialBackoff,
}

impl Listener {
    /// Waits for one answer of the server, and says whether it is a reason to wake.
    async fn step(mut self) -> (Self, bool) {
        let Some(stream) = &mut self.stream else {
            sleep(self.pauses.next().unwrap_or(PAUSE.1)).await;
            self.stream = self.outbox.watch().await.ok();
            // What happened in between is not in the new one.
            let is_reason = self.stream.is_some();
            return (self, is_reason);
        };
        match timeout(AWAIT + SILENCE, stream.next_if_any()).await {
            Ok(Ok(change)) if stream.is_alive() => {
                self.pauses = pauses();
                (self, change.is_some())
            }
            // An error, the end, which comes when the collection is dropped, or silence.
            _ => {
                self.stream = None;
                (self, false)
            }
        }
    }
}

/// Between the tries of one row.
fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(PAUSE.0).with_max_delay(PAUSE.1);
    pauses.with_jitter().without_max_times().build()
}

type Step = Pin<Box<dyn Future<Output = (Listener, bool)> + Send>>;

struct MongoWakeups {
    namespace: String,
    /// What is under way stays so when a wait is dropped: an answer that nobody hears is lost. Locked by nobody: it
    /// is what makes this `Sync`.
    step: Mutex<Step>,
}

#[async_trait]
impl Wakeups for MongoWakeups {
    async fn wait(&mut self) {
        let step = self.step.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (listener, is_reason) = step.as_mut().await;
            *step = Box::pin(listener.step());
            if is_reason {
                break;
            }
        }
        // What else is known already is part of the same wake-up.
        while let Some((listener, _)) = poll_fn(|cx| Poll::Ready(done(step.as_mut().poll(cx)))).await {
            *step = Box::pin(listener.step());
        }
    }
}

fn done<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

impl fmt::Debug for MongoWakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoWakeups").field("collection", &self.namespace).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It never gives up: a server may be away for a weekend.
    #[test]
    fn pauses_grow_to_ten_seconds_and_never_end() {
        let first = pauses().next().unwrap();
        assert!(first <= 2 * PAUSE.0, "{first:?}");
        let late: Vec<Duration> = pauses().skip(1000).take(100).collect();
        assert_eq!(late.len(), 100);
        for pause in late {
            assert!(pause >= PAUSE.1 && pause <= Duration::from_secs(10), "{pause:?}");
        }
    }
}

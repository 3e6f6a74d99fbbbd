//! Wake-ups: a change stream on the collection.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bson::{Document, doc};
use mongodb::{
    change_stream::ChangeStream,
    error::Error as DriverError,
    options::{ReadConcern, ReadPreference, SelectionCriteria},
};
use outbox_traits::{Result, WakeStore, Wakeups, async_trait};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

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
/// Between tries to listen again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

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
        let listener = Listener { outbox: self.clone(), stream: Some(stream), failures: 0 };
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
    /// In a row.
    failures: u32,
}

impl Listener {
    /// Waits for one answer of the server, and says whether it is a reason to wake.
    async fn step(mut self) -> (Self, bool) {
        let Some(stream) = &mut self.stream else {
            sleep(pause(self.failures)).await;
            self.stream = self.outbox.watch().await.ok();
            // What happened in between is not in the new one.
            let is_reason = self.stream.is_some();
            self.failures += u32::from(!is_reason);
            return (self, is_reason);
        };
        match timeout(AWAIT + SILENCE, stream.next_if_any()).await {
            Ok(Ok(change)) if stream.is_alive() => {
                self.failures = 0;
                (self, change.is_some())
            }
            // An error, the end, which comes when the collection is dropped, or silence.
            _ => {
                self.stream = None;
                self.failures += 1;
                (self, false)
            }
        }
    }
}

/// Grows, and is never the same, so that not all who lost a server come back to it at once.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE.0.saturating_mul(1 << failures.min(16)).min(PAUSE.1);
    let share = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    longest.mul_f64(0.5 + share / 2.0)
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

    #[test]
    fn a_pause_grows_and_has_an_end() {
        for failures in [0, 1, 5, 31, u32::MAX] {
            let longest = PAUSE.0.saturating_mul(1 << failures.min(16)).min(PAUSE.1);
            for _ in 0..50 {
                let pause = pause(failures);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
    }
}

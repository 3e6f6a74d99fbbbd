//! The thread that makes all changes.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use outbox_traits::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::error;

type Flushed = Result<(), sled::Error>;
/// Makes a change, and returns what tells the caller once it is flushed.
type Job = Box<dyn FnOnce() -> Option<Answer> + Send>;
type Answer = Box<dyn FnOnce(&Flushed) + Send>;

/// Held for each change, so that it may look before it writes: sled's transactions cannot scan. Of several outboxes
/// over the same trees, too, one changes at a time. Sled's own lock is of the whole process anyhow.
static CHANGING: Mutex<()> = Mutex::new(());

/// Waits until no writer makes a change.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So that the first of a long queue does not wait for all of it.
const MAX_GROUP: usize = 256;

/// A thread that makes changes one after another, and those that wait together durable with one flush.
///
/// Sled lets one transaction run at a time anyhow, and a flush costs far more than a transaction. While one group is
/// flushed the next one gathers, so that the more there is to do, the fewer flushes a change costs. No thread of the
/// async runtime waits for sled's lock or for the disk.
pub(crate) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(flush: impl Fn() -> Flushed + Send + 'static) -> Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("outbox-sled".to_owned())
            .spawn(move || work(&queue, flush))
            .map_err(|error| {
                let message = "could not start the thread of the outbox";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a change, at once. The future ends when it is made and flushed, or has failed; dropping the future
    /// does not take the change back.
    pub(crate) fn run<T, C>(&self, change: C) -> impl Future<Output = Result<T>> + Send + use<T, C>
    where
        T: Send + 'static,
        C: FnOnce() -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || match change() {
            Ok(value) => Some(Box::new(move |flushed: &Flushed| {
                let outcome = flushed.clone().map(|()| value).map_err(not_flushed);
                // Where nobody waits any more, the value is dropped here.
                answer.send(outcome).ok();
            })),
            // It changed nothing, so that nothing is to be flushed.
            Err(error) => {
                answer.send(Err(error)).ok();
                None
            }
        });
        if let Some(jobs) = &self.jobs {
            jobs.send(job).ok();
        }
        async { answered.await.unwrap_or_else(|_| Err(lost())) }
    }
}

fn not_flushed(error: sled::Error) -> Error {
    error::of("flush a change, which may or may not outlive the process", error)
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Backend,
        "sled panicked in a change of the outbox, which may or may not have been made",
    )
}

fn work(queue: &mpsc::Receiver<Job>, flush: impl Fn() -> Flushed) {
    while let Ok(first) = queue.recv() {
        let group = std::iter::once(first).chain(queue.try_iter()).take(MAX_GROUP);
        // A panic of sled's in one change must not end the changes of all others.
        let make = |job: Job| {
            let _alone = alone();
            catch_unwind(AssertUnwindSafe(job)).ok().flatten()
        };
        let answers: Vec<Answer> = group.filter_map(make).collect();
        if answers.is_empty() {
            continue;
        }
        if let Ok(flushed) = catch_unwind(AssertUnwindSafe(&flush)) {
            for answer in answers {
                answer(&flushed);
            }
        }
    }
}

impl Drop for Writer {
    /// Waits for what is queued, so that the data base can be opened again as soon as the outbox is dropped.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;

    /// A writer whose flushes are counted, and wait for the sender to say how they end.
    fn counted() -> (Writer, Arc<AtomicUsize>, mpsc::Sender<Flushed>) {
        let flushes = Arc::new(AtomicUsize::new(0));
        let (end, ends) = mpsc::channel();
        let counter = Arc::clone(&flushes);
        let flush = move || {
            counter.fetch_add(1, SeqCst);
            ends.recv().unwrap_or(Ok(()))
        };
        (Writer::start(flush).unwrap(), flushes, end)
    }

    #[tokio::test]
    async fn changes_that_wait_together_share_a_flush() {
        let (writer, flushes, end) = counted();
        let first = writer.run(|| Ok(0));
        while flushes.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // They gather while the first one is flushed.
        let rest: Vec<_> = (1..=100).map(|index| writer.run(move || Ok(index))).collect();
        drop(end);
        assert_eq!(first.await.unwrap(), 0);
        for (change, index) in rest.into_iter().zip(1..) {
            assert_eq!(change.await.unwrap(), index);
        }
        assert_eq!(flushes.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_change_that_fails_or_panics_costs_no_flush_and_harms_no_other() {
        let (writer, flushes, end) = counted();
        drop(end);
        let failed = writer.run(|| Err::<(), _>(Error::new(ErrorKind::Conflict, "in the way"))).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
        let panicked = writer.run(|| -> Result<()> { std::panic::resume_unwind(Box::new("a bug")) }).await;
        assert_eq!(panicked.unwrap_err().kind(), ErrorKind::Backend);
        assert_eq!(flushes.load(SeqCst), 0);
        writer.run(|| Ok(())).await.unwrap();
        assert_eq!(flushes.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_flush_that_fails_is_told_to_all_that_share_it() {
        let (writer, flushes, end) = counted();
        let first = writer.run(|| Ok(()));
        while flushes.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let rest = [(); 2].map(|()| writer.run(|| Ok(())));
        end.send(Ok(())).unwrap();
        end.send(Err(std::io::Error::other("disk full").into())).unwrap();
        first.await.unwrap();
        for change in rest {
            let error = change.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(std::error::Error::source(&error).unwrap().is::<sled::Error>());
        }
    }

    #[tokio::test]
    async fn what_is_queued_is_done_before_the_writer_is_gone() {
        let (writer, flushes, end) = counted();
        drop(end);
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let done = Arc::clone(&done);
            drop(writer.run(move || Ok(done.fetch_add(1, SeqCst))));
        }
        drop(writer);
        assert_eq!(done.load(SeqCst), 3);
        assert!(flushes.load(SeqCst) >= 1);
    }
}

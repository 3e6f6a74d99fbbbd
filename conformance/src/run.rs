//! Running one clause.

use std::{
    env, fmt,
    future::Future,
    io::{self, Write},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use outbox_traits::ClaimStore;

use crate::{
    DurableHarness, Harness, Skip,
    clauses::{claim_durable, durable},
    transport::TransportHarness,
};

/// Far longer than any clause takes, also on a machine that is busy.
const LONGEST: Duration = Duration::from_mins(20);

/// A clause as a value, for those who run the suite by a program; see [`clauses!`](crate::clauses!).
pub struct Clause {
    /// The group and name, such as `store::a_saved_event_is_pending`.
    pub name: &'static str,
    run: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Clause {
    /// Runs it against a fresh store; the error is the message of the assertion that failed.
    ///
    /// # Errors
    /// If the store does not keep the clause.
    pub fn run(&self) -> Result<(), String> {
        (self.run)()
    }
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clause").field(&self.name).finish()
    }
}

#[doc(hidden)]
pub fn clause<H, F>(name: &'static str, clause: fn(Arc<H>) -> F) -> Clause
where
    H: Harness,
    F: Future<Output = ()> + Send + 'static,
{
    caught(name, move || run::<H, F>(name, clause))
}

/// A clause that starts no process.
#[doc(hidden)]
pub fn durable_clause<H, F>(name: &'static str, clause: fn(Arc<H>, String) -> F) -> Clause
where
    H: DurableHarness,
    F: Future<Output = ()> + Send + 'static,
{
    caught(name, move || run::<H, F>(name, |harness| clause(harness, String::new())))
}

#[doc(hidden)]
pub fn transport_clause<H, F>(name: &'static str, clause: fn(Arc<H>) -> F) -> Clause
where
    H: TransportHarness,
    F: Future<Output = ()> + Send + 'static,
{
    caught(name, move || run_transport::<H, F>(name, clause))
}

fn caught(name: &'static str, run: impl Fn() + Send + Sync + 'static) -> Clause {
    let run = move || {
        std::panic::catch_unwind(AssertUnwindSafe(&run)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
        })
    };
    Clause { name, run: Box::new(run) }
}

/// Says on standard error that a test did not run, or panics where `OUTBOX_TEST_REQUIRE=1` asks for all of
/// them. Tests of a backend that are not part of the suite use it too.
///
/// # Panics
/// If the server is missing and required.
pub fn require<T>(test: &str, opened: Result<T, Skip>) -> Option<T> {
    match opened {
        Ok(value) => Some(value),
        Err(skip) if env::var("OUTBOX_TEST_REQUIRE").is_ok_and(|value| value == "1") => {
            panic!("{test} did not run, and OUTBOX_TEST_REQUIRE=1 requires it: {skip}")
        }
        Err(skip) => {
            // Not by `eprintln!`, which the test runner keeps to itself while a test passes.
            writeln!(io::stderr(), "SKIPPED {test}: {skip}").ok();
            None
        }
    }
}

#[doc(hidden)]
pub fn run<H, F>(name: &str, clause: impl FnOnce(Arc<H>) -> F)
where
    H: Harness,
    F: Future<Output = ()> + Send + 'static,
{
    on_a_runtime(async {
        let Some(harness) = require(name, H::open().await) else { return };
        let harness = Arc::new(harness);
        in_a_task(clause(Arc::clone(&harness))).await;
        harness.close().await;
    });
}

#[doc(hidden)]
pub fn run_transport<H, F>(name: &str, clause: impl FnOnce(Arc<H>) -> F)
where
    H: TransportHarness,
    F: Future<Output = ()> + Send + 'static,
{
    on_a_runtime(async {
        let Some(harness) = require(name, H::open().await) else { return };
        let harness = Arc::new(harness);
        in_a_task(clause(Arc::clone(&harness))).await;
        harness.close().await;
    });
}

/// In a task of its own, so that what is spawned beside it runs in parallel.
async fn in_a_task(clause: impl Future<Output = ()> + Send + 'static) {
    let Ok(ended) = tokio::time::timeout(LONGEST, tokio::spawn(clause)).await else {
        panic!("it has not come to an end within {LONGEST:?}: a call of the store hangs, or has no end");
    };
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Like [`run`], but a child process that the clause has started from this same test plays the child's part.
#[doc(hidden)]
pub fn run_durable<H, F>(name: &str, clause: fn(Arc<H>, String) -> F, test: &str)
where
    H: DurableHarness,
    F: Future<Output = ()> + Send + 'static,
{
    run_with_child(name, clause, test, async |location| durable::child::<H>(&location).await);
}

#[doc(hidden)]
pub fn run_claim_durable<H, F>(name: &str, clause: fn(Arc<H>, String) -> F, test: &str)
where
    H: DurableHarness,
    H::Store: ClaimStore,
    F: Future<Output = ()> + Send + 'static,
{
    run_with_child(name, clause, test, async |location| claim_durable::child::<H>(&location).await);
}

fn run_with_child<H, F>(
    name: &str,
    clause: fn(Arc<H>, String) -> F,
    test: &str,
    child: impl AsyncFnOnce(String),
) where
    H: DurableHarness,
    F: Future<Output = ()> + Send + 'static,
{
    if let Ok(location) = env::var(durable::CHILD) {
        return runtime().block_on(child(location));
    }
    // The test runner names a test by its path without the crate.
    let test = test.split_once("::").map_or(test, |(_, path)| path).to_owned();
    run(name, |harness| clause(harness, test));
}

/// On a runtime of its own, which is not waited for where a call hangs.
fn on_a_runtime(work: impl Future<Output = ()>) {
    let runtime = runtime();
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    if let Err(panic) = done {
        runtime.shutdown_background();
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime for the test")
}

//! Random histories against a model.

mod claims;
mod list;

use std::sync::Arc;

use outbox_traits::Error;
use proptest::{
    collection::vec,
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::{
    Harness,
    run::{require, runtime},
};

pub use self::{claims::check_claim_model, list::check_model};

/// The clock of a history moves in steps of an hour, and all ages, delays and leases lie half an hour beside
/// one, so that the time that a slow engine takes never decides.
const STEP: i64 = 3600;

/// In seconds: so many steps, less half a one.
fn beside(steps: i64) -> i64 {
    steps * STEP - STEP / 2
}

/// Runs histories of such steps, each against a fresh store.
fn check<H, S>(cases: u32, steps: S, agree: impl AsyncFn(Arc<H>, Vec<S::Value>) -> Result<(), TestCaseError>)
where
    H: Harness,
    S: Strategy,
    S::Value: Clone,
{
    let runtime = runtime();
    let Some(first) = require("model", runtime.block_on(H::open())) else { return };
    runtime.block_on(first.close());
    let config = Config::default();
    // Less where the environment says so.
    let max_shrink_iters = config.max_shrink_iters.min(500);
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..config };
    let outcome = TestRunner::new(config).run(&vec(steps, 1..25), |history| {
        runtime.block_on(async {
            let h = Arc::new(H::open().await.expect("it was there a moment ago"));
            let outcome = agree(Arc::clone(&h), history).await;
            h.close().await;
            outcome
        })
    });
    if let Err(error) = outcome {
        panic!("the store and the model disagree: {error}");
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn fail(error: Error) -> TestCaseError {
    TestCaseError::fail(format!("the store failed: {error}"))
}

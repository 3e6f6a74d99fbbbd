//! For how long a clause waits for what must come. It is no measure of speed: it only bounds a clause that fails.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// Where faults are looked for, and nothing else is slow.
const SHORT: Duration = Duration::from_secs(8);

static EXPECTS_FAULTS: AtomicBool = AtomicBool::new(false);

/// From now on the clauses of this process wait for a few seconds at most: it tries stores that are known to be broken.
pub fn expect_faults() {
    EXPECTS_FAULTS.store(true, Relaxed);
}

/// Who is not woken by then never will be.
pub(crate) fn of_a_wakeup() -> Duration {
    seconds(20)
}

/// Who has no answer by then never will.
pub(crate) fn of_a_call() -> Duration {
    seconds(60)
}

fn seconds(long: u64) -> Duration {
    let long = Duration::from_secs(long);
    if EXPECTS_FAULTS.load(Relaxed) { long.min(SHORT) } else { long }
}

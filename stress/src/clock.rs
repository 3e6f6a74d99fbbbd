//! Whether somebody sets the machine's clock while a stress runs.
//!
//! The servers go by that clock, and the history by one that nobody sets: what the contract allows would look like a lease
//! that was given to two.

use std::time::Duration;

use rustix::time::ClockId;

use crate::{
    history::{micros, now},
    shared::Shared,
};

const EVERY: Duration = Duration::from_millis(20);
/// A clock that is only made to go faster or slower differs by far less from one look to the next.
const SET: i64 = 1_000;
/// Two looks at a clock that are so far apart, in microseconds, had something in between.
const INTERRUPTED: u64 = 200;

/// Writes it down, until the stress ends.
pub(crate) async fn watch(shared: &Shared) {
    let mut last = None;
    while !shared.is_stopped() {
        if let Some(ahead) = ahead() {
            let by = ahead - last.unwrap_or(ahead);
            if by.abs() > SET {
                eprintln!("stress: the machine's clock was set by {by} µs");
                shared.record.clock_set(by);
            }
            last = Some(ahead);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// How far the clock that can be set is ahead of the one that cannot; `None` if it was not looked at in time.
fn ahead() -> Option<i64> {
    let before = now();
    let wall = micros(ClockId::Realtime);
    let took = now() - before;
    (took < INTERRUPTED).then(|| wall.cast_signed() - before.cast_signed())
}

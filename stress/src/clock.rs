//! Whether somebody sets the machine's clock while a stress runs.
//!
//! The servers go by that clock, and the history by one that nobody sets: what the contract allows would look like a lease
//! that was given to two.

use std::time::Duration;

use rustix::time::ClockId;
use tokio::sync::oneshot;

use crate::{
    history::{micros, now},
    shared::Shared,
};

const EVERY: Duration = Duration::from_millis(20);
/// A clock that is only made to go faster or slower differs by far less from one look to the next.
const SET: i64 = 1_000;
/// Two looks at a clock that are so far apart, in microseconds, had something in between.
const INTERRUPTED: u64 = 200;

/// Writes it down, until it is told to end, and once more then.
pub(crate) async fn watch(shared: &Shared, mut end: oneshot::Receiver<()>) {
    let (mut last, mut is_over) = (None, false);
    while !is_over {
        is_over = tokio::time::timeout(EVERY, &mut end).await.is_ok();
        let Some(ahead) = ahead() else { continue };
        let by = ahead - last.unwrap_or(ahead);
        if by.abs() > SET {
            eprintln!("stress: the machine's clock was set by {by} µs");
            shared.clock_set(by);
        }
        last = Some(ahead);
    }
}

/// How far the clock that can be set is ahead of the one that cannot; `None` if it was not looked at in time.
fn ahead() -> Option<i64> {
    let before = now();
    let wall = micros(ClockId::Realtime);
    let took = now() - before;
    (took < INTERRUPTED).then(|| wall.cast_signed() - before.cast_signed())
}

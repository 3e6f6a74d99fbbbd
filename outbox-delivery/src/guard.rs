//! What others wrote may panic, and the relay goes on.
//!
//! Whatever it calls that is not its own is called through here: transport, store, wake-ups, policy, routes and the
//! recorder of metrics. The other side is used again afterwards, as it would be after a panic in another task. Where a
//! program aborts on a panic, there is nothing to be done.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures_util::FutureExt;
use outbox_traits::{Error, ErrorKind, Result};
use tokio::time::timeout;

/// What it returns, or what its panic says.
pub(crate) fn run<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| text_of(&*panic).to_owned())
}

/// What it comes to, or what its panic says.
pub(crate) async fn wait<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| text_of(&*panic).to_owned())
}

/// A call of a store. Whether it took before it panicked is as little known as where an answer was lost.
pub(crate) async fn store<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    wait(call).await.unwrap_or_else(|panic| {
        Err(Error::new(ErrorKind::Unavailable, format!("the outbox store panicked: {panic}")))
    })
}

/// The same, which is not to go on for ever where its connection is half open.
pub(crate) async fn in_time<T>(time: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(time, store(call)).await.unwrap_or_else(|_| {
        let message = format!("the outbox store did not answer within {time:?}");
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

/// What a panic says, where it is text.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

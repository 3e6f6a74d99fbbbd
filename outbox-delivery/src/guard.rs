//! What others wrote may panic, and the relay goes on.
//!
//! Whatever it calls that is not its own is called through here: transport, store, wake-ups, policy, routes and the
//! recorder of metrics. The other side is used again afterwards, as it would be after a panic in another task. Where a
//! program aborts on a panic, there is nothing to be done.

use std::{
    any::Any,
    fmt::Display,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use outbox_traits::{Error, ErrorKind, Result};
use tokio::time::timeout;

/// What it returns, or what its panic says.
pub(crate) fn run<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = text_of(&*panic).to_owned();
        // What it panicked with may panic, too, where it is dropped.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            mem::forget(another);
        }
        text
    })
}

/// Drops what others have made, and is of no interest any more: its panic changes nothing.
pub(crate) fn discard<T>(made: T) {
    if let Err(panic) = run(|| drop(made)) {
        tracing::error!(panic, "what the relay had called panicked when it was dropped");
    }
}

/// What it comes to, or what its panic says. It may panic also where it is dropped, before its end or after it.
pub(crate) fn wait<T, F: Future<Output = T>>(work: F) -> Guarded<F> {
    Guarded(Some(Box::pin(work)))
}

/// Others' work, until it has ended or nobody waits for it any more.
pub(crate) struct Guarded<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let result = match run(|| work.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        discard(self.0.take());
        Poll::Ready(result)
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
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

/// What an error says, which may have a cause that panics when it is asked for its text.
pub(crate) fn text(error: &impl Display) -> String {
    run(|| error.to_string()).unwrap_or_else(|panic| format!("an error whose text panicked: {panic}"))
}

/// The same, of one that ends with it.
pub(crate) fn into_text(error: impl Display) -> String {
    let text = text(&error);
    discard(error);
    text
}

/// What a panic says, where it is text.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

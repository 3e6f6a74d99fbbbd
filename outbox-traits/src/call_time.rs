//! For how long a call of a transport may begin events.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
};

thread_local! {
    /// Of the call that this thread goes on with just now.
    static IS_TO_END: RefCell<Option<Rc<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// Puts back what was there before, also where the call panics.
struct Before(Option<Rc<dyn Fn() -> bool>>);

impl Drop for Before {
    fn drop(&mut self) {
        IS_TO_END.set(self.0.take());
    }
}

/// Goes on with a call of a transport, which can [ask](is_call_to_end) by this whether it is to begin no more events: for those who
/// write a relay.
///
/// ```
/// use outbox_traits::{is_call_to_end, limit_call};
///
/// # async fn example() {
/// let is_late = limit_call(|| true, async { is_call_to_end() }).await;
/// assert!(is_late && !is_call_to_end());
/// # }
/// ```
pub async fn limit_call<T>(
    is_to_end: impl Fn() -> bool + Clone + Send + 'static,
    call: impl Future<Output = T>,
) -> T {
    let mut call = pin!(call);
    poll_fn(move |context| {
        let _before = Before(IS_TO_END.replace(Some(Rc::new(is_to_end.clone()))));
        call.as_mut().poll(context)
    })
    .await
}

/// Whether the call of the transport in which this runs is to begin no more events: half of its time is over, or its relay is to
/// stop. Where no relay has made the call, it has all the time that there is.
///
/// A call that is given up at its end has failed with all of its events, those among them that were accepted; and of one that is
/// cut off at the end of the relay nobody knows which were. So a transport that publishes one event after the other stops in time,
/// and reports the rest as [`NotAttempted`](crate::PublishErrorKind::NotAttempted): it comes again at once, and costs no
/// attempt. The first event of a call is to be begun in any case. [`publish_in_order`](crate::publish_in_order) does so, and so does
/// [`Transport::publish_all`](crate::Transport::publish_all) by default.
///
/// A task that the call spawns does not know of it.
#[must_use]
pub fn is_call_to_end() -> bool {
    let is_to_end = IS_TO_END.with_borrow(Clone::clone);
    is_to_end.is_some_and(|is_to_end| is_to_end())
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_call_knows_its_own_limit_and_nobody_else_does() {
        let mut context = Context::from_waker(Waker::noop());
        let mut outer = pin!(limit_call(|| true, async {
            let inner = limit_call(|| false, async { is_call_to_end() }).await;
            (inner, is_call_to_end())
        }));
        assert_eq!(outer.as_mut().poll(&mut context), Poll::Ready((false, true)));
        assert!(!is_call_to_end());
        let mut panics = pin!(limit_call(|| true, async { panic!("no") }));
        let polled = catch_unwind(AssertUnwindSafe(|| -> Poll<()> { panics.as_mut().poll(&mut context) }));
        assert!(polled.is_err() && !is_call_to_end());
    }
}

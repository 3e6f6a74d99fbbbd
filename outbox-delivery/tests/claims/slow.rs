//! Handlers that take their time: the events of a batch together longer than a call may take.
#![cfg(feature = "in-process")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use outbox_delivery::{Relay, transport::InProcess};
use outbox_traits::{Event, OutboxStore, PublishError};
use tokio::time::{Instant, sleep};

use crate::{
    MILLISECOND, MINUTE, SECOND, one_a_key,
    support::{event, remote::Remote, start_on_claims},
};

type Handled = Arc<Mutex<Vec<String>>>;

/// Handlers that take 400 ms for an event, and the types of those that they are done with.
fn slow() -> (InProcess, Handled) {
    let handled = Handled::default();
    let handler = {
        let handled = Arc::clone(&handled);
        move |event: Arc<Event>| {
            let handled = Arc::clone(&handled);
            async move {
                sleep(400 * MILLISECOND).await;
                handled.lock().unwrap().push(event.event_type().to_owned());
                Ok::<_, PublishError>(())
            }
        }
    };
    (InProcess::new().subscribe("*", handler), handled)
}

/// A hundred in their order, on so many keys.
fn hundred(keys: usize) -> Vec<Event> {
    (0..100).map(|n| event(&format!("e{n}"), &(n % keys).to_string())).collect()
}

fn assert_in_order_and_once(events: &[Event], handled: &Handled) {
    let handled = handled.lock().unwrap();
    assert_eq!(handled.len(), events.len(), "{handled:?}");
    let place: HashMap<_, _> =
        handled.iter().enumerate().map(|(place, kind)| (kind.as_str(), place)).collect();
    assert_eq!(place.len(), events.len(), "{handled:?}");
    for (n, first) in events.iter().enumerate() {
        let next = events[n + 1..].iter().find(|next| next.partition_key() == first.partition_key());
        assert!(next.is_none_or(|next| place[first.event_type()] < place[next.event_type()]), "{handled:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_longer_than_a_call_may_is_handled_once_each() {
    for keys in [1, 7, 100] {
        let events = hundred(keys);
        let store = Remote::with(&events).await;
        let (transport, handled) = slow();
        let relay = start_on_claims(Relay::new(store.clone(), transport));
        let begun = Instant::now();
        while store.counts().await.delivered < 100 {
            sleep(100 * MILLISECOND).await;
        }
        // One after the other, and with no pause in between.
        assert!(begun.elapsed() < 41 * SECOND, "{:?}", begun.elapsed());
        sleep(MINUTE).await;
        let report = relay.stop().await;
        assert_eq!((report.published, report.failed, report.last_error), (100, 0, None));
        assert_in_order_and_once(&events, &handled);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_left_for_the_next_call_has_cost_no_attempt() {
    let store = Remote::with(&hundred(7)).await;
    let relay = start_on_claims(Relay::new(store.clone(), slow().0).with_concurrency(1));
    // The first call has ended at half of the time.
    sleep(15_500 * MILLISECOND).await;
    let stopped = relay.stop().await;
    assert!((30..=40).contains(&stopped.published), "{stopped}");
    assert!(
        stopped.published + stopped.released > 100,
        "left for the next call, and again at the end: {stopped}"
    );
    let histories = store.histories().await;
    assert_eq!(histories.len() as u64, 100 - stopped.published);
    assert!(histories.iter().all(|(_, attempts, failures)| (*attempts, *failures) == (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn publish_pending_handles_all_of_such_a_batch_once() {
    let events = hundred(3);
    for is_single in [false, true] {
        let store = Remote::with(&events).await;
        let (transport, handled) = slow();
        let report = if is_single {
            Relay::single_worker(store.clone(), transport).publish_pending().await.unwrap()
        } else {
            Relay::new(store.clone(), transport).publish_pending().await.unwrap()
        };
        assert_eq!((report.published, report.failed, report.last_error), (100, 0, None));
        assert_in_order_and_once(&events, &handled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_does_not_wait_before_it_goes_on_with_such_a_batch() {
    let events = hundred(7);
    let store = Remote::with(&events).await;
    let (transport, handled) = slow();
    let relay = crate::support::start(Relay::single_worker(store.clone(), transport));
    sleep(41 * SECOND).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.failed, report.last_error), (100, 0, None));
    assert_in_order_and_once(&events, &handled);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_more_than_half_of_the_time_has_one_event_after_the_other() {
    let events = one_a_key(3);
    let store = Remote::new();
    store.save_all(&events).await.unwrap();
    let transport = InProcess::new().subscribe("*", |_| async {
        sleep(20 * SECOND).await;
        Ok::<_, PublishError>(())
    });
    let relay = start_on_claims(Relay::new(store.clone(), transport));
    sleep(61 * SECOND).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.failed), (3, 0));
}

/// A grace period that is enough for an event and not for its batch.
#[tokio::test(start_paused = true)]
async fn a_relay_that_is_stopped_finishes_what_has_begun_and_leaves_the_rest_of_the_batch() {
    for keys in [1, 7, 100] {
        let events = hundred(keys);
        let store = Remote::with(&events).await;
        let (transport, handled) = slow();
        let relay = start_on_claims(Relay::new(store.clone(), transport).with_grace_period(2 * SECOND));
        sleep(3 * SECOND).await;
        let stopped = Instant::now();
        let report = relay.stop().await;
        assert!(stopped.elapsed() < SECOND, "{:?}", stopped.elapsed());
        assert_eq!((report.published, report.failed, report.last_error), (8, 0, None));
        assert_eq!(handled.lock().unwrap().len(), 8, "handled, and handed out again");
        assert!(
            store.histories().await.iter().all(|(_, attempts, failures)| (*attempts, *failures) == (0, 0))
        );

        let (transport, again) = slow();
        let relay = start_on_claims(Relay::new(store.clone(), transport));
        while store.counts().await.delivered < 100 {
            sleep(100 * MILLISECOND).await;
        }
        relay.stop().await;
        handled.lock().unwrap().append(&mut again.lock().unwrap());
        assert_in_order_and_once(&events, &handled);
    }
}

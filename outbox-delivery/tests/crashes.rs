//! Relays on claims that crash anywhere, in simulated time and under a seeded schedule.
//!
//! A crash is the end of the future at one of its polls, and so at any point at which it waits. What is checked: every
//! event is accepted at least once, in the order of its key, and none is settled as delivered that was not accepted.

mod support;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use outbox_delivery::{CancellationToken, Decision, Failed, Relay};
use outbox_traits::{ErrorKind, Event, PublishErrorKind};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::support::{
    consumer::{Consumer, Ending},
    event,
    remote::{Fate, Remote},
};

const SECOND: Duration = Duration::from_secs(1);

/// Some with keys, which several share, and some without.
fn events(count: usize) -> Vec<Event> {
    (0..count)
        .map(|n| match n % 5 {
            4 => Event::new("free", serde_json::json!({})).unwrap(),
            key => event(&format!("e{n}"), &key.to_string()),
        })
        .collect()
}

fn relay(store: &Remote, consumer: &Consumer) -> Relay {
    let is_requeued = store.is_requeued_now_and_then();
    Relay::new(store.clone(), consumer.clone())
        .with_batch_size(fastrand::usize(1..6))
        .with_concurrency(fastrand::usize(1..4))
        .with_lease(SECOND * fastrand::u32(1..4))
        .with_publish_timeout(SECOND * fastrand::u32(1..5))
        .with_retry_policy(move |failed: &Failed<'_>| match failed.error.kind() {
            PublishErrorKind::Rejected if is_requeued => Decision::HoldKey,
            _ => Decision::Retry { after: SECOND * fastrand::u32(..100) / 100 },
        })
        .with_max_crashes(u32::MAX)
}

/// Runs until its poll of this number, and crashes; true if it did.
async fn run_until_poll(relay: Relay, polls: usize) {
    let mut left = polls;
    let mut running = pin!(relay.run(CancellationToken::new()));
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        running.as_mut().poll(context).map(|result| drop(result.unwrap()))
    })
    .await;
}

/// Two relays at a time, each of which crashes at one of its first polls and is followed by another, and in the end
/// two that go on until everything is delivered.
async fn crash_and_recover(store: &Remote, consumer: &Consumer, crashes: &[usize], all: usize) {
    let mut running = JoinSet::new();
    let mut crashes = crashes.iter().copied();
    for _ in 0..2 {
        running.spawn(run_until_poll(relay(store, consumer), crashes.next().unwrap_or(usize::MAX)));
    }
    let started = Instant::now();
    while store.counts().await.delivered < all as u64 {
        assert!(started.elapsed() < 3600 * SECOND, "not delivered: {:?}", store.counts().await);
        tokio::select! {
            Some(ended) = running.join_next() => {
                ended.unwrap();
                let polls = crashes.next().unwrap_or(usize::MAX);
                running.spawn(run_until_poll(relay(store, consumer), polls));
            }
            () = sleep(SECOND / 10) => store.requeue_one().await,
        }
    }
}

fn check(store: &Remote, consumer: &Consumer, events: &[Event], what: &str) {
    assert_eq!(consumer.faults(), Vec::<String>::new(), "{what}");
    let accepted = consumer.accepted();
    assert!(store.delivered().is_subset(&accepted), "{what}");
    assert!(events.iter().all(|event| accepted.contains(&event.id())), "{what}");
}

/// The whole of a case, on a runtime of its own: nothing of it depends on anything but the seed.
fn case(seed: u64, crashes: &[usize], prepare: impl FnOnce(&Remote, &Consumer)) {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let events = events(12);
        let store = Remote::with(&events).await.with_turns(2);
        let consumer = Consumer::of(&events).with_turns(2);
        prepare(&store, &consumer);
        crash_and_recover(&store, &consumer, crashes, events.len()).await;
        check(&store, &consumer, &events, &format!("seed {seed}, crashes at {crashes:?}"));
    });
}

#[test]
fn a_crash_at_any_poll_loses_nothing_and_keeps_the_order() {
    for seed in 0..3 {
        for poll in 1..250 {
            case(seed, &[poll], |_, _| {});
        }
    }
}

#[test]
fn crashes_of_several_relays_lose_nothing_and_keep_the_order() {
    for seed in 1000..2000 {
        fastrand::seed(seed);
        let crashes: Vec<_> = (0..6).map(|_| fastrand::usize(1..120)).collect();
        case(seed, &crashes, |_, _| {});
    }
}

/// Whatever is set aside is requeued by somebody, one at a time: so all is delivered in the end, in order.
#[test]
fn crashes_with_dead_letters_that_hold_their_keys_keep_the_order() {
    for seed in 9000..9600 {
        fastrand::seed(seed);
        let crashes: Vec<_> = (0..6).map(|_| fastrand::usize(1..200)).collect();
        case(seed, &crashes, |store, consumer| {
            store.requeue_now_and_then();
            store.decide(|_| match fastrand::u8(..24) {
                0 => Fate::Fails(ErrorKind::Unavailable),
                1 => Fate::AnswerIsLost,
                _ => Fate::Works,
            });
            consumer.decide(|_| match fastrand::u8(..12) {
                0 => Ending::Failed,
                1 => Ending::Rejected,
                2 => Ending::AnswerIsLost,
                _ => Ending::Accepted,
            });
        });
    }
}

#[test]
fn crashes_while_store_and_transport_fail_too_lose_nothing_and_keep_the_order() {
    for seed in 5000..6000 {
        fastrand::seed(seed);
        let crashes: Vec<_> = (0..6).map(|_| fastrand::usize(1..200)).collect();
        case(seed, &crashes, |store, consumer| {
            store.decide(|_| match fastrand::u8(..24) {
                0 => Fate::Fails(ErrorKind::Unavailable),
                1 => Fate::Fails(ErrorKind::Conflict),
                2 => Fate::AnswerIsLost,
                3 => Fate::Takes(SECOND * fastrand::u32(..4)),
                4 if fastrand::bool() => Fate::Hangs,
                _ => Fate::Works,
            });
            consumer.decide(|_| match fastrand::u8(..24) {
                0 => Ending::Failed,
                1 => Ending::Rejected,
                2 => Ending::Unavailable,
                3 => Ending::Takes(SECOND * fastrand::u32(..6)),
                4 => Ending::AnswerIsLost,
                5 if fastrand::bool() => Ending::Hangs,
                _ => Ending::Accepted,
            });
        });
    }
}

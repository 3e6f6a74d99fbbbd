//! What others wrote panics, and the relay goes on.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::Duration,
};

use outbox_delivery::{Decision, Failed, Relay, Report};
use outbox_traits::{
    Error, ErrorKind, Event, OutboxStore, PublishError, Published, Result, Transport, Wakeups, async_trait,
};
use tokio::time::sleep;

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{
        Scripted, event,
        remote::{Call, Explosive, Fate, Remote, Treacherous, Unspeakable},
        start_on_claims as start,
    },
    wake::is_asked_ever_less_often,
};

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_leaves_the_decision_to_the_default_one() {
    let events = [event("bad", "1"), event("never", "2"), event("good", "3")];
    let store = Remote::with(&events).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "good" => Ok(()),
        "never" => Err(PublishError::rejected("never")),
        _ => Err(PublishError::failed("no")),
    });
    let relay = Relay::new(store.clone(), transport.clone())
        .with_retry_policy(|_: &Failed<'_>| -> Decision { panic!("told to panic") });
    let relay = start(relay);
    sleep(24 * 60 * MINUTE).await;
    let report = relay.stop().await;
    assert_eq!((report.published, report.failed, report.dead_lettered), (1, 21, 2));
    let dead = store.dead().await;
    let of = |kind: &str| dead.iter().find(|letter| letter.event_type == kind).unwrap();
    assert_eq!(of("never").reason, "never; and the retry policy panicked: told to panic");
    assert_eq!(of("bad").failures, 20);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_an_error_that_is_survived() {
    let store = Remote::with(&one_a_key(20)).await;
    let mut calls = 0;
    store.decide(move |_| {
        calls += 1;
        if calls % 2 == 0 { Fate::Panics } else { Fate::Works }
    });
    let relay = Relay::new(store.clone(), Scripted::accepting())
        .with_batch_size(2)
        .with_stats(store.clone())
        .with_purge(60 * MINUTE);
    let relay = start(relay);
    sleep(30 * MINUTE).await;
    let report = relay.stop().await;
    assert!(report.store_errors > 5, "{report}");
    assert_eq!(store.counts().await.delivered, 20);
}

/// It panics at each wait.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl Wakeups for Panicking {
    async fn wait(&mut self) {
        panic!("told to panic")
    }
}

#[tokio::test(start_paused = true)]
async fn wakeups_that_panic_are_begun_anew_and_ever_less_often() {
    let store = is_asked_ever_less_often(|before| {
        assert!(before.is_multiple_of(2), "told to panic");
        Ok(Box::new(Panicking))
    });
    assert!(store.await.count(Call::Claim) < 1000);
}

/// It never answers, and whoever gives it up meets a panic.
#[derive(Debug)]
struct Unending;

#[async_trait]
impl Transport for Unending {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        if event.event_type() == "bad" {
            let _explosive = Explosive;
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_where_it_is_given_up_does_not_end_the_relay() {
    let store = Remote::with(&[event("bad", "1")]).await;
    let relay = start(Relay::new(store.clone(), Unending));
    sleep(5 * MINUTE).await;
    store.save(&event("good", "2")).await.unwrap();
    sleep(5 * MINUTE).await;
    // The bad one is given up at the end of the grace period, too.
    let report = relay.stop().await;
    assert_eq!(report.published, 1, "{report}");
    assert!(report.failed > 3, "{report}");
    let store = Remote::with(&[event("bad", "1")]).await;
    let single = crate::support::start(Relay::single_worker(store, Unending));
    sleep(MINUTE).await;
    assert!(single.stop().await.failed > 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_text_panics_keeps_its_kind() {
    let store = Remote::with(&[event("bad", "1"), event("good", "2")]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::rejected("never").with_source(Unspeakable)),
        _ => Ok(()),
    });
    let report = Relay::new(store.clone(), transport).publish_pending().await.unwrap();
    assert_eq!((report.published, report.dead_lettered), (1, 1));
    let reason = &store.dead().await[0].reason;
    assert_eq!(reason, "the transport failed, and the text of its error panicked: told to panic");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_store_whose_text_panics_is_survived() {
    let report = survives_errors_of_the_store(Fate::FailsWithoutText, || {
        Err(Error::new(ErrorKind::Unavailable, "told to fail").with_source(Unspeakable))
    });
    assert_eq!(report.await.store_errors, 4);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_store_that_panics_where_it_is_dropped_is_survived() {
    let report = survives_errors_of_the_store(Fate::FailsTreacherously, || {
        Err(Treacherous::of_kind(ErrorKind::Unavailable))
    });
    assert_eq!(report.await.store_errors, 4);
}

/// A relay goes on after one of its calls of each kind has come to this, and each of its tries to listen to that.
async fn survives_errors_of_the_store(
    fate: Fate,
    wakes: impl FnMut() -> Result<Box<dyn Wakeups>> + Send + 'static,
) -> Report {
    let store = Remote::with(&one_a_key(3)).await;
    let mut failed = HashSet::new();
    store.decide(move |call| if failed.insert(call) { fate } else { Fate::Works });
    store.wake_by(wakes);
    let relay = Relay::new(store.clone(), Scripted::accepting())
        .with_wakeups(store.clone())
        .with_stats(store.clone())
        .with_purge(Duration::from_hours(1));
    let relay = start(relay);
    sleep(200 * SECOND).await;
    let report = relay.stop().await;
    assert_eq!((report.published, store.counts().await.delivered), (3, 3));
    report
}

#[tokio::test(start_paused = true)]
async fn of_single_leases_too_such_an_error_is_survived() {
    for kind in [ErrorKind::LeaseLost, ErrorKind::Unavailable] {
        let store = Remote::with(&one_a_key(3)).await;
        // Two of a call, so that one of them has to make way for the other.
        let mut refused = HashMap::new();
        store.refuse(move |call, _| {
            let count = refused.entry(call).or_insert(0);
            *count += 1;
            if *count <= 2 { Err(Treacherous::of_kind(kind)) } else { Ok(()) }
        });
        let relay = Relay::new(store.clone(), Scripted::accepting().with_delay(8 * SECOND));
        let relay = start(relay.with_lease(10 * SECOND));
        sleep(5 * MINUTE).await;
        relay.stop().await;
        assert_eq!(store.counts().await.delivered, 3, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn such_an_error_ends_publish_pending_and_the_later_ones_do_no_more() {
    let store = Remote::with(&one_a_key(3)).await;
    store.decide(|call| if call == Call::Settle { Fate::FailsTreacherously } else { Fate::Works });
    let error = Relay::new(store.clone(), Scripted::accepting()).publish_pending().await.unwrap_err();
    assert_eq!(error.to_string(), "told to fail: treacherous");
    assert!(store.count(Call::Settle) > 1);
    mem::forget(error);
}

#[cfg(feature = "metrics")]
mod recorder {
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    #[derive(Debug)]
    struct Panicking;

    impl Recorder for Panicking {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            panic!("told to panic")
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            panic!("told to panic")
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            panic!("told to panic")
        }
    }

    #[test]
    fn a_recorder_of_metrics_that_panics_costs_no_event() {
        use super::{Relay, Remote, SECOND, Scripted, one_a_key, sleep, start};

        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        metrics::with_local_recorder(&Panicking, || {
            runtime.block_on(async {
                let store = Remote::with(&one_a_key(3)).await;
                let relay = Relay::new(store.clone(), Scripted::accepting()).with_stats(store.clone());
                let relay = start(relay);
                sleep(SECOND).await;
                assert_eq!((relay.stop().await.published, store.counts().await.delivered), (3, 3));
            });
        });
    }
}

/// What a panic says may panic, too, where it is dropped.
#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_does_not_end_the_relay() {
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => std::panic::panic_any(Explosive),
        _ => Ok(()),
    });
    survives(transport).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_later_does_not_end_the_relay() {
    for make in [PublishError::failed, PublishError::rejected, PublishError::unavailable] {
        let transport = Scripted::batches(move |events: &[Event]| {
            let failed = |event: &Event| {
                let error = make("no".to_owned()).with_source(Treacherous::default());
                Published { id: event.id(), result: Err(error) }
            };
            let result = |event: &Event| match event.event_type() {
                "bad" => failed(event),
                _ => Published { id: event.id(), result: Ok(()) },
            };
            // Twice of the same, and one of a stranger.
            let more = events.iter().filter(|event| event.event_type() == "bad").map(failed);
            let stranger = Some(failed(&event("stranger", "0")));
            events.iter().map(result).chain(more).chain(stranger).collect()
        });
        survives(transport).await;
    }
}

/// Both relays go on after what the transport does with the event `bad`.
async fn survives(transport: Scripted) {
    for is_single in [false, true] {
        let store = Remote::with(&[event("bad", "1"), event("good", "2")]).await;
        let relay = if is_single {
            crate::support::start(Relay::single_worker(store.clone(), transport.clone()))
        } else {
            start(Relay::new(store.clone(), transport.clone()))
        };
        sleep(MINUTE).await;
        store.save(&event("later", "3")).await.unwrap();
        sleep(MINUTE).await;
        let report = relay.stop().await;
        assert_eq!((report.published, store.counts().await.delivered), (2, 2), "single: {is_single}");
    }
}

/// It panics at each wait, and where it is dropped.
#[derive(Debug)]
struct Cursed(Explosive);

#[async_trait]
impl Wakeups for Cursed {
    async fn wait(&mut self) {
        std::panic::panic_any(Explosive);
    }
}

#[tokio::test(start_paused = true)]
async fn wakeups_that_panic_where_they_are_dropped_do_not_end_the_relay() {
    let store = is_asked_ever_less_often(|_| Ok(Box::new(Cursed(Explosive))));
    assert!(store.await.count(Call::Claim) < 1000);
}

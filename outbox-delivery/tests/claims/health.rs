//! Whether it says that it makes progress.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_delivery::{Decision, Failed, Health, Relay, Unhealthy};
use outbox_traits::{Claim, ClaimStore, ErrorKind, OutboxStore, PublishError, Settlement};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    MINUTE, SECOND, one_a_key,
    support::{
        Flaky, Scripted,
        consumer::{Consumer, Ending},
        event,
        remote::{Call, Fate, Remote},
        start as start_single, start_on_claims as start,
    },
};

#[tokio::test(start_paused = true)]
async fn it_is_healthy_while_it_runs_and_not_before_nor_after() {
    let store = Remote::with(&one_a_key(3)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let health = relay.health();
    assert_eq!(health.check(), Err(Unhealthy::NotRunning));
    let relay = start(relay.with_stats(store.clone()));
    for _ in 0..100 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    relay.stop().await;
    assert!(!health.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_the_store_is_silent_and_healthy_again_when_it_is_back() {
    let store = Remote::new();
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let health = relay.health();
    let relay = start(relay);
    for fate in [Fate::Hangs, Fate::Fails(ErrorKind::Unavailable)] {
        store.decide(move |_| fate);
        sleep(4 * MINUTE).await;
        assert!(health.is_healthy());
        sleep(2 * MINUTE).await;
        assert!(matches!(health.check(), Err(Unhealthy::NoAnswer(_))));
        store.decide(|_| Fate::Works);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_stays_behind_while_the_store_does_not_say_how_much_it_holds() {
    let store = Remote::with(&one_a_key(1)).await;
    let transport = Scripted::accepting().with_delay(60 * MINUTE);
    let relay = Relay::new(store.clone(), transport).with_publish_timeout(120 * MINUTE);
    let relay = relay.with_stats(store.clone()).with_health_limit(5 * MINUTE);
    let (health, relay) = (relay.health(), start(relay));
    sleep(6 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::Behind(_))), "{:?}", health.check());
    store.decide(|call| if call == Call::Stats { Fate::Fails(ErrorKind::Unavailable) } else { Fate::Works });
    sleep(4 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::Behind(_))), "{:?}", health.check());
    // What it said so long ago says nothing of now.
    sleep(2 * MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    relay.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_failed_before_a_pause_is_not_blamed_for_what_it_is_not_asked_in_it() {
    let store = Remote::with(&one_a_key(4)).await;
    let mut claims = 0;
    store.decide(move |call| {
        claims += usize::from(call == Call::Claim);
        if call == Call::Claim && claims > 1 { Fate::Fails(ErrorKind::Unavailable) } else { Fate::Works }
    });
    let transport = Scripted::events(|_| Err(PublishError::unavailable("down").with_retry_after(5 * MINUTE)));
    let relay = Relay::new(store.clone(), transport.with_delay(SECOND)).with_batch_size(2);
    let relay = relay.with_health_limit(MINUTE);
    let (health, relay) = (relay.health(), start(relay));
    sleep(2 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::NothingAccepted(_))), "{:?}", health.check());
    // From then on it is asked again.
    sleep(5 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::NoAnswer(_))), "{:?}", health.check());
    relay.kill().await;
}

/// However much time there is between one try and the next.
#[tokio::test(start_paused = true)]
async fn it_stays_unhealthy_between_the_tries_of_what_always_fails() {
    for (after, limit) in [(20, 1), (60, 5), (600, 300)] {
        for hangs in [false, true] {
            let store = Remote::with(&one_a_key(1)).await;
            let delay = if hangs { 60 * MINUTE } else { Duration::ZERO };
            let transport = Scripted::events(|_| Err(PublishError::failed("no"))).with_delay(delay);
            let relay = Relay::new(store.clone(), transport).with_health_limit(limit * SECOND);
            let relay =
                relay.with_retry_policy(move |_: &Failed<'_>| Decision::Retry { after: after * SECOND });
            let (health, relay) = (relay.health(), start(relay));
            // From the second failure on.
            sleep((after + 70) * SECOND).await;
            for _ in 0..200 {
                sleep(after * SECOND / 20).await;
                assert!(
                    matches!(health.check(), Err(Unhealthy::NothingAccepted(_))),
                    "{after} s, {limit} s, {hangs}"
                );
            }
            relay.kill().await;
        }
    }
}

/// What one of them waits for says nothing of others.
#[tokio::test(start_paused = true)]
async fn two_events_that_fail_long_after_one_another_are_no_series() {
    let store = Remote::with(&[event("waits", "1")]).await;
    let transport = Scripted::events(|event| match event.event_type() {
        "waits" => Err(PublishError::failed("no").with_retry_after(1440 * MINUTE)),
        _ => Err(PublishError::rejected("never")),
    });
    let relay = Relay::new(store.clone(), transport);
    let (health, relay) = (relay.health(), start(relay));
    sleep(6 * MINUTE).await;
    store.save(&event("bad", "2")).await.unwrap();
    for _ in 0..60 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    assert_eq!(relay.stop().await.dead_lettered, 1);
}

/// As it is for a policy that never gives up.
#[tokio::test(start_paused = true)]
async fn a_retry_that_never_comes_is_survived() {
    let store = Remote::with(&one_a_key(1)).await;
    let transport = Scripted::events(|_| Err(PublishError::failed("no")));
    let relay = Relay::new(store.clone(), transport);
    let relay = relay.with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: Duration::MAX });
    let (health, relay) = (relay.health(), start(relay));
    sleep(MINUTE).await;
    assert!(health.is_healthy());
    assert_eq!(relay.stop().await.failed, 1);
}

/// However short the limit is.
#[tokio::test(start_paused = true)]
async fn it_is_behind_soon_after_the_limit() {
    let store = Remote::with(&one_a_key(1)).await;
    let relay = Relay::new(store.clone(), Scripted::accepting().with_delay(60 * MINUTE));
    let relay =
        relay.with_publish_timeout(120 * MINUTE).with_stats(store.clone()).with_health_limit(3 * SECOND);
    let (health, relay) = (relay.health(), start(relay));
    sleep(2 * SECOND).await;
    assert!(health.is_healthy());
    sleep(3 * SECOND).await;
    assert!(matches!(health.check(), Err(Unhealthy::Behind(_))), "{:?}", health.check());
    relay.kill().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_nothing_is_accepted_and_healthy_again_when_something_is() {
    let events = one_a_key(3);
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    for ending in [Ending::Failed, Ending::Unavailable, Ending::Panics] {
        consumer.decide(move |_| ending);
        let relay = Relay::new(store.clone(), consumer.clone()).with_health_limit(2 * MINUTE);
        let relay = relay.with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 20 * SECOND });
        let health = relay.health();
        let relay = start(relay);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
        sleep(2 * MINUTE).await;
        assert!(matches!(health.check(), Err(Unhealthy::NothingAccepted(_))), "{ending:?}");
        consumer.decide(|_| Ending::Accepted);
        sleep(MINUTE).await;
        assert!(health.is_healthy());
        relay.stop().await;
        store.save_all(&one_a_key(3)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_when_it_works_and_falls_behind() {
    let store = Remote::new();
    let transport = Scripted::accepting().with_delay(SECOND);
    let relay = Relay::new(store.clone(), transport).with_batch_size(1).with_concurrency(1);
    let relay = relay.with_stats(store.clone()).with_health_limit(MINUTE);
    let health = relay.health();
    let relay = start(relay);
    // Two a second come, and one goes.
    for _ in 0..150 {
        store.save_all(&[event("a", "1"), event("b", "2")]).await.unwrap();
        sleep(SECOND).await;
    }
    let reason = health.check().unwrap_err();
    assert!(matches!(reason, Unhealthy::Behind(age) if age > MINUTE), "{reason}");
    sleep(Duration::from_secs(200)).await;
    assert_eq!((health.check(), store.counts().await.delivered), (Ok(()), 300));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_hidden_or_waits_for_a_retry_is_not_late() {
    let store = Remote::new();
    let transport = Scripted::events(|event| match event.event_type() {
        "bad" => Err(PublishError::failed("no")),
        _ => Ok(()),
    });
    let relay = Relay::new(store.clone(), transport)
        .with_stats(store.clone())
        .with_health_limit(2 * MINUTE)
        .with_retry_policy(|_: &Failed<'_>| Decision::Retry { after: 30 * MINUTE });
    let health = relay.health();
    let hidden = event("hidden", "1").with_not_before(store.now() + TimeDelta::hours(1));
    store.save_all(&[hidden, event("bad", "2"), event("behind", "2")]).await.unwrap();
    let relay = start(relay);
    for _ in 0..100 {
        // With work, too.
        store.save(&event("good", "3")).await.unwrap();
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    assert_eq!(relay.stop().await.published, 101);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_and_never_handed_out_is_late_although_the_relay_has_no_work() {
    let store = Remote::new();
    let relay = Relay::new(store.clone(), Scripted::accepting());
    let relay = relay.with_stats(store.clone()).with_health_limit(2 * MINUTE);
    let health = relay.health();
    let relay = start(relay);
    store.save(&event("a", "1")).await.unwrap();
    // Another worker has it, and does not come to an end with it.
    let lease = store.inner.claim(&Claim::new("other").with_lease(60 * MINUTE)).await.unwrap()[0].lease;
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    sleep(2 * MINUTE).await;
    assert!(matches!(health.check(), Err(Unhealthy::Behind(_))), "{:?}", health.check());
    store.inner.settle(&[Settlement::released(lease)]).await.unwrap();
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    // What nobody can say any more is not held against it.
    store.decide(|call| if call == Call::Stats { Fate::Hangs } else { Fate::Works });
    sleep(10 * MINUTE).await;
    assert_eq!((health.check(), relay.stop().await.published), (Ok(()), 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_long_ago_that_was_set_aside_is_not_held_against_it() {
    let store = Remote::with(&[event("bad", "1")]).await;
    let transport = Scripted::events(|_| Err(PublishError::rejected("never")));
    let relay = Relay::new(store.clone(), transport).with_health_limit(MINUTE);
    let health = relay.health();
    let relay = start(relay);
    sleep(10 * MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    store.save(&event("bad", "2")).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((store.dead().await.len(), health.check()), (2, Ok(())));
    // Where one follows the other, nothing is accepted.
    for n in 0..10 {
        sleep(10 * SECOND).await;
        store.save(&event("bad", &n.to_string())).await.unwrap();
    }
    assert!(matches!(health.check(), Err(Unhealthy::NothingAccepted(age)) if age < 2 * MINUTE));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failures_with_long_waits_between_them_are_one_series_as_long_as_they_are_tried_again() {
    for is_single in [false, true] {
        let store = Remote::with(&[event("bad", "1")]).await;
        let transport = Scripted::events(|_| Err(PublishError::failed("no").with_retry_after(5 * MINUTE)));
        let (health, running) = if is_single {
            let relay = Relay::single_worker(store.clone(), transport).with_health_limit(MINUTE);
            (relay.health(), start_single(relay))
        } else {
            let relay = Relay::new(store.clone(), transport).with_health_limit(MINUTE);
            (relay.health(), start(relay))
        };
        sleep(5 * MINUTE + 10 * SECOND).await;
        let age = 5 * MINUTE;
        assert!(
            matches!(health.check(), Err(Unhealthy::NothingAccepted(since)) if since >= age),
            "{:?}",
            health.check()
        );
        running.stop().await;
    }
}

async fn assert_silent_from_the_second_minute_on(health: &Health, fate: Fate) {
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()), "{fate:?}");
    for _ in 0..20 {
        sleep(MINUTE + SECOND).await;
        assert!(matches!(health.check(), Err(Unhealthy::NoAnswer(_))), "{fate:?}: {:?}", health.check());
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_where_nothing_can_be_settled_though_all_else_is_answered() {
    for fate in [Fate::Hangs, Fate::Fails(ErrorKind::Unavailable)] {
        let store = Remote::with(&one_a_key(1000)).await;
        store.decide(move |call| if call == Call::Settle { fate } else { Fate::Works });
        let relay = Relay::new(store.clone(), Scripted::accepting()).with_health_limit(2 * MINUTE);
        let (health, running) = (relay.health(), start(relay));
        assert_silent_from_the_second_minute_on(&health, fate).await;
        store.decide(|_| Fate::Works);
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()), "{fate:?}");
        running.stop().await;
    }
}

/// Beside a run that has nothing to do, another one ends while it waits for an answer to what it has settled.
#[tokio::test(start_paused = true)]
async fn what_a_run_waited_for_when_it_ended_is_not_held_against_another() {
    let store = Remote::new();
    store.decide(|call| if call == Call::Settle { Fate::Hangs } else { Fate::Works });
    let relay = Arc::new(Relay::new(store.clone(), Scripted::accepting()).with_health_limit(2 * MINUTE));
    let (health, shutdown) = (relay.health(), CancellationToken::new());
    let (there, token) = (Arc::clone(&relay), shutdown.clone());
    let idle = tokio::spawn(async move { there.run(token).await });
    sleep(MINUTE).await;
    let event = event("happened", "");
    store.save(&event).await.unwrap();
    timeout(SECOND, relay.publish_pending()).await.unwrap_err();
    assert!(!store.times(Call::Settle).is_empty(), "it was waiting for that");
    // So that nothing is left to be settled.
    store.acknowledge(event.id()).await.unwrap();
    store.decide(|_| Fate::Works);
    for _ in 0..20 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    shutdown.cancel();
    idle.await.unwrap().unwrap();
}

/// Of a relay whose publishes take so long and are cut off, as no renewal takes: after so long it is told for the first time,
/// so often after that, and no more when renewals take again.
async fn assert_cut_off(
    relay: fn(Relay) -> Relay,
    takes: Duration,
    first: Duration,
    times: u32,
    rest: Duration,
) {
    let store = Remote::with(&one_a_key(3)).await;
    store.decide(|call| match call {
        Call::Renew => Fate::Fails(ErrorKind::Unavailable),
        _ => Fate::Works,
    });
    let relay = relay(Relay::new(store.clone(), Scripted::accepting().with_delay(takes)));
    let (health, running) = (relay.health(), start(relay));
    sleep(first).await;
    assert_eq!(health.check(), Ok(()));
    for _ in 0..times {
        sleep(2 * MINUTE).await;
        assert!(matches!(health.check(), Err(Unhealthy::NothingAccepted(_))), "{:?}", health.check());
    }
    store.decide(|_| Fate::Works);
    sleep(rest).await;
    assert_eq!((health.check(), running.stop().await.published), (Ok(()), 3));
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_where_each_publish_is_cut_off_because_no_lease_can_be_renewed() {
    let short = |relay: Relay| relay.with_publish_timeout(10 * MINUTE).with_health_limit(2 * MINUTE);
    assert_cut_off(short, MINUTE, MINUTE, 20, 3 * MINUTE).await;
}

/// So that a limit goes by between two of them; and one that was cut off says nothing of the next one.
#[tokio::test(start_paused = true)]
async fn so_it_is_where_leases_are_longer_than_the_limit() {
    let long = |relay: Relay| relay.with_publish_timeout(60 * MINUTE).with_lease(10 * MINUTE);
    assert_cut_off(long, 30 * MINUTE, 17 * MINUTE, 60, 50 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_was_cut_off_once_is_not_held_against_one_that_has_nothing_more_to_do() {
    let events = one_a_key(1);
    let store = Remote::with(&events).await;
    store.fail_each_renewal(ErrorKind::Unavailable);
    let transport = Scripted::accepting().with_delay(30 * MINUTE);
    let relay = Relay::new(store.clone(), transport).with_publish_timeout(60 * MINUTE);
    let relay = relay.with_lease(10 * MINUTE);
    let (health, running) = (relay.health(), start(relay));
    sleep(8 * MINUTE).await;
    // Somebody else takes care of it.
    store.acknowledge(events[0].id()).await.unwrap();
    for _ in 0..30 {
        sleep(MINUTE).await;
        assert_eq!(health.check(), Ok(()));
    }
    assert_eq!(running.stop().await.lost_leases, 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_unhealthy_where_no_claim_is_answered_though_leases_are_renewed() {
    for fate in [Fate::Hangs, Fate::Fails(ErrorKind::Unavailable)] {
        let store = Remote::with(&one_a_key(1)).await;
        let mut claims = 0;
        store.decide(move |call| {
            claims += usize::from(call == Call::Claim);
            if call == Call::Claim && claims > 1 { fate } else { Fate::Works }
        });
        let relay = Relay::new(store.clone(), Scripted::accepting().with_delay(60 * MINUTE));
        let relay = relay.with_publish_timeout(120 * MINUTE).with_health_limit(2 * MINUTE);
        let (health, running) = (relay.health(), start(relay));
        assert_silent_from_the_second_minute_on(&health, fate).await;
        running.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_not_waited_for_when_what_was_held_is_settled() {
    let store = Remote::with(&one_a_key(1)).await;
    store.decide(|call| if call == Call::Renew { Fate::Fails(ErrorKind::Unavailable) } else { Fate::Works });
    let relay = Relay::new(store.clone(), Scripted::accepting().with_delay(7 * SECOND));
    let relay = relay.with_lease(10 * SECOND).with_health_limit(MINUTE);
    let (health, running) = (relay.health(), start(relay));
    for _ in 0..20 {
        sleep(MINUTE).await;
        assert_eq!((health.check(), store.counts().await.delivered), (Ok(()), 1));
    }
    assert!(running.stop().await.store_errors > 0);
}

#[tokio::test(start_paused = true)]
async fn while_a_transport_hangs_the_store_is_not_to_blame() {
    let consumer = Consumer::of(&[]);
    consumer.decide(|_| Ending::Hangs);
    for is_single in [false, true] {
        let store = Remote::with(&one_a_key(1)).await;
        let (health, running) = if is_single {
            let relay = Relay::single_worker(store.clone(), consumer.clone());
            let relay = relay.with_publish_timeout(60 * MINUTE).with_health_limit(MINUTE);
            (relay.health(), start_single(relay))
        } else {
            let relay = Relay::new(store.clone(), consumer.clone()).with_lease(60 * MINUTE);
            let relay = relay.with_publish_timeout(60 * MINUTE).with_health_limit(MINUTE);
            (relay.health(), start(relay))
        };
        for _ in 0..20 {
            sleep(MINUTE).await;
            // A publish may take its time, and nobody has asked the store.
            assert_eq!(health.check(), Ok(()), "{is_single}");
        }
        running.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_idle_and_seldom_looks_is_healthy_as_long_as_it_looks_when_it_is_due() {
    for is_single in [false, true] {
        let store = Remote::new();
        let (health, running) = if is_single {
            let relay = Relay::single_worker(store.clone(), Scripted::accepting());
            let relay = relay.with_poll_interval(60 * MINUTE).with_wakeups(store.clone());
            (relay.health(), start_single(relay))
        } else {
            let relay = Relay::new(store.clone(), Scripted::accepting());
            let relay = relay.with_poll_interval(60 * MINUTE).with_wakeups(store.clone());
            (relay.health(), start(relay))
        };
        for n in 0..300 {
            sleep(MINUTE).await;
            assert_eq!(health.check(), Ok(()), "after {n} minutes");
        }
        store.save(&event("a", "1")).await.unwrap();
        sleep(MINUTE).await;
        assert_eq!((health.check(), running.stop().await.published), (Ok(()), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_worker_whose_store_is_silent_says_so() {
    let store = Flaky::default();
    let relay = Relay::single_worker(store.clone(), Scripted::accepting()).with_health_limit(20 * SECOND);
    let health = relay.health();
    let relay = start_single(relay);
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    store.hanging.lock().unwrap().push("get_pending");
    sleep(19 * SECOND).await;
    assert_eq!(health.check(), Ok(()));
    // It is asked within two seconds.
    sleep(4 * SECOND).await;
    assert!(matches!(health.check(), Err(Unhealthy::NoAnswer(_))), "{:?}", health.check());
    sleep(MINUTE).await;
    assert_eq!(health.check(), Ok(()));
    relay.stop().await;
}

//! Section 6: purge.

use std::{
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use outbox_traits::{EventId, OutboxStore, Saved};

use crate::{
    Harness,
    support::{
        A_SECOND, A_WHILE, FRACTION, acknowledge, acknowledge_all, drain, event, events, ids, is_telling,
        kept, pending, pending_ids, retried, save, save_all,
    },
};

/// 6.1: deletes what was delivered at least so long ago, and returns how many; zero means all.
pub async fn purge_deletes_by_the_age_of_the_delivery<H: Harness>(h: Arc<H>) {
    let all = events(6);
    save_all(&h, &all).await;
    // Old as an event, young as a delivery.
    h.advance(Duration::from_secs(100)).await;
    acknowledge_all(&h, &ids(&all[..2])).await;
    h.advance(Duration::from_secs(10)).await;
    acknowledge_all(&h, &ids(&all[2..5])).await;
    let purge = async |seconds| h.store().purge(Duration::from_secs(seconds)).await.expect("purge");
    assert_eq!(purge(60).await, 0);
    assert_eq!(purge(5).await, kept(&h, 2));
    assert_eq!(purge(5).await, 0);
    assert_eq!(h.store().purge(Duration::MAX).await.expect("older than time itself"), 0);
    assert_eq!(purge(0).await, kept(&h, 3));
    assert_eq!(pending_ids(&h).await, [all[5].id()]);
    // They are gone.
    assert_eq!(h.store().save(&all[0]).await.expect("save"), Saved::Stored);
}

/// 6.1: the age is not cut to whole seconds.
pub async fn an_age_of_a_fraction_of_a_second_counts<H: Harness>(h: Arc<H>) {
    for _ in 0..20 {
        let one = event("one");
        save(&h, &one).await;
        let begun = Instant::now();
        acknowledge(&h, one.id()).await;
        h.advance(A_WHILE).await;
        let purged = h.store().purge(FRACTION).await.expect("purge");
        let is_telling = is_telling(begun);
        if is_telling {
            assert_eq!(purged, 0, "it was delivered less than {FRACTION:?} ago");
        }
        h.advance(A_SECOND).await;
        assert_eq!(purged + h.store().purge(FRACTION).await.expect("purge"), kept(&h, 1));
        if is_telling {
            return;
        }
    }
    panic!("no answer came within {FRACTION:?}");
}

/// 6.2: it never touches a pending event, one that waits for its time, or a dead one.
pub async fn purge_touches_only_what_is_delivered<H: Harness>(h: Arc<H>) {
    let (old, hidden, dead) = (event("old"), event("hidden"), EventId::new());
    let hidden = hidden.with_not_before(h.now().await + TimeDelta::days(1));
    save_all(&h, &[old.clone(), hidden.clone()]).await;
    h.insert_undecodable(dead).await;
    assert_eq!(pending(&h).await, slice::from_ref(&old));
    h.advance(Duration::from_hours(1)).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0);
    assert_eq!(pending(&h).await, slice::from_ref(&old));
    for still_there in [old.id(), hidden.id(), dead] {
        let again = event("again").with_id(still_there);
        assert_eq!(h.store().save(&again).await.expect("save"), Saved::Duplicate);
    }
    h.advance(Duration::from_hours(24)).await;
    assert_eq!(pending_ids(&h).await, [old.id(), hidden.id()]);
}

/// 6.3: a purge of many takes more than one batch, and takes them all.
pub async fn a_purge_of_many_takes_them_all<H: Harness>(h: Arc<H>) {
    let (gone, rest) = (events(5500), events(10));
    save_all(&h, &gone).await;
    save_all(&h, &rest).await;
    acknowledge_all(&h, &ids(&gone)).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 5500));
    assert_eq!(pending_ids(&h).await, ids(&rest));
}

/// 6.3: beside saves, fetches and acknowledgements it takes nothing that it should not.
pub async fn a_purge_beside_saves_and_deliveries_loses_nothing<H: Harness>(h: Arc<H>) {
    const EVENTS: usize = 600;
    let old = events(2000);
    save_all(&h, &old).await;
    acknowledge_all(&h, &ids(&old)).await;

    let purger = tokio::spawn({
        let h = Arc::clone(&h);
        async move {
            let (mut purged, mut is_told) = (0, true);
            for _ in 0..30 {
                match h.store().purge(Duration::ZERO).await {
                    Ok(count) => purged += count,
                    // The parts that it has deleted before are in no number.
                    Err(error) if error.is_retryable() => is_told = false,
                    Err(error) => panic!("purge: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (purged, is_told)
        }
    });
    let writer = tokio::spawn({
        let h = Arc::clone(&h);
        async move {
            let mut saved = Vec::new();
            for _ in 0..EVENTS / 20 {
                let batch = events(20);
                retried(|| h.store().save_all(&batch)).await;
                saved.extend(ids(&batch));
            }
            saved
        }
    });
    let delivered = drain(&h, 50, || writer.is_finished()).await;
    assert_eq!(delivered, writer.await.expect("the writer"), "each once, in order");
    let (purged, is_told) = purger.await.expect("the purger");
    let rest = h.store().purge(Duration::ZERO).await.expect("purge");
    let all = kept(&h, (2000 + EVENTS) as u64);
    assert!(
        purged + rest <= all && (purged + rest == all || !is_told),
        "each is purged once: {purged}, {rest}"
    );
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0);
    // What is purged may be saved again.
    save_all(&h, &old[..10]).await;
    assert_eq!(pending(&h).await, old[..10]);
}

/// 6.1: the clock is the store's: the event's own time has no part in it.
pub async fn purge_does_not_look_at_the_event_s_own_time<H: Harness>(h: Arc<H>) {
    let ancient = event("ancient").with_timestamp("2001-01-01T00:00:00Z".parse().expect("a time"));
    let future = event("future").with_timestamp(h.now().await + TimeDelta::days(365));
    save(&h, &ancient).await;
    save(&h, &future).await;
    acknowledge(&h, ancient.id()).await;
    acknowledge(&h, future.id()).await;
    assert_eq!(h.store().purge(Duration::from_hours(1)).await.expect("purge"), 0);
    h.advance(Duration::from_hours(2)).await;
    assert_eq!(h.store().purge(Duration::from_hours(1)).await.expect("purge"), kept(&h, 2));
}

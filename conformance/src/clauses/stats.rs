//! Section 9.1: stats.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, EventId, OutboxStore, Saved, Settlement, Stats, StatsStore,
};

use super::claim::{LEASE, claim, settled};
use crate::{
    Harness,
    support::{acknowledge_all, event, events, ids, kept, pending_ids, save, save_all},
};

async fn stats<H: Harness>(h: &Arc<H>) -> Stats
where
    H::Store: StatsStore,
{
    h.store().stats().await.expect("stats")
}

fn counts(stats: &Stats) -> [u64; 4] {
    [stats.pending, stats.leased, stats.delivered, stats.dead]
}

/// 9.1: it counts what is pending, leased, delivered and dead, each event once.
pub async fn it_counts_events_by_their_state<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore + ClaimStore + DeadLetterStore,
{
    assert_eq!(stats(&h).await, Stats::default());
    let all = events(10);
    save_all(&h, &all).await;
    save(&h, &event("hidden").with_not_before(h.now().await + TimeDelta::hours(1))).await;
    assert_eq!(counts(&stats(&h).await), [11, 0, 0, 0]);
    acknowledge_all(&h, &ids(&all[..2])).await;
    let leased = claim(&h, 5).await;
    assert_eq!(counts(&stats(&h).await), [4, 5, kept(&h, 2), 0]);
    settled(
        &h,
        [
            Settlement::delivered(leased[0].lease),
            Settlement::retry(leased[1].lease, Duration::from_hours(1), "failed"),
            Settlement::dead_letter(leased[2].lease, "failed"),
            Settlement::released(leased[3].lease),
        ],
    )
    .await;
    assert_eq!(counts(&stats(&h).await), [6, 1, kept(&h, 3), 1]);
    h.advance(LEASE * 2).await;
    assert_eq!(counts(&stats(&h).await), [7, 0, kept(&h, 3), 1], "a lease that ran out is none");
    h.store().purge(Duration::ZERO).await.expect("purge");
    h.insert_undecodable(EventId::new()).await;
    assert_eq!(pending_ids(&h).await.len(), 5, "one is hidden, one waits, and one cannot be read");
    assert_eq!(counts(&stats(&h).await), [7, 0, 0, 2], "what was set aside is dead");
    let held = claim(&h, 1).await[0].lease;
    settled(&h, [Settlement::dead_letter_holding_key(held, "failed")]).await;
    assert_eq!(counts(&stats(&h).await), [6, 0, 0, 3]);
    assert!(h.store().requeue(held.event()).await.expect("requeue"));
    assert_eq!(counts(&stats(&h).await), [7, 0, 0, 2], "requeued, it is pending");
    assert_eq!(h.store().discard_all(&DeadLetterFilter::new()).await.expect("discard_all"), 2);
    assert_eq!(counts(&stats(&h).await), [7, 0, 0, 0]);
}

/// 2.2 and 9.1: what is not committed is not pending, and is older than nothing. (What is delivered may be counted from
/// the size of a collection, of which engines keep account while transactions are open.)
pub async fn what_is_not_committed_is_not_counted<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore,
{
    let mut transaction = h.begin().await;
    let saved = h.store().save_in_session(&event("open"), h.session(&mut transaction)).await;
    assert_eq!(saved.expect("save_in_session"), Saved::Stored);
    let mut open = stats(&h).await;
    open.delivered = 0;
    assert_eq!(open, Stats::default());
    h.rollback(transaction).await;
    assert_eq!(stats(&h).await, Stats::default());
}

/// 9.1: the age of the oldest event that is still to be delivered, by the store's clock.
pub async fn it_says_how_long_the_oldest_waits<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore + ClaimStore,
{
    let (old, new) =
        (event("old").with_timestamp("2001-01-01T00:00:00Z".parse().expect("a time")), event("new"));
    save(&h, &old).await;
    h.advance(Duration::from_secs(100)).await;
    save(&h, &new).await;
    let oldest = async || stats(&h).await.oldest_pending.expect("there is one").as_secs();
    assert!((100..160).contains(&oldest().await), "{}", oldest().await);
    let leased = claim(&h, 1).await;
    assert!((100..160).contains(&oldest().await), "leased, it still waits");
    settled(&h, [Settlement::delivered(leased[0].lease)]).await;
    assert!((0..60).contains(&oldest().await), "{}", oldest().await);
    acknowledge_all(&h, &[new.id()]).await;
    assert_eq!(stats(&h).await.oldest_pending, None);
}

/// 9.1: for how long the oldest event has been due. What is hidden until a time, waits for a retry or is behind one
/// that does is not; what is leased is.
pub async fn it_says_how_long_the_oldest_has_been_due<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore + ClaimStore,
{
    let due = async || stats(&h).await.oldest_due.map(|due| due.as_secs());
    assert_eq!(due().await, None);
    let hidden = event("hidden").with_not_before(h.now().await + TimeDelta::seconds(200));
    save(&h, &hidden).await;
    h.advance(Duration::from_secs(100)).await;
    assert_eq!(due().await, None, "hidden until a time");
    h.advance(Duration::from_secs(200)).await;
    let since = due().await.expect("its time has come");
    assert!((90..190).contains(&since), "{since}");
    acknowledge_all(&h, &[hidden.id()]).await;
    assert_eq!(due().await, None, "delivered");

    for is_claimed in [true, false] {
        let [failing, behind] = ["failing", "behind"].map(|name| event(name).with_partition_key("key"));
        save_all(&h, &[failing.clone(), behind.clone()]).await;
        h.advance(Duration::from_secs(1000)).await;
        let since = due().await.expect("it is due");
        assert!((1000..1090).contains(&since), "{since}");
        let leased = claim(&h, 1).await;
        let since = due().await.expect("leased, it is due");
        assert!((1000..1090).contains(&since), "{since}");
        settled(&h, [Settlement::retry(leased[0].lease, Duration::from_secs(200), "failed")]).await;
        assert_eq!(due().await, None, "one waits for a retry, and one for that");
        h.advance(Duration::from_secs(100)).await;
        // Whoever claims steps over it.
        assert!(!is_claimed || claim(&h, 10).await.is_empty());
        assert_eq!(due().await, None, "it still waits");
        h.advance(Duration::from_secs(200)).await;
        let since = due().await.expect("its retry has come");
        assert!(since < 190, "{since}");
        let leased = claim(&h, 1).await;
        assert_eq!(leased[0].event.id(), failing.id());
        let since = due().await.expect("leased, it is due");
        assert!(since < 190, "{since}");
        settled(&h, [Settlement::delivered(leased[0].lease)]).await;
        let since = due().await.expect("the one behind it is free");
        assert!((1300..1400).contains(&since), "{since}");
        assert_eq!(claim(&h, 1).await[0].event.id(), behind.id());
        let since = due().await.expect("leased, it has been due since it was saved");
        assert!((1300..1400).contains(&since), "{since}");
        acknowledge_all(&h, &[behind.id()]).await;
        assert_eq!(due().await, None);
    }
}

/// 9.1: a dead letter that was requeued has been due since its save, as if nobody had tried it.
pub async fn a_requeued_event_has_been_due_since_its_save<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore + ClaimStore + DeadLetterStore,
{
    let due = async || stats(&h).await.oldest_due.expect("it is due").as_secs();
    let one = event("one");
    save(&h, &one).await;
    h.advance(Duration::from_secs(1000)).await;
    let leased = claim(&h, 1).await;
    settled(&h, [Settlement::retry(leased[0].lease, Duration::from_secs(200), "failed")]).await;
    h.advance(Duration::from_secs(300)).await;
    let leased = claim(&h, 1).await;
    assert!(due().await < 190, "since its retry: {}", due().await);
    settled(&h, [Settlement::dead_letter(leased[0].lease, "failed")]).await;
    assert!(h.store().requeue(one.id()).await.expect("requeue"));
    assert!((1300..1400).contains(&due().await), "{}", due().await);
    assert_eq!(claim(&h, 1).await[0].event, one);
    assert!((1300..1400).contains(&due().await), "leased, it is due: {}", due().await);
}

/// 9.1: that may be one that is hidden, or waits for a retry.
pub async fn the_oldest_may_be_hidden_or_wait_for_a_retry<H: Harness>(h: Arc<H>)
where
    H::Store: StatsStore + ClaimStore,
{
    let (hour, pause) = (Duration::from_hours(1), Duration::from_secs(100));
    let oldest = async || stats(&h).await.oldest_pending.expect("there is one").as_secs();
    let hidden = event("hidden").with_not_before(h.now().await + TimeDelta::hours(1));
    save(&h, &hidden).await;
    h.advance(pause).await;
    let failed = event("failed");
    save(&h, &failed).await;
    let leased = claim(&h, 1).await;
    settled(&h, [Settlement::retry(leased[0].lease, hour, "failed")]).await;
    h.advance(pause).await;
    save(&h, &event("new")).await;
    assert!((200..260).contains(&oldest().await), "the hidden one is the oldest: {}", oldest().await);
    acknowledge_all(&h, &[hidden.id()]).await;
    assert!((100..160).contains(&oldest().await), "then the one that failed: {}", oldest().await);
    acknowledge_all(&h, &[failed.id()]).await;
    assert!((0..60).contains(&oldest().await), "{}", oldest().await);
}

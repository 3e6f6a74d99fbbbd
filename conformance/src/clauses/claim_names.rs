//! Section 9.3 for claims: they go by the name of the outbox too, whatever it is.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, Lease, OutboxStore,
    Saved, SchemaStore, Settlement, StatsStore,
};

use super::{
    claim::{LEASE, assert_lost, keyed, leased_ids, settle_all_by},
    names::good,
};
use crate::{
    NamesHarness,
    support::{ids, kept},
};

/// 9.3: claims, settlements, dead letters and counts are those of the outbox that was asked, whatever its name is.
pub async fn an_outbox_of_any_name_is_claimed_and_settled<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    let asked = Claim::new("a worker").with_limit(3).with_lease(LEASE);
    let mut all = Vec::new();
    for name in good(&h) {
        let store = h.named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        store.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let events = ["failing", "broken", "fine", "failing", "broken"].map(|key| keyed(key, &name));
        store.save_all(&events).await.expect("save_all");
        let leased = store.claim(&asked).await.expect("claim");
        assert_eq!(leased_ids(&leased), ids(&events[..3]), "{name}");
        all.push((name, store, events, leased));
    }
    for (name, store, events, leased) in &all {
        let leases: Vec<_> = leased.iter().map(|one| one.lease).collect();
        let renewed = store.renew(&leases, LEASE).await.expect("renew");
        assert!(renewed.iter().all(Result::is_ok), "{name}: {renewed:?}");
        let settlements = [
            Settlement::retry(leases[0], Duration::from_secs(3600), "later"),
            Settlement::dead_letter_holding_key(leases[1], "never"),
            Settlement::delivered(leases[2]),
        ];
        let settled = store.settle(&settlements).await.expect("settle");
        assert!(settled.iter().all(Result::is_ok), "{name}: {settled:?}");
        assert!(store.claim(&asked).await.expect("claim").is_empty(), "{name}: the others wait");
        assert_eq!(
            store.get_pending(10).await.expect("get_pending"),
            events[3..],
            "{name}: what waits is pending"
        );
        let stats = store.stats().await.expect("stats");
        assert_eq!((stats.pending, stats.leased, stats.dead), (3, 0, 1), "{name}");
        assert_eq!(stats.delivered, kept(&h, 1), "{name}");
        let letters = store.dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
        assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [events[1].id()], "{name}");
        assert!(store.requeue(events[1].id()).await.expect("requeue"), "{name}");
        let dead = settle_all_by(store, 3, |lease| Settlement::dead_letter(lease, "never")).await;
        assert_eq!(leased_ids(&dead), [events[1].id(), events[4].id()], "{name}");
        assert_eq!(store.discard_all(&DeadLetterFilter::new()).await.expect("discard_all"), 2, "{name}");
        assert_eq!(
            store.stats().await.expect("stats").pending,
            2,
            "{name}: what waits for a retry, and behind it"
        );
    }
    assert_eq!(h.store().stats().await.expect("stats").pending, 0, "events of others");
}

/// What there is in an outbox, but for ages.
async fn content<S>(store: &S) -> ([u64; 4], Vec<EventId>, Vec<DeadLetter>)
where
    S: OutboxStore + DeadLetterStore + StatsStore,
{
    let stats = store.stats().await.expect("stats");
    let counts = [stats.pending, stats.leased, stats.delivered, stats.dead];
    let pending = ids(&store.get_pending(100).await.expect("get_pending"));
    (counts, pending, store.dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters)
}

/// 9.3: two outboxes of one database may have events of the same ids and keys, and whatever is done in one is not done in the
/// other.
pub async fn what_is_done_in_one_outbox_leaves_others_alone<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    let keys = ["done", "dead", "held", "retried", "leased", "pending", "held", "retried", "leased"];
    let mut all: Vec<Event> = keys.map(|key| keyed(key, "event")).into();
    all[0] = all[0].clone().with_idempotency_key("order-17");
    let mut outboxes = Vec::new();
    for name in ["one_side", "other_side"] {
        let store = h.named(name).expect("a name");
        store.migrate().await.expect("migrate");
        let saved = store.save_all(&all).await.expect("save_all");
        assert_eq!(saved, vec![Saved::Stored; all.len()], "{name}: another outbox has them");
        store.acknowledge(all[0].id()).await.expect("acknowledge");
        let asked = Claim::new("a worker").with_limit(4).with_lease(LEASE * 100);
        let leases: Vec<Lease> =
            store.claim(&asked).await.expect("claim").iter().map(|one| one.lease).collect();
        let settlements = [
            Settlement::dead_letter(leases[0], "failed"),
            Settlement::dead_letter_holding_key(leases[1], "failed"),
            Settlement::retry(leases[2], LEASE * 100, "failed"),
        ];
        assert!(store.settle(&settlements).await.expect("settle").iter().all(Result::is_ok), "{name}");
        outboxes.push((store, leases));
    }
    let [(one, _), (other, leases)] = &outboxes[..] else { unreachable!("two were made") };
    let before = content(other).await;
    assert_eq!(before.0, [5, 1, kept(&h, 1), 2]);
    let is_left_alone = async |what: &str| {
        assert_eq!(content(other).await, before, "{what} reaches another outbox");
    };
    let every = DeadLetterFilter::new();
    let late = one.settle(&[Settlement::delivered(leases[3])]).await.expect("settle");
    assert_lost(&late[0], &leases[3]);
    assert_lost(&one.renew(&leases[3..], LEASE).await.expect("renew")[0], &leases[3]);
    is_left_alone("a settlement or a renewal").await;
    one.acknowledge(all[5].id()).await.expect("acknowledge");
    one.acknowledge_all(&ids(&all[3..5])).await.expect("acknowledge_all");
    is_left_alone("an acknowledgement").await;
    assert_eq!(one.purge(Duration::ZERO).await.expect("purge"), kept(&h, 4));
    is_left_alone("a purge").await;
    assert!(one.requeue(all[1].id()).await.expect("requeue"));
    is_left_alone("a requeue").await;
    assert_eq!(one.requeue_all(&every).await.expect("requeue_all"), 1);
    is_left_alone("a requeue of all").await;
    let mut failed =
        leased_ids(&settle_all_by(one, 100, |lease| Settlement::dead_letter(lease, "failed")).await);
    // The second of a key may come after all others (7.3).
    failed.sort_unstable();
    let mut expected = ids(&[&all[1..3], &all[6..]].concat());
    expected.sort_unstable();
    assert_eq!(failed, expected);
    assert!(one.discard(all[1].id()).await.expect("discard"));
    is_left_alone("a discard").await;
    assert_eq!(one.discard_all(&every).await.expect("discard_all"), 4);
    is_left_alone("a discard of all").await;
    assert_eq!(one.stats().await.expect("stats").dead, 0);
    assert!(other.settle(&[Settlement::delivered(leases[3])]).await.expect("settle")[0].is_ok());
}

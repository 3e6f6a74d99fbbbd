//! Claims where a database has several outboxes.

use std::{sync::Arc, time::Duration};

use outbox_traits::{Claim, ClaimStore, OutboxStore, SchemaStore, Settlement, StatsStore};

use super::claim::{LEASE, claim, drained, keyed, leased_ids, settled};
use crate::{SchemaHarness, support::save};

/// 9.3: two outboxes of different names have nothing to do with one another: neither leases nor busy keys, retries or
/// dead letters of the one count in the other, and a settlement has an effect in its own.
pub async fn claims_of_different_outboxes_are_apart<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + StatsStore,
{
    let other = h.unmigrated("other");
    other.migrate().await.expect("migrate");
    let claim_there = async || {
        let claim = Claim::new("another worker").with_lease(LEASE);
        other.claim(&claim).await.expect("claim")
    };
    let (here, there) = (keyed("k", "here"), keyed("k", "there"));
    save(&h, &here).await;
    other.save(&there).await.expect("save");

    // The key is busy in each, by its own lease.
    let leased = claim(&h, 10).await;
    assert_eq!(leased_ids(&leased), [here.id()]);
    let leased_there = claim_there().await;
    assert_eq!(leased_ids(&leased_there), [there.id()]);
    let lost = h.store().settle(&[Settlement::delivered(leased_there[0].lease)]).await.expect("settle");
    lost[0].as_ref().expect_err("it is a lease of the other outbox");

    // The key waits for a retry in one, and is held by a dead letter.
    let next = keyed("k", "next");
    save(&h, &next).await;
    let next_there = keyed("k", "next there");
    other.save(&next_there).await.expect("save");
    settled(&h, [Settlement::retry(leased[0].lease, Duration::from_hours(1), "failed")]).await;
    assert!(claim(&h, 10).await.is_empty(), "its key waits");
    let answers = other.settle(&[Settlement::delivered(leased_there[0].lease)]).await.expect("settle");
    answers[0].as_ref().expect("it is held");
    let leased_there = claim_there().await;
    assert_eq!(leased_ids(&leased_there), [next_there.id()], "its key is free");
    let counts = async |store: &H::Store| {
        let stats = store.stats().await.expect("stats");
        (stats.pending, stats.leased)
    };
    assert_eq!(counts(h.store()).await, (2, 0));
    assert_eq!(counts(&other).await, (0, 1));

    h.advance(Duration::from_hours(2)).await;
    assert_eq!(drained(&h, 10).await, [here.id(), next.id()]);
    assert_eq!(counts(h.store()).await, (0, 0));
    let (pending, leased) = counts(&other).await;
    assert_eq!(pending + leased, 1);
}

//! Section 9.3 for claims: they go by the name of the outbox too, whatever it is.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, OutboxStore, SchemaStore, Settlement, StatsStore,
};

use super::{
    claim::{LEASE, keyed, leased_ids},
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
        let leased = store.claim(&asked).await.expect("claim");
        assert_eq!(leased_ids(&leased), [events[1].id(), events[4].id()], "{name}");
        let dead: Vec<_> = leased.iter().map(|one| Settlement::dead_letter(one.lease, "never")).collect();
        assert!(store.settle(&dead).await.expect("settle").iter().all(Result::is_ok), "{name}");
        assert_eq!(store.discard_all(&DeadLetterFilter::new()).await.expect("discard_all"), 2, "{name}");
        assert_eq!(
            store.stats().await.expect("stats").pending,
            2,
            "{name}: what waits for a retry, and behind it"
        );
    }
    assert_eq!(h.store().stats().await.expect("stats").pending, 0, "events of others");
}

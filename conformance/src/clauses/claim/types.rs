//! Claims of some types only, where keys wait.

use std::sync::Arc;

use outbox_traits::{Claim, ClaimStore, DeadLetterStore, Event, EventId, Settlement};
use serde_json::json;

use super::{LEASE, claim, delivered, leased_ids, settled};
use crate::{
    Harness,
    support::{ids, pending_ids, save, save_all},
};

/// Claims of one type, and delivers it.
async fn taken<H: Harness>(h: &Arc<H>, event_type: &str, limit: usize) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    let request = Claim::new("a worker").with_types([event_type]).with_limit(limit).with_lease(LEASE);
    let leased = h.store().claim(&request).await.expect("claim");
    let types: Vec<&str> = leased.iter().map(|one| one.event.event_type()).collect();
    assert!(
        types.iter().all(|found| *found == event_type),
        "{types:?} were claimed, and only {event_type} asked for"
    );
    delivered(h, &leased).await;
    leased_ids(&leased)
}

/// 7.1 and 7.3: a claim of some types hands out no other, also of a key that has waited; what it passes over keeps its
/// place in the key, before what was saved later.
pub async fn a_claim_of_some_types_takes_no_other_of_a_key_that_has_waited<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for (holds_key, is_met) in [(false, false), (false, true), (true, false), (true, true)] {
        let of_type = |name: &str| Event::new(name, json!(null)).expect("valid").with_partition_key("k");
        let mut all = vec![of_type("a.x"), of_type("b.x"), of_type("b.x")];
        save_all(&h, &all).await;
        let first = claim(&h, 1).await[0].lease;
        if holds_key {
            settled(&h, [Settlement::dead_letter_holding_key(first, "broken")]).await;
        } else {
            settled(&h, [Settlement::retry(first, LEASE, "failed")]).await;
        }
        // A store may put aside what these meet, and not what is saved later.
        for event_type in ["b.x", "a.x"] {
            assert!(taken(&h, event_type, 10).await.is_empty(), "the key waits");
        }
        assert!(claim(&h, 10).await.is_empty());
        all.extend([of_type("b.x"), of_type("c.x")]);
        for late in &all[3..] {
            save(&h, late).await;
        }
        if is_met {
            assert!(taken(&h, "c.x", 10).await.is_empty(), "the key waits");
        }
        if holds_key {
            assert!(h.store().requeue(first.event()).await.expect("requeue"));
        } else {
            h.advance(LEASE * 2).await;
        }
        assert_eq!(taken(&h, "a.x", 10).await, [all[0].id()]);
        assert_eq!(pending_ids(&h).await, ids(&all[1..]));
        assert_eq!(taken(&h, "b.x", 1).await, [all[1].id()]);
        assert_eq!(taken(&h, "c.x", 10).await, [all[4].id()], "those before it are passed over");
        let mut last = taken(&h, "b.x", 10).await;
        last.extend(taken(&h, "b.x", 10).await);
        assert_eq!(last, ids(&all[2..4]));
    }
}

/// 7.1: a claim of some types finds its own, however many keys have none of it and were due before.
pub async fn a_claim_of_some_types_finds_its_own_after_many_keys_that_have_none<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let of = |event_type: &str, key: usize| {
        Event::new(event_type, json!(null)).expect("valid").with_partition_key(format!("key {key}"))
    };
    let others: Vec<Event> = (0..100).map(|key| of("a.x", key)).collect();
    let own = of("b.x", 100);
    save_all(&h, &others).await;
    save(&h, &own).await;
    let leased = claim(&h, 200).await;
    assert_eq!(leased.len(), 101);
    // They have waited, and are due one after the other.
    let waits = leased.iter().zip(1..).map(|(one, seconds)| {
        Settlement::retry(one.lease, std::time::Duration::from_secs(seconds), "failed")
    });
    settled(&h, waits).await;
    h.advance(LEASE * 10).await;
    assert_eq!(taken(&h, "b.x", 1).await, [own.id()]);
    assert_eq!(taken(&h, "a.x", 1).await, [others[0].id()]);
}

/// 7.1: a claim may ask for very many types, also where keys have waited.
pub async fn a_claim_may_ask_for_very_many_types<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let wanted: Vec<String> = (0..3000).map(|index| format!("a.type.{index:0>40}")).collect();
    let of = |key: usize| {
        Event::new(wanted[key * 10].clone(), json!(null))
            .expect("valid")
            .with_partition_key(format!("key {key}"))
    };
    let own: Vec<Event> = (0..200).map(of).collect();
    let other = Event::new("b.x", json!(null)).expect("valid").with_partition_key("other");
    save_all(&h, &own).await;
    save(&h, &other).await;
    let leased = claim(&h, 300).await;
    settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, LEASE, "failed"))).await;
    h.advance(LEASE * 2).await;
    let request = Claim::new("a worker").with_limit(300).with_lease(LEASE).with_types(wanted.clone());
    let leased = h.store().claim(&request).await.expect("claim");
    assert_eq!(leased_ids(&leased), ids(&own));
    delivered(&h, &leased).await;
    assert_eq!(leased_ids(&claim(&h, 300).await), [other.id()]);
}

//! Section 7 where several processes work on one outbox: what a claim goes by is in the store, and not with who claims.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ClaimStore, Lease, OutboxStore, Settlement};

use super::claim::{
    LEASE, assert_first_of, assert_lost, claim, claim_by, claims_are_disjoint, delivered_by, drained,
    history_keeps_the_order_of_each_key, keyed, leased_ids, settle,
};
use crate::{
    WakeHarness,
    support::{event, events, ids, save_all},
};

/// 7.2 and 7.3: what one process has leased no other is given, nor what comes after it in its key, until it is over.
pub async fn what_one_process_has_leased_no_other_is_given<H: WakeHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let peer = h.peer().await;
    // Either has looked in vain before.
    assert!(claim_by(&peer, 10).await.is_empty() && claim(&h, 10).await.is_empty());
    let ends: [fn(Lease) -> Settlement; 3] = [
        Settlement::delivered,
        |lease| Settlement::retry(lease, Duration::ZERO, "failed"),
        Settlement::released,
    ];
    // Of those of the key, how many are done with then.
    for (end, done) in ends.into_iter().zip([1, 0, 0]) {
        let both = [keyed("key", "first"), keyed("key", "second")];
        save_all(&h, &both).await;
        let held = claim(&h, 1).await;
        assert_eq!(leased_ids(&held), [both[0].id()]);
        let other = event("other");
        save_all(&h, std::slice::from_ref(&other)).await;
        let given = claim_by(&peer, 10).await;
        assert_eq!(leased_ids(&given), [other.id()], "the key waits for what another process has");
        assert!(claim_by(&peer, 10).await.is_empty());
        delivered_by(&peer, &given).await;
        assert!(settle(&h, &[end(held[0].lease)]).await[0].is_ok());
        // Now the key waits for nothing.
        let rest = claim_by(&peer, 10).await;
        assert_first_of(&rest, &ids(&both[done..]));
        assert!(claim(&h, 10).await.is_empty());
        delivered_by(&peer, &rest).await;
        assert_eq!(drained(&h, 10).await, ids(&both[done + rest.len()..]));
    }
}

/// 7.4 and 7.5: a lease is the same through every handle, while it lasts and when it is over.
pub async fn a_lease_is_renewed_and_settled_through_any_handle<H: WakeHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let peer = h.peer().await;
    let batch = events(3);
    save_all(&h, &batch).await;
    let held = claim(&h, 10).await;
    assert_eq!(leased_ids(&held), ids(&batch));
    let leases: Vec<Lease> = held.iter().map(|one| one.lease).collect();
    h.advance(LEASE * 2 / 3).await;
    for renewed in peer.renew(&leases, LEASE).await.expect("renew") {
        renewed.expect("it is not over");
    }
    h.advance(LEASE * 2 / 3).await;
    assert!(claim_by(&peer, 10).await.is_empty() && claim(&h, 10).await.is_empty(), "renewed, it lasts");
    delivered_by(&peer, &held[..1]).await;
    peer.acknowledge(batch[1].id()).await.expect("acknowledge");
    assert_lost(&settle(&h, &[Settlement::released(leases[1])]).await[0], &leases[1]);
    h.advance(LEASE * 2 / 3).await;
    let again = claim_by(&peer, 10).await;
    assert_eq!(leased_ids(&again), [batch[2].id()]);
    assert_eq!(again[0].attempts, 2, "the first attempt was another process's");
    for late in [Settlement::delivered(leases[2]), Settlement::retry(leases[2], Duration::ZERO, "late")] {
        assert_lost(&settle(&h, &[late]).await[0], &leases[2]);
    }
    delivered_by(&peer, &again).await;
    assert!(claim(&h, 10).await.is_empty());
}

/// 7.2: claims that several processes make at the same time are disjoint, and together have everything.
pub async fn claims_of_several_processes_at_the_same_time_are_disjoint<H: WakeHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let handles = vec![h.peer().await, h.peer().await, h.peer().await];
    claims_are_disjoint(h, handles).await;
}

/// 3.1 and 7.3: what was hidden, and whose time has come, is in its place for all at the same moment, however many of several
/// processes look.
pub async fn what_has_become_due_comes_first_whoever_looks<H: WakeHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut peers = [h.peer().await, h.peer().await, h.peer().await].map(Arc::new);
    for round in 0..60 {
        // Each of them is the first to look now and then.
        peers.rotate_left(1);
        let key = format!("key {round}");
        let due = keyed(&key, "first").with_not_before(h.now().await - LEASE);
        let both = [due, keyed(&key, "second")];
        save_all(&h, &both).await;
        let [first, rest @ ..] = peers.clone();
        let claims = rest.map(|peer| tokio::spawn(async move { claim_by(&*peer, 10).await }));
        let there = Arc::clone(&h);
        let own = tokio::spawn(async move { claim(&there, 10).await });
        let mut leased = claim_by(&*first, 10).await;
        for claim in claims.into_iter().chain([own]) {
            leased.extend(claim.await.expect("a claim"));
        }
        // One has both, or the earlier one first.
        assert_first_of(&leased, &ids(&both));
        delivered_by(h.store(), &leased).await;
        assert_eq!(drained(&h, 10).await, ids(&both[leased.len()..]));
    }
}

/// 7.2, 7.3, 7.5 and 7.7: every event is delivered, and those of a key in their order, whatever becomes of the workers of
/// several processes.
pub async fn a_history_of_several_processes_keeps_the_order_of_each_key<H: WakeHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let handles = vec![h.peer().await, h.peer().await];
    history_keeps_the_order_of_each_key(h, handles).await;
}

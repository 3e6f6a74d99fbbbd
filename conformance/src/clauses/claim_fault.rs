//! Section 9.6 for claims: what the engine answers at times.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Error, ErrorKind, Event, EventId, Lease, Leased,
    OutboxStore, Result, Settlement,
};

use super::{
    claim::{LEASE, claim, delivered, keyed, leased, leased_ids, settled},
    dead_letter,
    fault::{
        FEW, WITHOUT_END, assert_is, assert_said_at_once, conflicts, failure, heal, lasting, of_each_kind,
    },
    outage::bounded,
};
use crate::{
    Fault, FaultHarness,
    support::{acknowledge_all, ids, pending_ids, save, save_all},
};

/// How long a failed event waits here.
const WAIT: Duration = Duration::from_secs(3600);

/// More than the connections that a handle has here.
const MANY: usize = 20;

/// Events of two keys, in turns.
fn of_two_keys() -> Vec<Event> {
    ["one", "other", "one", "other"].map(|key| keyed(key, key)).to_vec()
}

fn of_four_keys() -> Vec<Event> {
    ["a", "b", "c", "d"].map(|key| keyed(key, key)).to_vec()
}

fn leases(held: &[Leased]) -> Vec<Lease> {
    held.iter().map(|one| one.lease).collect()
}

/// An outcome of each sort, for four leases.
fn of_every_outcome(held: &[Leased]) -> [Settlement; 4] {
    [
        Settlement::delivered(held[0].lease),
        Settlement::retry(held[1].lease, WAIT, "later"),
        Settlement::dead_letter_holding_key(held[2].lease, "never"),
        Settlement::released(held[3].lease),
    ]
}

#[track_caller]
fn assert_all_took(answers: &[Result<()>]) {
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

async fn dead<H: FaultHarness>(h: &Arc<H>) -> Vec<EventId>
where
    H::Store: DeadLetterStore,
{
    dead_letter::dead(h, DeadLetterFilter::new()).await.iter().map(|letter| letter.id).collect()
}

/// Saves, claims and settles as dead letters that hold their keys.
async fn dead_letters<H: FaultHarness>(h: &Arc<H>, count: usize) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    let held = leased(h, count).await;
    settled(h, held.iter().map(|one| Settlement::dead_letter_holding_key(one.lease, "why"))).await;
    leased_ids(&held)
}

/// 9.6: a claim, a renewal, a settlement, and what is done to dead letters, are tried again where a concurrent transaction is in
/// the way and goes.
pub async fn a_conflict_of_claims_that_passes_is_tried_again<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const PASSES: &str = "the conflict passes";
    let (store, all) = (h.store(), DeadLetterFilter::new());
    for fault in conflicts(&h) {
        let batch = of_four_keys();
        save_all(&h, &batch).await;
        h.fail(&fault, FEW).await;
        let held = bounded(store.claim(&Claim::new("a worker").with_lease(LEASE))).await.expect(PASSES);
        assert_eq!(leased_ids(&held), ids(&batch));
        h.fail(&fault, FEW).await;
        assert_all_took(&bounded(store.renew(&leases(&held), LEASE * 3)).await.expect(PASSES));
        heal(&h, &fault).await;
        h.advance(LEASE * 2).await;
        h.fail(&fault, FEW).await;
        assert_all_took(&bounded(store.settle(&of_every_outcome(&held))).await.expect(PASSES));
        h.fail(&fault, FEW).await;
        assert!(bounded(store.requeue(batch[2].id())).await.expect(PASSES));
        heal(&h, &fault).await;
        assert_eq!(pending_ids(&h).await, ids(&batch[2..]));
        h.advance(WAIT).await;
        let rest = claim(&h, 10).await;
        assert_eq!(leased_ids(&rest), ids(&batch[1..]));
        let simple: Vec<Settlement> = leases(&rest).into_iter().map(Settlement::delivered).collect();
        h.fail(&fault, FEW).await;
        assert_all_took(&bounded(store.settle(&simple)).await.expect(PASSES));
        heal(&h, &fault).await;

        let died = dead_letters(&h, 3).await;
        h.fail(&fault, FEW).await;
        assert!(bounded(store.discard(died[0])).await.expect(PASSES));
        h.fail(&fault, FEW).await;
        assert_eq!(bounded(store.requeue_all(&all)).await.expect(PASSES), 2);
        heal(&h, &fault).await;
        assert_eq!(pending_ids(&h).await, died[1..]);
        acknowledge_all(&h, &died[1..]).await;
        dead_letters(&h, 2).await;
        h.fail(&fault, FEW).await;
        assert_eq!(bounded(store.discard_all(&all)).await.expect(PASSES), 2);
        heal(&h, &fault).await;

        let died = dead_letters(&h, 1).await;
        let behind = keyed("key 0", "behind");
        save_all(&h, std::slice::from_ref(&behind)).await;
        assert!(claim(&h, 10).await.is_empty(), "it is held");
        assert!(store.discard(died[0]).await.expect("discard"));
        let held = claim(&h, 10).await;
        h.fail(&fault, FEW).await;
        bounded(store.acknowledge(behind.id())).await.expect(PASSES);
        heal(&h, &fault).await;
        assert_eq!(store.settle(&[Settlement::delivered(held[0].lease)]).await.expect("settle").len(), 1);
        assert!(pending_ids(&h).await.is_empty());
    }
}

/// 9.6, 7.3 and 7.5: a claim that met a fault and failed has leased nothing, or nothing beyond the lease that was asked for; what is
/// claimed then comes in the order of its key. However often it fails, the same handle goes on.
pub async fn a_claim_that_meets_a_fault_takes_nothing_away<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let asked = Claim::new("a worker").with_limit(3).with_lease(LEASE);
    for fault in of_each_kind(&h) {
        let batch = of_two_keys();
        save_all(&h, &batch).await;
        // A conflict takes as long as the store is patient.
        let times = if fault.kind() == ErrorKind::Conflict { 1 } else { MANY };
        h.fail(&fault, WITHOUT_END).await;
        for _ in 0..times {
            let failed = bounded(h.store().claim(&asked)).await.map(|leased| leased_ids(&leased));
            assert_is(&failed.expect_err("the engine has a fault"), &fault);
        }
        heal(&h, &fault).await;
        let next = bounded(h.store().claim(&asked)).await.expect("the fault is over");
        if next.is_empty() {
            h.advance(LEASE * 2).await;
        } else {
            assert_eq!(leased_ids(&next), ids(&batch[..3]), "{fault:?}: a later event of a key came first");
            settled(&h, leases(&next).into_iter().map(Settlement::released)).await;
        }
        let all = claim(&h, 10).await;
        assert_eq!(leased_ids(&all), ids(&batch), "{fault:?}");
        delivered(&h, &all).await;
    }
}

/// 9.6, 7.5 and 7.6: a renewal and a settlement that met a fault and failed have done nothing; who holds the lease settles by it
/// when the fault is over.
pub async fn what_is_leased_outlives_a_fault<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for fault in of_each_kind(&h) {
        let batch = of_four_keys();
        save_all(&h, &batch).await;
        let held = claim(&h, 4).await;
        assert_eq!(leased_ids(&held), ids(&batch));
        let simple: Vec<Settlement> = leases(&held).into_iter().map(Settlement::delivered).collect();
        h.fail(&fault, WITHOUT_END).await;
        let failed = [
            bounded(h.store().renew(&leases(&held), LEASE * 3)).await.expect_err("renew"),
            bounded(h.store().settle(&simple)).await.expect_err("settle"),
            bounded(h.store().settle(&of_every_outcome(&held))).await.expect_err("settle"),
        ];
        heal(&h, &fault).await;
        for error in &failed {
            assert_is(error, &fault);
        }
        assert!(claim(&h, 10).await.is_empty(), "{fault:?}: a lease is gone");
        assert!(dead(&h).await.is_empty(), "{fault:?}: a part of it took");
        settled(&h, of_every_outcome(&held)).await;
        assert_eq!(dead(&h).await, [batch[2].id()]);
        assert_eq!(pending_ids(&h).await, [batch[3].id()]);
        assert!(h.store().discard(batch[2].id()).await.expect("discard"));
        h.advance(WAIT).await;
        let rest = claim(&h, 10).await;
        assert_eq!(leased_ids(&rest), [batch[1].id(), batch[3].id()]);
        assert_eq!((rest[0].failures, rest[1].failures, rest[1].attempts), (1, 0, 1), "{fault:?}");
        delivered(&h, &rest).await;
    }
}

/// 9.6, 8.3 and 8.4: dead letters that were not requeued or discarded because of a fault are dead, and hold their keys.
pub async fn dead_letters_outlive_a_fault<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let all = DeadLetterFilter::new();
    for fault in of_each_kind(&h) {
        let died = dead_letters(&h, 2).await;
        let behind = [0, 1].map(|index| keyed(&format!("key {index}"), "behind"));
        save_all(&h, &behind).await;
        h.fail(&fault, WITHOUT_END).await;
        let failed = [
            bounded(h.store().requeue(died[0])).await.expect_err("requeue"),
            bounded(h.store().requeue_all(&all)).await.expect_err("requeue_all"),
            bounded(h.store().discard(died[0])).await.expect_err("discard"),
            bounded(h.store().discard_all(&all)).await.expect_err("discard_all"),
        ];
        heal(&h, &fault).await;
        for error in &failed {
            assert_is(error, &fault);
        }
        assert_eq!(dead(&h).await, died, "{fault:?}: a part of it was done");
        assert!(claim(&h, 10).await.is_empty(), "{fault:?}: they hold their keys");
        assert!(h.store().requeue(died[0]).await.expect("requeue"));
        assert_eq!(h.store().discard_all(&all).await.expect("discard_all"), 1);
        let freed = claim(&h, 10).await;
        assert_eq!(leased_ids(&freed)[..1], died[..1], "what was requeued comes first");
        acknowledge_all(&h, &[died, ids(&behind)].concat()).await;
    }
}

/// 9.6: a fault that no other try helps is said by what has to do with claims, too, where it comes for the first time.
pub async fn a_fault_of_claims_that_no_other_try_helps_is_said_at_once<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for fault in lasting(&h) {
        let dead = dead_letters(&h, 1).await[0];
        let batch = of_four_keys();
        save_all(&h, &batch).await;
        let held = claim(&h, 4).await;
        let free = keyed("free", "free");
        save(&h, &free).await;
        let (without_end, once) =
            (failures(&h, &held, dead, &fault, WITHOUT_END), failures(&h, &held, dead, &fault, 1));
        assert_said_at_once(&fault, without_end.await, once.await);
        acknowledge_all(&h, &[ids(&batch), vec![free.id(), dead]].concat()).await;
        h.store().discard_all(&DeadLetterFilter::new()).await.expect("discard_all");
    }
}

/// What is leased, what is dead, and what is free, is so again after a call that failed.
async fn failures<H: FaultHarness>(
    h: &Arc<H>,
    held: &[Leased],
    dead: EventId,
    fault: &Fault,
    times: u32,
) -> [(&'static str, Option<Error>); 9]
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let (store, all, leases) = (h.store(), DeadLetterFilter::new(), leases(held));
    let simple: Vec<Settlement> = leases.iter().copied().map(Settlement::delivered).collect();
    [
        ("claim", failure(h, fault, times, store.claim(&Claim::new("a worker").with_lease(LEASE))).await),
        ("renew", failure(h, fault, times, store.renew(&leases, LEASE)).await),
        ("settle", failure(h, fault, times, store.settle(&of_every_outcome(held))).await),
        ("settle as delivered", failure(h, fault, times, store.settle(&simple)).await),
        ("acknowledge", failure(h, fault, times, store.acknowledge(held[0].event.id())).await),
        ("requeue", failure(h, fault, times, store.requeue(dead)).await),
        ("requeue_all", failure(h, fault, times, store.requeue_all(&all)).await),
        ("discard", failure(h, fault, times, store.discard(dead)).await),
        ("discard_all", failure(h, fault, times, store.discard_all(&all)).await),
    ]
}

/// 9.6: what the store promises to ask for again, because nobody knows whether it was done, it asks for until it knows.
///
/// Only some engines leave that open, and still answer.
pub async fn what_nobody_knows_is_asked_for_again<H: FaultHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const ASKED: &str = "it is asked for again";
    let store = h.store();
    for fault in h.faults().into_iter().filter(Fault::is_asked_again) {
        let (asked, batch) = (Claim::new("a worker").with_lease(LEASE), of_four_keys());
        save_all(&h, &batch).await;
        let failed = failure(&h, &fault, WITHOUT_END, store.claim(&asked)).await;
        assert_is(&failed.expect("it stays unknown"), &fault);
        h.fail(&fault, 2).await;
        let held = bounded(store.claim(&asked)).await.expect(ASKED);
        assert_eq!(leased_ids(&held), ids(&batch));
        h.fail(&fault, 2).await;
        assert_all_took(&bounded(store.renew(&leases(&held), LEASE)).await.expect(ASKED));
        h.fail(&fault, 2).await;
        assert_all_took(&bounded(store.settle(&of_every_outcome(&held))).await.expect(ASKED));
        h.fail(&fault, 2).await;
        assert!(bounded(store.requeue(batch[2].id())).await.expect(ASKED));
        h.fail(&fault, 2).await;
        bounded(store.acknowledge(batch[1].id())).await.expect(ASKED);
        heal(&h, &fault).await;
        assert_eq!(pending_ids(&h).await, ids(&batch[2..]));
        acknowledge_all(&h, &ids(&batch)).await;

        let died = dead_letters(&h, 2).await;
        h.fail(&fault, 2).await;
        assert!(bounded(store.discard(died[0])).await.expect(ASKED));
        h.fail(&fault, 2).await;
        assert_eq!(bounded(store.discard_all(&DeadLetterFilter::new())).await.expect(ASKED), 1);
        heal(&h, &fault).await;
        assert!(dead(&h).await.is_empty());
    }
}

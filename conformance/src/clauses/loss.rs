//! Section 9.3: what somebody has dropped beside the events.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, SchemaStore, Settlement,
};

use super::claim::{LEASE, claim, drained, keyed, leased_ids, settled};
use crate::{
    Loss, LossHarness,
    support::{event, ids, pending_ids, save, save_all},
};

const HOUR: Duration = Duration::from_hours(1);

/// Asks for what is there after a loss: it is told of, and `migrate` puts it back, once for all.
async fn put_back<H: LossHarness>(h: &Arc<H>, loss: Loss, way: usize)
where
    H::Store: SchemaStore + ClaimStore,
{
    let report = h.store().verify().await.expect("verify");
    assert!(!report.is_current(), "in way {way} nothing is said to be lost");
    for problem in report.problems() {
        assert!(problem.contains("migrate"), "in way {way} it is not said what to do: {problem}");
    }
    if loss.is_seen_by_claims {
        let error = h.peer().await.claim(&Claim::new("w").with_lease(LEASE)).await;
        let error = error.expect_err("a claim goes on without what is lost");
        assert_eq!(error.kind(), ErrorKind::Schema, "in way {way}: {error}");
        assert!(error.to_string().contains("migrate"), "in way {way} it is not said what to do: {error}");
    }
    for _ in 0..2 {
        h.store().migrate().await.expect("migrate");
        let report = h.store().verify().await.expect("verify");
        assert!(report.is_current(), "in way {way} it is not put back: {report}");
    }
}

/// Delivers all of these, and asks that each key goes on in its order, as far as it does: first without what waits, then with it,
/// and at last with what is requeued, which comes first where it may hold its key no more.
async fn assert_delivered_in_order<H: LossHarness>(h: &Arc<H>, all: &[Event], loss: Option<Loss>, way: usize)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut steps = ["now", "later", "requeued"];
    if loss.is_some_and(|loss| !loss.keeps_holds) {
        steps.rotate_right(1);
    }
    let mut delivered: Vec<EventId> = Vec::new();
    for step in steps {
        match step {
            "later" => h.advance(HOUR * 2).await,
            "requeued" => {
                h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all");
            }
            _ => {}
        }
        delivered.extend(drained(h, 10).await);
        for event in all {
            let of_key = |other: &&Event| other.partition_key() == event.partition_key();
            let expected: Vec<EventId> = match event.partition_key() {
                Some(_) => all.iter().filter(of_key).map(Event::id).collect(),
                None => vec![event.id()],
            };
            let got: Vec<EventId> = delivered.iter().filter(|id| expected.contains(id)).copied().collect();
            assert!(expected.starts_with(&got), "in way {way}, {step}: {got:?} came of {expected:?}");
            assert!(step != steps[2] || got == expected, "in way {way} only {got:?} of {expected:?} came");
        }
    }
    assert!(pending_ids(h).await.is_empty(), "in way {way} some are left");
}

/// 9.3 and 9.4: `verify` says what is lost and what to do; `migrate` puts it back, and neither an event nor the order of a key is lost,
/// whatever becomes of what was known of leases, retries and holds.
pub async fn what_is_lost_is_told_of_and_no_event_is_lost_with_it<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore,
{
    for way in 0.. {
        let keys = ["waits", "held", "leased", "ready"];
        let mut all: Vec<Event> = keys.iter().cycle().take(12).map(|key| keyed(key, "keyed")).collect();
        all.push(event("alone"));
        save_all(&h, &all).await;
        let first = claim(&h, 4).await;
        assert_eq!(leased_ids(&first), ids(&all[..4]));
        settled(
            &h,
            [
                Settlement::retry(first[0].lease, HOUR, "failed"),
                Settlement::dead_letter_holding_key(first[1].lease, "failed"),
                Settlement::retry(first[3].lease, Duration::ZERO, "failed"),
            ],
        )
        .await;
        // It meets what waits.
        let next = claim(&h, 10).await;
        settled(&h, next.iter().map(|one| Settlement::released(one.lease))).await;
        let Some(loss) = h.lose(way).await else {
            assert!(way > 0, "there is a way at least");
            return;
        };
        put_back(&h, loss, way).await;
        assert_delivered_in_order(&h, &all, Some(loss), way).await;
    }
}

/// 9.3: an event that waits for its next try, with nothing behind it or one event of its key, is not lost either.
pub async fn what_waits_alone_is_not_lost<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore,
{
    for all in
        [vec![event("alone")], vec![keyed("k", "first")], vec![keyed("k", "first"), keyed("k", "behind")]]
    {
        for way in 0.. {
            let all: Vec<Event> = all.iter().map(|event| event.clone().with_id(EventId::new())).collect();
            save_all(&h, &all).await;
            let leased = claim(&h, 1).await;
            settled(&h, [Settlement::retry(leased[0].lease, HOUR, "failed")]).await;
            assert!(claim(&h, 10).await.is_empty(), "it waits");
            let loss = h.lose(way).await;
            if let Some(loss) = loss {
                put_back(&h, loss, way).await;
            }
            assert_delivered_in_order(&h, &all, loss, way).await;
            if loss.is_none() {
                assert!(way > 0, "there is a way at least");
                break;
            }
        }
    }
}

/// 9.3 and 8.4: what a dead letter holds is not handed out before that one, unless it has come back.
pub async fn what_is_held_alone_is_not_overtaken<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore,
{
    for way in 0.. {
        let first = keyed("k", "first");
        save(&h, &first).await;
        let leased = claim(&h, 1).await;
        settled(&h, [Settlement::dead_letter_holding_key(leased[0].lease, "failed")]).await;
        let Some(loss) = h.lose(way).await else {
            assert!(way > 0, "there is a way at least");
            return;
        };
        put_back(&h, loss, way).await;
        let behind = keyed("k", "behind");
        save(&h, &behind).await;
        assert_delivered_in_order(&h, &[first, behind], Some(loss), way).await;
    }
}

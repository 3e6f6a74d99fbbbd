//! Section 9.3: what somebody has dropped beside the events.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, Leased, SchemaStore,
    Settlement, StatsStore,
};

use super::{
    claim::{claim, claim_soon, delivered, drained, keyed, leased_ids, of_a_worker, settled},
    dead_letter::dead,
};
use crate::{
    Loss, LossHarness,
    support::{event, ids, save_all},
};

const HOUR: Duration = Duration::from_hours(1);

/// Asks for what is there after a loss: it is told of, and `migrate` puts it back.
async fn put_back<H: LossHarness>(h: &Arc<H>, loss: Loss, way: usize)
where
    H::Store: SchemaStore + ClaimStore,
{
    let report = h.store().verify().await.expect("verify");
    assert!(report.to_string().contains(loss.name), "in way {way} `{}` is not said: {report}", loss.name);
    for problem in report.problems() {
        assert!(problem.contains("migrate"), "in way {way} it is not said what to do: {problem}");
    }
    if loss.is_seen_by_claims {
        let error = h.peer().await.claim(&of_a_worker(10)).await;
        let error = error.expect_err("a claim goes on without what is lost");
        assert_eq!(error.kind(), ErrorKind::Schema, "in way {way}: {error}");
        assert!(error.to_string().contains("migrate"), "in way {way} it is not said what to do: {error}");
    }
    assert_migrated(h, way).await;
    // Once for all, whether it is made again at once or when all is delivered.
    if !way.is_multiple_of(2) {
        assert_migrated(h, way).await;
    }
}

/// Whether a migration leaves all as it is to be.
async fn assert_migrated<H: LossHarness>(h: &Arc<H>, way: usize)
where
    H::Store: SchemaStore,
{
    h.store().migrate().await.expect("migrate");
    let report = h.store().verify().await.expect("verify");
    assert!(report.is_current(), "in way {way} it is not put back: {report}");
}

/// Requeues all dead letters, together or by their ids.
async fn requeue<H: LossHarness>(h: &Arc<H>, together: bool)
where
    H::Store: DeadLetterStore,
{
    let all = DeadLetterFilter::new();
    if together {
        h.store().requeue_all(&all).await.expect("requeue_all");
        return;
    }
    for letter in dead(h, all).await {
        assert!(h.store().requeue(letter.id).await.expect("requeue"), "{} is not found", letter.id);
    }
}

/// Delivers all events of these keys, and asks that each goes on in its order, as far as it does: first without what waits, then with
/// it, and at last with what is requeued, which comes first where it may hold its key no more.
async fn assert_delivered_in_order<H: LossHarness>(
    h: &Arc<H>,
    keys: &[(When, Vec<EventId>)],
    loss: Option<Loss>,
    way: usize,
) where
    H::Store: ClaimStore + DeadLetterStore + StatsStore,
{
    let keeps = loss.is_none_or(|loss| loss.keeps_what_waits);
    let steps = if keeps { ["now", "later", "requeued"] } else { ["requeued", "now", "later"] };
    let mut came: Vec<EventId> = Vec::new();
    for step in steps {
        match step {
            "later" => h.advance(HOUR * 2).await,
            "requeued" => requeue(h, way.is_multiple_of(2)).await,
            _ => {}
        }
        came.extend(drained(h, 10).await);
        // Behind leases that have just begun there may be more.
        let due = keys.iter().filter(|(when, _)| when.is_due(step)).map(|(_, all)| all.len()).sum();
        let is_ours = |id: &&EventId| keys.iter().any(|(_, all)| all.contains(id));
        while came.iter().filter(is_ours).count() < due {
            let leased = claim_soon(h.store(), &of_a_worker(10)).await;
            assert!(!leased.is_empty(), "in way {way}, {step}: some have not come");
            delivered(h, &leased).await;
            came.extend(leased_ids(&leased));
        }
        for (when, all) in keys {
            let got: Vec<EventId> = came.iter().filter(|id| all.contains(id)).copied().collect();
            assert!(all.starts_with(&got), "in way {way}, {step}: {got:?} came of {all:?}");
            if step == steps[2] || keeps && when.is_due(step) {
                assert_eq!(got, *all, "in way {way}, {step}: some have not come");
            }
            if keeps && when.is_to_wait(step) {
                assert_eq!(got, [], "in way {way}, {step}: it was to wait");
            }
        }
    }
    let stats = h.store().stats().await.expect("stats");
    assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0), "in way {way} some are left");
}

/// When the events of a key come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    /// When a retry is due.
    Later,
    /// When a dead letter is requeued.
    Requeued,
    /// When a lease has run out, or at once where it is lost.
    AnyTime,
}

impl When {
    fn is_due(self, step: &str) -> bool {
        match self {
            Self::Now => true,
            Self::Later | Self::AnyTime => step == "later",
            Self::Requeued => false,
        }
    }

    fn is_to_wait(self, step: &str) -> bool {
        step == "now" && self == Self::Later || step != "requeued" && self == Self::Requeued
    }
}

/// 9.3 and 9.4: `verify` says what is lost and what to do; `migrate` puts it back, and neither an event nor the order of a key is lost,
/// whatever becomes of what was known of leases, retries and holds.
pub async fn what_is_lost_is_told_of_and_no_event_is_lost_with_it<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    for way in 0.. {
        let keys = [
            ("waits", When::Later),
            ("held", When::Requeued),
            ("leased", When::AnyTime),
            ("ready", When::Now),
        ];
        let mut all: Vec<Event> = keys.iter().cycle().take(12).map(|(key, _)| keyed(key, "keyed")).collect();
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
        let of_key = |key: &str| -> Vec<EventId> {
            all.iter().filter(|event| event.partition_key() == Some(key)).map(Event::id).collect()
        };
        let mut expected: Vec<_> = keys.iter().map(|(key, when)| (*when, of_key(key))).collect();
        expected.push((When::Now, vec![all[12].id()]));
        assert_delivered_in_order(&h, &expected, Some(loss), way).await;
        assert_migrated(&h, way).await;
    }
}

/// Has the first of these events, which are alone, fail in this way, and asks for them when something is lost.
async fn assert_not_lost<H: LossHarness>(
    h: &Arc<H>,
    events: impl Fn() -> Vec<Event>,
    when: When,
    failed: impl Fn(&Leased) -> Settlement,
) where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    for way in 0.. {
        let all = events();
        save_all(h, &all).await;
        let leased = claim(h, 1).await;
        assert_eq!(leased_ids(&leased), [all[0].id()]);
        settled(h, [failed(&leased[0])]).await;
        assert!(claim(h, 10).await.is_empty(), "what comes next waits");
        let loss = h.lose(way).await;
        if let Some(loss) = loss {
            put_back(h, loss, way).await;
        }
        assert_delivered_in_order(h, &[(when, ids(&all))], loss, way).await;
        assert_migrated(h, way).await;
        if loss.is_none() {
            assert!(way > 0, "there is a way at least");
            return;
        }
    }
}

/// 9.3: an event that waits for its next try, with nothing behind it or one event of its key, is not lost either.
pub async fn what_waits_alone_is_not_lost<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    let failed = |leased: &Leased| Settlement::retry(leased.lease, HOUR, "failed");
    assert_not_lost(&h, || vec![event("alone")], When::Later, failed).await;
    assert_not_lost(&h, || vec![keyed("k", "first")], When::Later, failed).await;
    assert_not_lost(&h, || vec![keyed("k", "first"), keyed("k", "behind")], When::Later, failed).await;
}

/// 9.3 and 8.4: what a dead letter holds is not handed out before that one, unless it may hold its key no more.
pub async fn what_is_held_alone_is_not_overtaken<H: LossHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore + StatsStore,
{
    let failed = |leased: &Leased| Settlement::dead_letter_holding_key(leased.lease, "failed");
    assert_not_lost(&h, || vec![keyed("k", "first")], When::Requeued, failed).await;
    assert_not_lost(&h, || vec![keyed("k", "first"), keyed("k", "behind")], When::Requeued, failed).await;
}

//! Section 6.4: what the engine deletes by itself.

use std::{sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, InboxStore, OutboxStore, Receipt,
    SchemaStore, Settlement,
};

use super::claim::{leased_ids, settled};
use crate::{
    ExpiryHarness,
    support::{acknowledge_all, event, events, ids, kept, pending_ids, save, save_all},
};

const HOUR: Duration = Duration::from_secs(3600);

/// 6.4, 6.1, 6.2 and 2.7: the engine deletes what was delivered long enough ago, its idempotency keys too, and
/// nothing else.
pub async fn the_engine_deletes_what_was_delivered_long_enough_ago<H: ExpiryHarness>(h: Arc<H>)
where
    H::Store: SchemaStore + ClaimStore + DeadLetterStore,
{
    let (store, _) = h.expiring(Some(HOUR));
    store.migrate().await.expect("migrate");
    let (in_flight, young, open) = (event("in flight"), events(2), events(2));
    let old: Vec<Event> = events(2)
        .into_iter()
        .map(|event| event.with_idempotency_key(uuid::Uuid::now_v7().to_string()))
        .collect();
    save(&h, &in_flight).await;
    let claim = Claim::new("a worker").with_limit(1).with_lease(HOUR * 3);
    let leased = h.store().claim(&claim).await.expect("claim");
    assert_eq!(leased_ids(&leased), [in_flight.id()]);
    let hidden = event("hidden").with_not_before(h.now().await + HOUR * 3);
    let broken = EventId::new();
    for batch in [&old, &young, &open] {
        save_all(&h, batch).await;
    }
    save(&h, &hidden).await;
    h.insert_undecodable(broken).await;
    assert_eq!(pending_ids(&h).await.len(), 6, "what cannot be decoded is set aside");
    acknowledge_all(&h, &ids(&old)).await;
    h.advance(HOUR * 2).await;
    acknowledge_all(&h, &ids(&young)).await;
    h.expire().await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2), "the young ones are left");
    assert_eq!(pending_ids(&h).await, ids(&open));
    let letters = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [broken]);
    settled(&h, [Settlement::delivered(leased[0].lease)]).await;
    h.advance(HOUR).await;
    assert_eq!(pending_ids(&h).await, [ids(&open), vec![hidden.id()]].concat());
    save_all(&h, &old).await;
}

/// 6.4 and 12.1: so it does with marks of the inbox.
pub async fn the_engine_deletes_marks_that_are_old_enough<H: ExpiryHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    let (_, inbox) = h.expiring(Some(HOUR));
    inbox.migrate().await.expect("migrate");
    let process = async |event| {
        let mut transaction = h.begin().await;
        let receipt = inbox.process_once(h.session(&mut transaction), "consumer", event).await;
        h.commit(transaction).await;
        receipt.expect("process_once")
    };
    let (old, young) = (EventId::new(), EventId::new());
    assert_eq!(process(old).await, Receipt::New);
    h.advance(HOUR * 2).await;
    assert_eq!(process(young).await, Receipt::New);
    h.expire().await;
    assert_eq!((process(old).await, process(young).await), (Receipt::New, Receipt::Duplicate));
}

/// 6.4 and 9.4: the engine does as the owner said last, and verify says where it does not.
pub async fn the_engine_is_told_what_the_owner_said_last<H: ExpiryHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
    H::Inbox: SchemaStore,
{
    let batch = events(2);
    save_all(&h, &batch).await;
    assert_eq!(h.told().await, (None, None), "nobody has asked for it");
    let half = Duration::from_millis(1500);
    let ways =
        [Some(HOUR), Some(HOUR), Some(HOUR * 2), Some(half), None, None, Some(Duration::MAX), Some(HOUR)];
    for after in ways {
        let before = h.told().await;
        let (store, inbox) = h.expiring(after);
        for (schema, told) in [(&store as &dyn SchemaStore, before.0), (&inbox, before.1)] {
            let report = schema.verify().await.expect("verify");
            assert_eq!(
                report.is_current(),
                is_told(told, after),
                "{after:?}, and it was told {told:?}: {report}"
            );
        }
        assert_eq!(h.told().await, before, "it is told without a migration");
        for schema in [&store as &dyn SchemaStore, &inbox] {
            for _ in 0..2 {
                schema.migrate().await.expect("migrate");
            }
            let report = schema.verify().await.expect("verify");
            assert!(report.is_current(), "{after:?}: {report}");
        }
        let told = h.told().await;
        assert!(is_told(told.0, after) && is_told(told.1, after), "{told:?}, and not {after:?}");
        // One that has another opinion works all the same.
        assert_eq!(pending_ids(&h).await, ids(&batch));
    }
    h.expiring(Some(HOUR * 2)).0.migrate().await.expect("migrate");
    assert_eq!(h.told().await, (Some(HOUR * 2), Some(HOUR)), "the outbox speaks for itself");
    h.expiring(None).1.migrate().await.expect("migrate");
    assert_eq!(h.told().await, (Some(HOUR * 2), None), "the inbox speaks for itself");
}

/// 6.4 and 9.3: many may say it at once, also where it is something else than before.
pub async fn many_may_tell_the_engine_at_once<H: ExpiryHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
    H::Inbox: SchemaStore,
{
    for after in [Some(HOUR), Some(HOUR * 2), None, Some(HOUR), None] {
        let mut migrations = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, inbox) = h.expiring(after);
            migrations.spawn(async move {
                let (told, marked) = tokio::join!(store.migrate(), inbox.migrate());
                told.and(marked)
            });
        }
        for outcome in migrations.join_all().await {
            outcome.expect("each of them finds it told");
        }
        let told = h.told().await;
        assert!(is_told(told.0, after) && is_told(told.1, after), "{told:?}, and not {after:?}");
    }
}

/// 6.4 and 9.3: what was said of an outbox or an inbox before it was given its name is said of that name.
pub async fn another_name_keeps_the_time_to_live<H: ExpiryHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
    H::Inbox: SchemaStore,
{
    for after in [Some(HOUR), None, Some(HOUR * 2)] {
        let (store, inbox) = h.expiring_elsewhere(after, "elsewhere");
        for schema in [&store as &dyn SchemaStore, &inbox] {
            schema.migrate().await.expect("migrate");
        }
        for said in [Some(HOUR), None, Some(HOUR * 2)] {
            let (store, inbox) = h.expiring_elsewhere(said, "elsewhere");
            for schema in [&store as &dyn SchemaStore, &inbox] {
                let report = schema.verify().await.expect("verify");
                assert_eq!(
                    report.is_current(),
                    said == after,
                    "{said:?}, and it was told {after:?}: {report}"
                );
            }
        }
    }
    assert_eq!(h.told().await, (None, None), "those of other names were told");
}

/// An engine may count in whole seconds, and have a longest time: it never deletes earlier, but for that.
fn is_told(told: Option<Duration>, after: Option<Duration>) -> bool {
    const LONG: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);
    match (told, after) {
        (Some(told), Some(after)) => {
            (after..after.saturating_add(Duration::from_secs(1))).contains(&told)
                || (after > LONG && told > LONG)
        }
        (told, after) => told == after,
    }
}

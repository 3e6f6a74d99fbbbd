//! What takes two sessions that write at once. An engine with one writer, such as SQLite, makes the second wait
//! and leaves this group out; its guarantee table says so.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{OutboxStore, Saved};
use uuid::Uuid;

use super::outage::bounded;
use crate::{
    Harness,
    support::{
        WAYS, acknowledge_all, event, events, ids, kept, pending_ids, retried, save, save_all, saved_by,
    },
};

/// 3.3 and 6.3: a transaction held open for long delays only its own events; no others wait for it, however many they are.
pub async fn a_long_transaction_delays_only_its_own_events<H: Harness>(h: Arc<H>) {
    let (slow, quick) = (event("slow"), event("quick"));
    let mut long = h.begin().await;
    h.write_row("slow", h.session(&mut long)).await;
    h.store().save_in_session(&slow, h.session(&mut long)).await.expect("save_in_session");
    save(&h, &quick).await;
    let mut short = h.begin().await;
    let in_session = event("quick, in a session");
    h.store().save_in_session(&in_session, h.session(&mut short)).await.expect("save_in_session");
    h.commit(short).await;
    assert_eq!(pending_ids(&h).await, [quick.id(), in_session.id()]);
    // More than an engine looks up by a list, where that is short.
    let many = events(1100);
    bounded(save_all(&h, &many)).await;
    bounded(acknowledge_all(&h, &ids(&many))).await;
    assert_eq!(bounded(h.store().purge(Duration::ZERO)).await.expect("purge"), kept(&h, 1100));
    h.rollback(long).await;
    assert_eq!(pending_ids(&h).await, [quick.id(), in_session.id()]);
}

/// 3.1: no event is ever skipped because another, saved later, was committed and delivered first.
pub async fn an_event_that_commits_late_is_not_skipped<H: Harness>(h: Arc<H>) {
    let (late, early) = (event("late"), event("early"));
    let mut first = h.begin().await;
    h.store().save_in_session(&late, h.session(&mut first)).await.expect("save_in_session");
    let mut second = h.begin().await;
    h.store().save_in_session(&early, h.session(&mut second)).await.expect("save_in_session");
    h.commit(second).await;
    assert_eq!(pending_ids(&h).await, [early.id()]);
    acknowledge_all(&h, &[early.id()]).await;
    assert!(pending_ids(&h).await.is_empty());
    h.commit(first).await;
    assert_eq!(pending_ids(&h).await, [late.id()]);
}

/// 2.6: an id that an open session has saved is free again when that session rolls back.
pub async fn an_id_of_a_rolled_back_session_is_free<H: Harness>(h: Arc<H>) {
    let one = event("one").with_idempotency_key("key");
    let mut transaction = h.begin().await;
    h.store().save_in_session(&one, h.session(&mut transaction)).await.expect("save_in_session");
    let waiting = tokio::spawn({
        let (h, one) = (Arc::clone(&h), one.clone());
        async move { crate::support::retried(|| h.store().save(&one)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    h.rollback(transaction).await;
    assert_eq!(waiting.await.expect("the second writer"), Saved::Stored);
    assert_eq!(pending_ids(&h).await, [one.id()]);
}

/// 2.6 and 2.7: what an open session has saved is a duplicate to nobody else, however it is saved and whether it has the same id or
/// the same idempotency key alone: it is stored when that session rolls back.
pub async fn what_an_open_session_has_saved_is_no_duplicate<H: Harness>(h: Arc<H>) {
    for way in 0..WAYS {
        let keyed = |name: &str| event(name).with_idempotency_key(format!("key {way}"));
        let (first, same_key) = (keyed("first"), keyed("of the same key"));
        for other in [event("of the same id").with_id(first.id()), same_key] {
            let mut open = h.begin().await;
            h.store().save_in_session(&first, h.session(&mut open)).await.expect("save_in_session");
            let waiting = tokio::spawn({
                let (h, other) = (Arc::clone(&h), other.clone());
                async move { retried(|| saved_by(&h, &other, way)).await }
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            h.rollback(open).await;
            assert_eq!(bounded(waiting).await.expect("the second writer"), Saved::Stored);
            assert_eq!(pending_ids(&h).await, [other.id()]);
            acknowledge_all(&h, &[other.id()]).await;
            // The id and the key are free for the next.
            h.store().purge(Duration::ZERO).await.expect("purge");
        }
    }
}

/// 2.6: a batch answers for each event also of what another session had saved before it, and commits while the batch waits.
pub async fn a_batch_answers_for_what_is_committed_meanwhile<H: Harness>(h: Arc<H>) {
    let there = event("there").with_idempotency_key("key");
    let mut open = h.begin().await;
    h.store().save_in_session(&there, h.session(&mut open)).await.expect("save_in_session");
    let same_key = event("of the same key").with_idempotency_key("key");
    let batch = [event("new"), there.clone(), same_key, event("new, too")];
    let waiting = tokio::spawn({
        let (h, batch) = (Arc::clone(&h), batch.clone());
        async move { crate::support::retried(|| h.store().save_all(&batch)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    h.commit(open).await;
    let saved = bounded(waiting).await.expect("the second writer");
    assert_eq!(saved, [Saved::Stored, Saved::Duplicate, Saved::Duplicate, Saved::Stored]);
    assert_eq!(pending_ids(&h).await, [there.id(), batch[0].id(), batch[3].id()]);
}

/// 3.3 and 2.6: nor does one that has saved what is there already: that event goes its way, and others are saved.
pub async fn a_duplicate_in_an_open_session_delays_nobody<H: Harness>(h: Arc<H>) {
    const HIDDEN: Duration = Duration::from_secs(60);
    for key in ["one", "two"] {
        let until = h.now().await + TimeDelta::from_std(HIDDEN).expect("a minute");
        let hidden = event("hidden").with_idempotency_key(key).with_not_before(until);
        let (there, others) = (event("there"), events(2));
        save(&h, &hidden).await;
        save(&h, &there).await;
        save_all(&h, &others).await;
        // It is due, and nobody has looked yet.
        h.advance(HIDDEN).await;
        let mut open = h.begin().await;
        for again in [hidden.clone(), event("another").with_idempotency_key(key), there.clone()] {
            let saved = h.store().save_in_session(&again, h.session(&mut open)).await;
            assert_eq!(saved.expect("save_in_session"), Saved::Duplicate);
        }
        let batch = [event("new"), there.clone(), event("new, too")];
        let saved = h.store().save_all_in_session(&batch, h.session(&mut open)).await;
        assert_eq!(saved.expect("save_all_in_session"), [Saved::Stored, Saved::Duplicate, Saved::Stored]);
        let all = [vec![hidden.id(), there.id()], ids(&others)].concat();
        assert_eq!(bounded(pending_ids(&h)).await, all, "what is due is held up by a session that is open");
        for _ in 0..10 {
            // Wherever in an index it would be.
            let id = Uuid::from_u128(Uuid::now_v7().as_u128().rotate_left(64));
            let fresh = event("fresh").with_id(id).with_idempotency_key(id.to_string());
            bounded(save(&h, &fresh)).await;
            bounded(acknowledge_all(&h, &[fresh.id()])).await;
        }
        bounded(acknowledge_all(&h, &all)).await;
        h.rollback(open).await;
        assert_eq!(pending_ids(&h).await, []);
    }
}

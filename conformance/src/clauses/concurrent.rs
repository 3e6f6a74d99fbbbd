//! What takes two sessions that write at once. An engine with one writer, such as SQLite, makes the second wait
//! and leaves this group out; its guarantee table says so.

use std::sync::Arc;

use outbox_traits::OutboxStore;

use crate::{
    Harness,
    support::{acknowledge_all, event, pending_ids, save},
};

/// 3.3: a transaction held open for long delays only its own events.
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
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    h.rollback(transaction).await;
    assert_eq!(waiting.await.expect("the second writer"), outbox_traits::Saved::Stored);
    assert_eq!(pending_ids(&h).await, [one.id()]);
}

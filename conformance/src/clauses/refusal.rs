//! Sections 2.5, 2.6 and 2.8: what the engine refuses for reasons that are not the outbox's.

use std::sync::Arc;

use outbox_traits::{Error, ErrorKind, Event, OutboxStore};
use serde_json::json;

use crate::{
    RefusalHarness,
    support::{event, events, ids, pending, pending_ids, rows, save, save_all},
};

fn of_type(event_type: &str) -> Event {
    Event::new(event_type, json!({})).expect("valid")
}

/// Neither a duplicate, nor the schema, nor something that another try helps.
#[track_caller]
fn assert_refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(!error.is_retryable(), "another try would be refused as well: {error}");
    assert!(!error.to_string().contains("migrate"), "nothing is wrong with the schema: {error}");
    assert!(std::error::Error::source(error).is_some(), "the driver's error is gone: {error:?}");
}

/// 2.5 and 2.8: an event that the engine refuses is an error, and nothing of its batch is stored, however long it is and
/// whatever duplicates are in it.
pub async fn what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored<H: RefusalHarness>(h: Arc<H>) {
    const REFUSED: &str = "suite.refused";
    let known = event("known");
    save(&h, &known).await;
    h.refuse(REFUSED).await;
    assert_refused(&h.store().save(&of_type(REFUSED)).await.expect_err("it is refused"));
    for length in [0, 1, 2, 7, 40, 200, 1000, 10_000] {
        for has_duplicate in [false, true] {
            let duplicate = has_duplicate.then(|| known.clone());
            let batch: Vec<Event> =
                duplicate.into_iter().chain(events(length)).chain([of_type(REFUSED)]).collect();
            assert_refused(&h.store().save_all(&batch).await.expect_err("one of them is refused"));
            assert_eq!(
                pending(&h).await,
                std::slice::from_ref(&known),
                "a part of a batch of {} is stored",
                batch.len()
            );
        }
    }
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    h.write_row("beside", session).await;
    assert_refused(&h.store().save_in_session(&of_type(REFUSED), session).await.expect_err("it is refused"));
    assert!(rows(&h).await.is_empty(), "the store has committed");
    h.rollback(transaction).await;
    assert!(rows(&h).await.is_empty(), "the store has committed");
    let mut transaction = h.begin().await;
    let batch = [event("beside"), of_type(REFUSED)];
    let saved = h.store().save_all_in_session(&batch, h.session(&mut transaction)).await;
    assert_refused(&saved.expect_err("one of them is refused"));
    h.rollback(transaction).await;
    let after = events(3);
    save_all(&h, &after).await;
    assert_eq!(pending_ids(&h).await, [vec![known.id()], ids(&after)].concat());
}

/// 2.5 and 2.8: of a batch that the engine refused in a session nothing is stored, though the caller commits.
pub async fn nothing_of_a_refused_batch_is_left_in_its_session<H: RefusalHarness>(h: Arc<H>) {
    const REFUSED: &str = "suite.refused";
    let known = event("known");
    save(&h, &known).await;
    h.refuse(REFUSED).await;
    for length in [1, 2, 40, 130, 1001, 10_001] {
        for has_duplicate in [false, true] {
            let duplicate = has_duplicate.then(|| known.clone());
            let batch: Vec<Event> =
                duplicate.into_iter().chain(events(length)).chain([of_type(REFUSED)]).collect();
            let mut transaction = h.begin().await;
            let saved = h.store().save_all_in_session(&batch, h.session(&mut transaction)).await;
            assert_refused(&saved.expect_err("one of them is refused"));
            let committing = Arc::clone(&h);
            // Where the error has ended the session there is nothing to commit, as the harness may say by a panic.
            let _said = tokio::spawn(async move { committing.commit(transaction).await }).await;
            assert_eq!(
                pending(&h).await,
                std::slice::from_ref(&known),
                "a part of a batch of {} is stored",
                batch.len()
            );
        }
    }
}

/// 2.6: a duplicate that is not the outbox's, of its ids or idempotency keys, is an error: an event that is not there yet was
/// not stored.
pub async fn another_duplicate_is_an_error_and_not_an_outcome<H: RefusalHarness>(h: Arc<H>) {
    let mut way = 0;
    while h.collide("suite.collides", way).await {
        let collides = || of_type("suite.collides").with_idempotency_key(uuid::Uuid::now_v7().to_string());
        // It may be refused, too.
        let _first = h.store().save(&collides()).await;
        let before = pending_ids(&h).await;
        assert_refused(&h.store().save(&collides()).await.expect_err("it is refused"));
        for length in [0, 1, 40] {
            let batch: Vec<Event> = events(length).into_iter().chain([collides()]).collect();
            assert_refused(&h.store().save_all(&batch).await.expect_err("one of them is refused"));
        }
        let mut transaction = h.begin().await;
        let saved = h.store().save_in_session(&collides(), h.session(&mut transaction)).await;
        assert_refused(&saved.expect_err("it is refused"));
        h.rollback(transaction).await;
        let mut transaction = h.begin().await;
        let batch = [event("beside"), collides()];
        let saved = h.store().save_all_in_session(&batch, h.session(&mut transaction)).await;
        assert_refused(&saved.expect_err("one of them is refused"));
        h.rollback(transaction).await;
        assert_eq!(pending_ids(&h).await, before);
        way += 1;
    }
    assert!(way > 0, "there is no way in which the engine refuses a duplicate");
}

//! Section 2: save.

use std::{collections::HashSet, slice, sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{ErrorKind, Event, EventId, OutboxStore, OutboxStoreExt, Result, Saved};
use serde_json::json;

use crate::{
    Harness,
    support::{
        acknowledge, acknowledge_all, event, events, ids, kept, pending, pending_ids, retried, rows, save,
        save_all, saved_after_delivery,
    },
};

/// 2.1: a saved event is pending.
pub async fn a_saved_event_is_pending<H: Harness>(h: Arc<H>) {
    let saved = event("saved");
    save(&h, &saved).await;
    assert_eq!(pending(&h).await, [saved]);
}

/// 2.2: saved in a session, it is invisible to everyone else until the session commits, and then visible.
pub async fn an_event_saved_in_a_session_is_invisible_until_it_commits<H: Harness>(h: Arc<H>) {
    let (one, two) = (event("one"), events(3));
    let mut transaction = h.begin().await;
    h.store().save_in_session(&one, h.session(&mut transaction)).await.expect("save_in_session");
    h.store().save_all_in_session(&two, h.session(&mut transaction)).await.expect("save_all_in_session");
    assert!(pending(&h).await.is_empty(), "it is visible before the commit");
    h.commit(transaction).await;
    let mut all = vec![one];
    all.extend(two);
    assert_eq!(pending(&h).await, all);
}

/// 2.2, for what applications call: `enqueue` of an event and of several.
pub async fn enqueue_writes_in_the_session<H: Harness>(h: Arc<H>) {
    let (one, more) = (event("one"), events(2));
    let mut transaction = h.begin().await;
    let saved = h.store().enqueue(&one, h.session(&mut transaction)).await.expect("enqueue");
    assert_eq!(saved, Saved::Stored);
    let saved = h.store().enqueue_all(&more, h.session(&mut transaction)).await.expect("enqueue_all");
    assert_eq!(saved, [Saved::Stored; 2]);
    assert!(pending(&h).await.is_empty());
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, [one.id(), more[0].id(), more[1].id()]);
}

/// 2.3: rolled back, it never appears.
pub async fn a_rolled_back_event_never_appears<H: Harness>(h: Arc<H>) {
    let (one, many) = (event("one"), events(3));
    let mut transaction = h.begin().await;
    h.store().save_in_session(&one, h.session(&mut transaction)).await.expect("save_in_session");
    h.store().save_all_in_session(&many, h.session(&mut transaction)).await.expect("save_all_in_session");
    h.rollback(transaction).await;
    assert!(pending(&h).await.is_empty());
    // And the id is free again.
    save(&h, &one).await;
    assert_eq!(pending(&h).await, [one]);
}

/// 2.3: dropped without a commit, it never appears.
pub async fn a_dropped_session_leaves_nothing<H: Harness>(h: Arc<H>) {
    let dropped = event("dropped");
    let mut transaction = h.begin().await;
    h.store().save_in_session(&dropped, h.session(&mut transaction)).await.expect("save_in_session");
    h.write_row("dropped", h.session(&mut transaction)).await;
    drop(transaction);
    let after = event("after");
    retried(|| h.store().save(&after)).await;
    assert_eq!(pending(&h).await, [after]);
    assert!(rows(&h).await.is_empty());
}

/// 2.4: it shares the fate of the business rows written in the same session, both ways.
pub async fn an_event_shares_the_fate_of_the_business_rows<H: Harness>(h: Arc<H>) {
    let (kept, lost) = (event("kept"), event("lost"));
    for (event, key, commits) in [(&kept, "kept", true), (&lost, "lost", false)] {
        let mut transaction = h.begin().await;
        h.write_row(key, h.session(&mut transaction)).await;
        h.store().save_in_session(event, h.session(&mut transaction)).await.expect("save_in_session");
        h.write_row(&format!("{key} too"), h.session(&mut transaction)).await;
        if commits {
            h.commit(transaction).await;
        } else {
            h.rollback(transaction).await;
        }
    }
    assert_eq!(pending(&h).await, [kept]);
    assert_eq!(rows(&h).await, HashSet::from(["kept".to_owned(), "kept too".to_owned()]));
}

/// 2.5 and 3.4: several saves in one session keep their order.
pub async fn saves_in_one_session_keep_their_order<H: Harness>(h: Arc<H>) {
    let all = events(30);
    let mut transaction = h.begin().await;
    for (index, chunk) in all.chunks(5).enumerate() {
        if index % 2 == 0 {
            h.store()
                .save_all_in_session(chunk, h.session(&mut transaction))
                .await
                .expect("save_all_in_session");
        } else {
            for one in chunk {
                h.store().save_in_session(one, h.session(&mut transaction)).await.expect("save_in_session");
            }
        }
    }
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, ids(&all));
}

/// 2.5: `save_all` keeps the order of its slice, which is not that of the ids, also beyond one statement's
/// limits.
pub async fn save_all_keeps_the_order_of_its_slice<H: Harness>(h: Arc<H>) {
    assert!(h.store().save_all(&[]).await.expect("save_all of nothing").is_empty());
    let mut all = events(3000);
    all.reverse();
    save_all(&h, &all).await;
    assert_eq!(pending_ids(&h).await, ids(&all));
}

/// 2.5: a batch is not bounded by what one message of the engine holds, in bytes or in events: it is stored as a whole, in its
/// order.
pub async fn a_batch_larger_than_any_message_is_stored_as_a_whole<H: Harness>(h: Arc<H>) {
    let text = "x".repeat(1024 * 1024);
    let large: Vec<Event> = (0..18)
        .map(|number| Event::new("suite.large", json!({ "number": number, "text": text })).expect("valid"))
        .collect();
    save_all(&h, &large).await;
    let long = "k".repeat(9 * 1024);
    let many: Vec<Event> = (0..2100)
        .map(|number| event("one of many").with_idempotency_key(format!("{number} {long}")))
        .collect();
    let last = events(1);
    save_all(&h, &many[1..]).await;
    let all = [&many[..], &last].concat();
    let saved = h.store().save_all(&all).await.expect("save_all");
    let is_new = |index: usize| index == 0 || index == all.len() - 1;
    for (index, saved) in saved.into_iter().enumerate() {
        assert_eq!(saved == Saved::Stored, is_new(index), "event {index}");
    }
    let pending = pending_ids(&h).await;
    assert_eq!(pending, [ids(&large), ids(&many[1..]), ids(&many[..1]), ids(&last)].concat());
    acknowledge_all(&h, &pending).await;
    assert!(pending_ids(&h).await.is_empty());
}

/// 2.5: `save_all` saves all or, where one is invalid, none; in a session too.
pub async fn save_all_is_all_or_nothing<H: Harness>(h: Arc<H>) {
    let mut bad = events(20);
    bad[13].meta_mut().extra.insert("id".to_owned(), json!("shadows"));
    let refused = h.store().save_all(&bad).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidEvent, "{refused}");
    let mut transaction = h.begin().await;
    let refused =
        h.store().save_all_in_session(&bad, h.session(&mut transaction)).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidEvent, "{refused}");
    h.commit(transaction).await;
    assert!(pending(&h).await.is_empty(), "some of them were stored");
}

/// 2.6: saving an id that exists is `Duplicate`; the first event stays as it is.
pub async fn an_existing_id_is_a_duplicate_and_the_first_stays<H: Harness>(h: Arc<H>) {
    let first = event("first").with_header("which", "first");
    let second = event("second").with_id(first.id());
    save(&h, &first).await;
    assert_eq!(h.store().save(&second).await.expect("a duplicate is no error"), Saved::Duplicate);
    assert_eq!(pending(&h).await, slice::from_ref(&first));
    assert_eq!(h.store().save(&first).await.expect("a duplicate is no error"), Saved::Duplicate);
    assert_eq!(pending(&h).await, slice::from_ref(&first));
    // Also when it is delivered by now, and it stays delivered.
    acknowledge(&h, first.id()).await;
    let again = h.store().save(&second).await.expect("a duplicate is no error");
    assert_eq!(again, saved_after_delivery(&h));
    assert_eq!(pending(&h).await.is_empty(), again == Saved::Duplicate);
}

/// 2.6: a duplicate leaves the session usable, and it commits.
pub async fn a_duplicate_leaves_the_session_usable<H: Harness>(h: Arc<H>) {
    let first = event("first");
    save(&h, &first).await;
    let (before, after) = (event("before"), event("after"));
    let mut transaction = h.begin().await;
    h.write_row("before", h.session(&mut transaction)).await;
    h.store().save_in_session(&before, h.session(&mut transaction)).await.expect("save_in_session");
    for _ in 0..2 {
        let saved = h.store().save_in_session(&first, h.session(&mut transaction)).await;
        assert_eq!(saved.expect("a duplicate is no error"), Saved::Duplicate);
    }
    // Also one that this very session has saved.
    let saved = h.store().save_in_session(&before, h.session(&mut transaction)).await;
    assert_eq!(saved.expect("a duplicate is no error"), Saved::Duplicate);
    h.write_row("after", h.session(&mut transaction)).await;
    h.store().save_in_session(&after, h.session(&mut transaction)).await.expect("the session is usable");
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, [first.id(), before.id(), after.id()]);
    assert_eq!(rows(&h).await.len(), 2, "the business rows committed");
}

/// 2.6: a batch says for each event whether it was stored; of two with one id in it the first is.
pub async fn a_batch_answers_for_each_event<H: Harness>(h: Arc<H>) {
    let old = event("old");
    save(&h, &old).await;
    let (a, b) = (event("a"), event("b"));
    let again = event("a again").with_id(a.id());
    let batch = [a.clone(), old.clone(), again, b.clone(), b.clone()];
    let expected = [Saved::Stored, Saved::Duplicate, Saved::Duplicate, Saved::Stored, Saved::Duplicate];
    let mut transaction = h.begin().await;
    let saved = h.store().save_all_in_session(&batch, h.session(&mut transaction)).await.expect("no error");
    assert_eq!(saved, expected);
    h.rollback(transaction).await;
    assert_eq!(h.store().save_all(&batch).await.expect("no error"), expected);
    assert_eq!(pending(&h).await, [old, a, b]);
}

/// 2.7: an idempotency key that exists is `Duplicate` too, in whatever state its event is.
pub async fn an_idempotency_key_is_stored_once<H: Harness>(h: Arc<H>) {
    let keyed = |name: &str| event(name).with_idempotency_key("order-17");
    let first = keyed("first");
    save(&h, &first).await;
    assert_eq!(h.store().save(&keyed("while pending")).await.expect("no error"), Saved::Duplicate);
    let mut transaction = h.begin().await;
    let batch = [event("other"), keyed("in a batch"), keyed("in a batch again")];
    let saved = h.store().save_all_in_session(&batch, h.session(&mut transaction)).await.expect("no error");
    assert_eq!(saved, [Saved::Stored, Saved::Duplicate, Saved::Duplicate]);
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, [first.id(), batch[0].id()]);
    acknowledge_all(&h, &[first.id(), batch[0].id()]).await;
    let again = h.store().save(&keyed("once delivered")).await.expect("no error");
    assert_eq!(again, saved_after_delivery(&h));
    assert_eq!(pending(&h).await.is_empty(), again == Saved::Duplicate);
}

/// 2.7: keys are compared exactly: no case folding, no trimming, no cutting off.
pub async fn idempotency_keys_are_compared_exactly<H: Harness>(h: Arc<H>) {
    let long = "k".repeat(2000);
    let keys = ["key", "Key", "KEY", "key ", " key", "kéy", "ke\u{301}y", "", &long, &format!("{long}!")];
    for key in keys {
        let saved = h.store().save(&event(key).with_idempotency_key(key)).await.expect("save");
        assert_eq!(saved, Saved::Stored, "the key {key:?} is another");
    }
    for key in keys {
        let saved = h.store().save(&event(key).with_idempotency_key(key)).await.expect("save");
        assert_eq!(saved, Saved::Duplicate, "the key {key:?} is the same");
    }
    assert_eq!(pending(&h).await.len(), keys.len());
}

/// 2.7: purging frees the key, and the id.
pub async fn purging_frees_an_idempotency_key<H: Harness>(h: Arc<H>) {
    let first = event("first").with_idempotency_key("order-17");
    save(&h, &first).await;
    acknowledge(&h, first.id()).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
    let second = event("second").with_idempotency_key("order-17");
    save(&h, &second).await;
    let third = event("third").with_id(first.id());
    save(&h, &third).await;
    assert_eq!(pending(&h).await, [second, third]);
}

/// 2.8: after an error of the store the session is the caller's: neither committed nor rolled back.
pub async fn an_error_leaves_the_session_to_the_caller<H: Harness>(h: Arc<H>) {
    let mut bad = event("bad");
    bad.meta_mut().extra.insert("id".to_owned(), json!("shadows"));
    for commits in [true, false] {
        let good = event("good");
        let mut transaction = h.begin().await;
        h.write_row(&format!("row {commits}"), h.session(&mut transaction)).await;
        h.store().save_in_session(&good, h.session(&mut transaction)).await.expect("save_in_session");
        h.store().save_in_session(&bad, h.session(&mut transaction)).await.expect_err("refused");
        h.store()
            .save_all_in_session(&[bad.clone()], h.session(&mut transaction))
            .await
            .expect_err("refused");
        assert!(!rows(&h).await.contains(&format!("row {commits}")), "the store has committed");
        if commits {
            h.commit(transaction).await;
            assert_eq!(pending(&h).await, slice::from_ref(&good), "the store has rolled back");
            acknowledge(&h, good.id()).await;
        } else {
            h.rollback(transaction).await;
            assert!(pending(&h).await.is_empty(), "the store has committed");
        }
    }
    assert_eq!(rows(&h).await, HashSet::from(["row true".to_owned()]));
}

/// 2.9: `not_before` hides an event until then.
pub async fn an_event_is_hidden_until_its_time<H: Harness>(h: Arc<H>) {
    let now = h.now().await;
    let later = event("later").with_not_before(now + TimeDelta::seconds(2));
    let past = event("past").with_not_before(now - TimeDelta::days(1));
    let plain = event("plain");
    save_all(&h, &[later.clone(), past.clone(), plain.clone()]).await;
    let mut transaction = h.begin().await;
    let in_session = event("in a session").with_not_before(now + TimeDelta::seconds(2));
    h.store().save_in_session(&in_session, h.session(&mut transaction)).await.expect("save_in_session");
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, [past.id(), plain.id()]);
    h.advance(Duration::from_secs(4)).await;
    assert_eq!(pending_ids(&h).await, [later.id(), past.id(), plain.id(), in_session.id()]);
}

/// 2.9 and 4.1: however many they are, all of them are there from that time on, in the order of their saves.
pub async fn many_hidden_events_come_at_once_when_their_time_does<H: Harness>(h: Arc<H>) {
    let time = h.now().await + TimeDelta::hours(1);
    let many: Vec<Event> = events(2500).into_iter().map(|event| event.with_not_before(time)).collect();
    save_all(&h, &many).await;
    assert!(pending_ids(&h).await.is_empty());
    h.advance(Duration::from_hours(2)).await;
    assert_eq!(pending_ids(&h).await, ids(&many));
}

/// 2.9: the time itself comes back with the event.
pub async fn the_time_before_which_it_is_hidden_comes_back<H: Harness>(h: Arc<H>) {
    let now = h.now().await;
    let exact = [
        event("past").with_not_before(now - TimeDelta::milliseconds(1_234_567)),
        event("long past").with_not_before("1969-12-31T23:59:59.999Z".parse().expect("a time")),
    ];
    save_all(&h, &exact).await;
    assert_eq!(pending(&h).await, exact);
}

/// 1.6 and 2.9: so do the first and the last times that there are, unless they are refused.
pub async fn extreme_times_come_back_or_are_refused<H: Harness>(h: Arc<H>) {
    let at = |time: &str| event(time).with_not_before(time.parse().expect("a time"));
    let past = ["0001-01-01T00:00:00Z", "0001-02-03T04:05:06.789Z", "0999-12-31T23:59:59.999Z"];
    let past = past.into_iter().chain(["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z"]);
    let mut past: Vec<Event> = past.map(at).collect();
    save(&h, &past[0]).await;
    save_all(&h, &past[1..]).await;
    let last = at("9999-12-31T23:59:59.999Z");
    save_all(&h, &[last.clone(), last.clone().with_id(EventId::new())]).await;
    let first = at("0000-02-29T00:00:00Z");
    match h.store().save(&first).await {
        Ok(saved) => {
            assert_eq!(saved, Saved::Stored);
            past.push(first);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}"),
    }
    assert_eq!(pending(&h).await, past, "what lies in the past is due, and what is far off is not");
    acknowledge(&h, last.id()).await;
    acknowledge_all(&h, &ids(&past)).await;
    assert!(pending(&h).await.is_empty());
}

/// 2.9: while it waits, it can be acknowledged, and then never appears.
pub async fn a_hidden_event_can_be_acknowledged<H: Harness>(h: Arc<H>) {
    let later = event("later").with_not_before(h.now().await + TimeDelta::seconds(2));
    save(&h, &later).await;
    acknowledge(&h, later.id()).await;
    h.advance(Duration::from_secs(4)).await;
    assert!(pending(&h).await.is_empty());
}

/// 2.10: saves from many sessions at once lose nothing and duplicate nothing.
pub async fn saves_from_many_sessions_lose_and_duplicate_nothing<H: Harness>(h: Arc<H>) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let h = Arc::clone(&h);
        writers.spawn(async move {
            let mut saved: Vec<EventId> = Vec::new();
            for round in 0..EACH {
                let batch: Vec<Event> = events(1 + round % 3);
                let commits = round % 5 != 4;
                retried(|| save_in_one_session(&h, &batch, commits)).await;
                saved.extend(ids(&batch).into_iter().filter(|_| commits));
            }
            saved
        });
    }
    let mut committed = Vec::new();
    while let Some(saved) = writers.join_next().await {
        committed.extend(saved.expect("a writer"));
    }
    let read = pending_ids(&h).await;
    assert_eq!(read.len(), committed.len(), "as many as were committed");
    assert_eq!(read.into_iter().collect::<HashSet<_>>(), committed.into_iter().collect::<HashSet<_>>());
}

async fn save_in_one_session<H: Harness>(h: &Arc<H>, batch: &[Event], commits: bool) -> Result<()> {
    let mut transaction = h.begin().await;
    let outcome = h.store().save_all_in_session(batch, h.session(&mut transaction)).await?;
    assert!(outcome.iter().all(|one| *one == Saved::Stored));
    tokio::task::yield_now().await;
    if commits {
        return h.try_commit(transaction).await;
    }
    h.rollback(transaction).await;
    Ok(())
}

/// 2.6 and 2.10: of many that save one id or one idempotency key at once, exactly one is told `Stored`.
pub async fn of_many_that_save_one_key_at_once_one_is_stored<H: Harness>(h: Arc<H>) {
    for round in 0..5 {
        let key = format!("key {round}");
        let id = EventId::new();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..6 {
            let (h, key) = (Arc::clone(&h), key.clone());
            writers.spawn(async move {
                let one = event("one").with_idempotency_key(&key);
                let one = if writer % 2 == 0 { one.with_id(id) } else { one };
                retried(|| h.store().save(&one)).await
            });
        }
        let outcomes = writers.join_all().await;
        let stored = outcomes.iter().filter(|saved| **saved == Saved::Stored).count();
        assert_eq!(stored, 1, "{outcomes:?}");
        assert_eq!(pending(&h).await.len(), round + 1);
    }
}

//! What is sled's own: sessions over the application's trees, and who waits for whom.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use outbox_sled::{
    SledOutbox,
    sled::{self, Config, Db, Tree, transaction::ConflictableTransactionError::Abort},
};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Error, ErrorKind, Event, OutboxStore, Saved,
    StatsStore,
};
use serde_json::json;

fn open() -> (Db, SledOutbox, Tree) {
    let db = Config::new().temporary(true).open().unwrap();
    let outbox = SledOutbox::open(&db).unwrap();
    let orders = db.open_tree("orders").unwrap();
    (db, outbox, orders)
}

fn event(name: &str) -> Event {
    Event::new("order.placed", json!({ "name": name })).unwrap()
}

async fn names(outbox: &SledOutbox) -> Vec<String> {
    let pending = outbox.get_pending(100).await.unwrap();
    pending.iter().map(|event| event.payload()["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_session_sees_its_own_writes_and_nobody_else_does() {
    let (db, outbox, orders) = open();
    let stock = db.open_tree("stock").unwrap();
    stock.insert("pears", "3").unwrap();
    let mut session = outbox.begin();
    session.insert(&orders, "o-1", "new").unwrap();
    session.insert(&orders, "o-1", "newer").unwrap();
    session.remove(&stock, "pears").unwrap();
    assert_eq!(session.get(&orders, "o-1").await.unwrap().unwrap(), b"newer");
    assert_eq!(session.get(&stock, "pears").await.unwrap(), None);
    assert!(!orders.contains_key("o-1").unwrap() && stock.contains_key("pears").unwrap());
    session.commit().await.unwrap();
    assert_eq!(orders.get("o-1").unwrap().unwrap(), b"newer");
    assert!(!stock.contains_key("pears").unwrap());
}

#[tokio::test]
async fn a_key_that_was_read_and_changed_is_a_conflict_and_nothing_is_written() {
    let (_db, outbox, orders) = open();
    orders.insert("count", "1").unwrap();
    for (key, new) in [("count", Some("2")), ("absent", Some("here")), ("count", None)] {
        let mut session = outbox.begin();
        let before = session.get(&orders, key).await.unwrap();
        session.insert(&orders, "written", "yes").unwrap();
        outbox.save_in_session(&event("lost"), &mut session).await.unwrap();
        match new {
            Some(new) => orders.insert(key, new).unwrap(),
            None => orders.remove(key).unwrap(),
        };
        assert_eq!(session.get(&orders, key).await.unwrap(), before, "asked twice, it answers the same");
        let conflict = session.commit().await.unwrap_err();
        assert_eq!(conflict.kind(), ErrorKind::Conflict, "{conflict}");
        assert!(!orders.contains_key("written").unwrap());
        assert!(names(&outbox).await.is_empty());
    }
}

#[tokio::test]
async fn of_sessions_that_count_at_once_none_is_lost() {
    let (_db, outbox, orders) = open();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (outbox, orders) = (outbox.clone(), orders.clone());
        writers.spawn(async move {
            let mut done = 0;
            while done < 10 {
                let mut session = outbox.begin();
                let count = session.get(&orders, "count").await.unwrap();
                let count = count.map_or(0, |count| std::str::from_utf8(&count).unwrap().parse().unwrap());
                session.insert(&orders, "count", (count + 1_u32).to_string().as_str()).unwrap();
                outbox.save_in_session(&event(&count.to_string()), &mut session).await.unwrap();
                match session.commit().await {
                    Ok(()) => done += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
        });
    }
    writers.join_all().await;
    assert_eq!(orders.get("count").unwrap().unwrap(), b"80");
    let expected: Vec<String> = (0..80).map(|count| count.to_string()).collect();
    assert_eq!(names(&outbox).await, expected, "each once, in the order of the commits");
}

#[tokio::test]
async fn an_id_that_an_open_session_has_saved_is_a_conflict_until_it_ends() {
    let (_db, outbox, _) = open();
    let one = event("one").with_idempotency_key("key");
    let mut session = outbox.begin();
    assert_eq!(outbox.save_in_session(&one, &mut session).await.unwrap(), Saved::Stored);
    for other in [event("same id").with_id(one.id()), event("same key").with_idempotency_key("key")] {
        let conflict = outbox.save(&other).await.unwrap_err();
        assert_eq!((conflict.kind(), conflict.event()), (ErrorKind::Conflict, Some(other.id())));
    }
    session.commit().await.unwrap();
    assert_eq!(outbox.save(&one).await.unwrap(), Saved::Duplicate);
}

#[tokio::test]
async fn an_id_that_a_closure_has_taken_meanwhile_is_a_conflict_at_the_commit() {
    let (_db, outbox, orders) = open();
    let one = event("one");
    let mut session = outbox.begin();
    outbox.save_in_session(&one, &mut session).await.unwrap();
    session.insert(&orders, "o-1", "").unwrap();
    let saved = outbox.transaction(&[], |transaction| transaction.save(&one)).unwrap();
    assert_eq!(saved, Saved::Stored);
    let conflict = session.commit().await.unwrap_err();
    assert_eq!((conflict.kind(), conflict.event()), (ErrorKind::Conflict, Some(one.id())));
    assert!(orders.is_empty());
    assert_eq!(names(&outbox).await, ["one"]);
}

#[tokio::test]
async fn events_share_the_fate_of_a_closure() {
    let (_db, outbox, orders) = open();
    let later = event("later").with_not_before(outbox.now() + Duration::from_secs(5));
    for commits in [false, true] {
        let outcome = outbox.transaction(&[&orders], |transaction| {
            transaction.trees()[0].insert("o-1", "")?;
            assert_eq!(transaction.save(&event("one"))?, Saved::Stored);
            assert_eq!(transaction.save(&later)?, Saved::Stored);
            assert_eq!(transaction.save(&later)?, Saved::Duplicate);
            if commits { Ok(()) } else { Err(Abort(Error::new(ErrorKind::Backend, "no credit"))) }
        });
        assert_eq!(outcome.is_ok(), commits);
        assert_eq!(orders.contains_key("o-1").unwrap(), commits);
        assert_eq!(names(&outbox).await.len(), usize::from(commits));
    }
    outbox.advance_clock(Duration::from_secs(6));
    assert_eq!(names(&outbox).await, ["one", "later"]);
}

#[tokio::test]
async fn a_tree_that_cannot_be_written_with_the_outbox_is_refused() {
    let (db, outbox, _) = open();
    let (other_db, other, foreign) = open();
    let own = db.open_tree("outbox.events").unwrap();
    let mut session = outbox.begin();
    for tree in [&foreign, &own, &*other_db] {
        assert_eq!(session.insert(tree, "k", "v").unwrap_err().kind(), ErrorKind::Backend);
        assert_eq!(session.get(tree, "k").await.unwrap_err().kind(), ErrorKind::Backend);
    }
    let error = other.save_in_session(&event("stray"), &mut session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "the session is another store's");
    session.insert(&db, "k", "v").unwrap();
    session.commit().await.unwrap();
    assert!(db.contains_key("k").unwrap(), "the default tree is one as any");
}

#[tokio::test]
async fn outboxes_of_different_names_are_apart_and_a_newer_format_is_refused() {
    let (db, outbox, _) = open();
    let second = SledOutbox::open_named(&db, "second").unwrap();
    let one = event("one");
    outbox.save(&one).await.unwrap();
    assert_eq!(second.save(&one).await.unwrap(), Saved::Stored);
    outbox.acknowledge(one.id()).await.unwrap();
    assert_eq!(names(&second).await, ["one"]);
    db.open_tree("second.meta").unwrap().insert("format", "3").unwrap();
    assert_eq!(SledOutbox::open_named(&db, "second").unwrap_err().kind(), ErrorKind::Schema);
}

#[tokio::test]
async fn rows_and_records_that_are_broken_or_gone_are_set_aside() {
    let (db, outbox, _) = open();
    let all = ["row", "both", "record", "good"].map(event);
    outbox.save_all(&all).await.unwrap();
    let tree = |name: &str| db.open_tree(format!("outbox.{name}")).unwrap();
    let place = |index: u64| (index + 1).to_be_bytes();
    tree("rows").insert(place(0), "{").unwrap();
    tree("rows").insert(place(1), "{").unwrap();
    tree("events").insert(place(1), vec![255, 0]).unwrap();
    tree("events").remove(place(2)).unwrap();
    assert_eq!(names(&outbox).await, ["row", "good"]);
    let letters = outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[1].id, letters[1].event_type.as_str()), (all[2].id(), "order.placed"));
    // What can be read is delivered all the same.
    outbox.acknowledge(all[0].id()).await.unwrap();
    assert_eq!(names(&outbox).await, ["good"]);
}

/// Sled's lock is held by a transaction on another thread, and everything waits for it: but not the runtime.
#[tokio::test]
async fn nothing_blocks_the_runtime() {
    let (_db, outbox, orders) = open();
    let first = event("first").id();
    outbox.save(&event("first").with_id(first)).await.unwrap();

    let (locked, is_locked) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let holder = std::thread::spawn({
        let orders = orders.clone();
        move || {
            orders
                .transaction(|_| {
                    locked.send(()).unwrap();
                    // Not for ever, so that the test fails where it would hang.
                    is_released.recv_timeout(Duration::from_secs(10)).ok();
                    Ok::<_, sled::transaction::ConflictableTransactionError<()>>(())
                })
                .unwrap();
        }
    });
    is_locked.recv().unwrap();

    let ended = Arc::new(AtomicU64::new(0));
    let mut calls = tokio::task::JoinSet::new();
    macro_rules! call {
        (|$outbox:ident| $call:expr) => {{
            let ($outbox, ended) = (outbox.clone(), Arc::clone(&ended));
            calls.spawn(async move {
                $call;
                ended.fetch_add(1, SeqCst);
            });
        }};
    }
    let second = event("second");
    let tree = orders.clone();
    call!(|outbox| outbox.save(&second).await.unwrap());
    call!(|outbox| outbox.get_pending(10).await.unwrap());
    call!(|outbox| outbox.acknowledge(first).await.unwrap());
    call!(|outbox| outbox.purge(Duration::ZERO).await.unwrap());
    call!(|outbox| outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap());
    call!(|outbox| outbox.requeue(first).await.unwrap());
    call!(|outbox| outbox.claim(&Claim::new("a worker")).await.unwrap());
    call!(|outbox| outbox.settle(&[]).await.unwrap());
    call!(|outbox| outbox.stats().await.unwrap());
    call!(|outbox| outbox.begin().get(&tree, "k").await.unwrap());
    call!(|outbox| {
        let mut session = outbox.begin();
        session.insert(&orders, "k", "v").unwrap();
        session.commit().await.unwrap();
    });
    // Were the runtime blocked, this would go on only when all of them have ended.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(ended.load(SeqCst), 0, "they all wait for the lock");
    release.send(()).ok();
    calls.join_all().await;
    assert_eq!(ended.load(SeqCst), 11);
    holder.join().unwrap();
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_is_made_all_the_same() {
    let (_db, outbox, orders) = open();
    let mut session = outbox.begin();
    session.insert(&orders, "k", "v").unwrap();
    let one = event("one");
    outbox.save_in_session(&one, &mut session).await.unwrap();
    let mut commit = Box::pin(session.commit());
    tokio::select! {
        biased;
        _ = &mut commit => {}
        () = std::future::ready(()) => {}
    }
    drop(commit);
    while !orders.contains_key("k").unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And what it had reserved is free again.
    while outbox.save(&one).await.map_or_else(|error| error.is_retryable(), |saved| saved == Saved::Stored) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(names(&outbox).await, ["one"]);
}

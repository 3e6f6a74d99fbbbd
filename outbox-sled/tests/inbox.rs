//! What is sled's own about the inbox: sessions of several outboxes, closures, and what is on the disk.

use std::time::Duration;

use outbox_sled::{
    SledInbox, SledOutbox,
    sled::{Config, Db, transaction::ConflictableTransactionError::Abort},
};
use outbox_traits::{Error, ErrorKind, Event, EventId, InboxStore, OutboxStore, Receipt};

fn open() -> (Db, SledOutbox, SledInbox) {
    let db = Config::new().temporary(true).open().unwrap();
    let (outbox, inbox) = (SledOutbox::open(&db).unwrap(), SledInbox::open(&db).unwrap());
    (db, outbox, inbox)
}

/// Asks in a session of its own, and commits.
async fn ask(outbox: &SledOutbox, inbox: &SledInbox, event: EventId) -> Receipt {
    let mut session = outbox.begin();
    let receipt = inbox.process_once(&mut session, "billing", event).await.unwrap();
    session.commit().await.unwrap();
    receipt
}

#[tokio::test]
async fn of_two_sessions_at_one_event_the_second_is_told_of_a_conflict_until_the_first_ends() {
    let (db, outbox, inbox) = open();
    let other = SledOutbox::open_named(&db, "other").unwrap();
    for commits in [false, true] {
        let event = EventId::new();
        let (mut first, mut second) = (outbox.begin(), other.begin());
        assert!(inbox.process_once(&mut first, "billing", event).await.unwrap().is_new());
        // Through a handle of its own, too.
        let inbox = SledInbox::open(&db).unwrap();
        let conflict = inbox.process_once(&mut second, "billing", event).await.unwrap_err();
        assert_eq!((conflict.kind(), conflict.event()), (ErrorKind::Conflict, Some(event)));
        assert!(inbox.process_once(&mut second, "shipping", event).await.unwrap().is_new());
        if commits {
            first.commit().await.unwrap();
        } else {
            first.rollback();
        }
        let receipt = inbox.process_once(&mut second, "billing", event).await.unwrap();
        assert_eq!(receipt.is_new(), !commits);
        second.commit().await.unwrap();
        assert_eq!(ask(&outbox, &inbox, event).await, Receipt::Duplicate);
    }
}

#[tokio::test]
async fn a_closure_marks_or_leaves_no_mark_and_conflicts_with_a_session_at_its_commit() {
    let (db, outbox, inbox) = open();
    let orders = db.open_tree("orders").unwrap();
    let (event, saved) = (EventId::new(), Event::new("t", ()).unwrap());
    let mut session = outbox.begin();
    assert!(inbox.process_once(&mut session, "billing", event).await.unwrap().is_new());
    for commits in [false, true] {
        let outcome = inbox.transaction(&outbox, &[&orders], |transaction| {
            assert!(transaction.process_once("billing", event)?.is_new());
            assert_eq!(transaction.process_once("billing", event)?, Receipt::Duplicate);
            transaction.trees()[0].insert("o-1", "")?;
            transaction.save(&saved)?;
            if commits { Ok(()) } else { Err(Abort(Error::new(ErrorKind::Backend, "no credit"))) }
        });
        assert_eq!(outcome.is_ok(), commits);
        assert_eq!(orders.contains_key("o-1").unwrap(), commits);
        assert_eq!(outbox.get_pending(10).await.unwrap().len(), usize::from(commits));
    }
    assert_eq!(session.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(ask(&outbox, &inbox, event).await, Receipt::Duplicate);
    let refused = inbox.transaction(&outbox, &[], |transaction| transaction.process_once(" ", event));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidEvent);
}

#[tokio::test]
async fn a_purge_takes_all_that_is_old_enough_and_its_mark_is_free() {
    let (db, outbox, inbox) = open();
    let events: Vec<EventId> = (0..600).map(|_| EventId::new()).collect();
    for half in events.chunks(300) {
        let mut session = outbox.begin();
        for event in half {
            assert!(inbox.process_once(&mut session, "billing", *event).await.unwrap().is_new());
        }
        session.commit().await.unwrap();
        inbox.advance_clock(Duration::from_secs(60));
    }
    assert_eq!(inbox.purge(Duration::from_secs(121)).await.unwrap(), 0);
    assert_eq!(inbox.purge(Duration::from_secs(120)).await.unwrap(), 300);
    assert_eq!(ask(&outbox, &inbox, events[0]).await, Receipt::New);
    assert_eq!(ask(&outbox, &inbox, events[300]).await, Receipt::Duplicate);
    assert_eq!(inbox.purge(Duration::ZERO).await.unwrap(), 301);
    for tree in ["inbox.marks", "inbox.times"] {
        assert!(db.open_tree(tree).unwrap().is_empty(), "{tree}");
    }
}

#[tokio::test]
async fn inboxes_of_different_names_are_apart_and_a_session_of_another_data_base_is_refused() {
    let (db, outbox, inbox) = open();
    let (_other_db, other, _) = open();
    let event = EventId::new();
    assert_eq!(ask(&outbox, &inbox, event).await, Receipt::New);
    let second = SledInbox::open_named(&db, "second").unwrap();
    assert_eq!(ask(&outbox, &second, event).await, Receipt::New);
    let error = inbox.process_once(&mut other.begin(), "billing", event).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
}

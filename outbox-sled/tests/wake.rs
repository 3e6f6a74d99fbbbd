//! What is sled's own about wake-ups and retention: handles that were opened apart, closures, and what is left behind.

use std::time::Duration;

use outbox_sled::{
    SledOutbox,
    sled::{Config, Db, transaction::ConflictableTransactionError::Abort},
};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterStore, Error, ErrorKind, Event, OutboxStore, Retention, Settlement,
    StatsStore, WakeStore, Wakeups,
};

fn open() -> (Db, SledOutbox) {
    let db = Config::new().temporary(true).open().unwrap();
    let outbox = SledOutbox::open(&db).unwrap();
    (db, outbox)
}

fn event() -> Event {
    Event::new("order.placed", ()).unwrap().with_partition_key("o-1")
}

/// Whether it is woken now. Commits wake before they return, so that nothing is waited for.
async fn is_woken(listener: &mut dyn Wakeups) -> bool {
    tokio::select! {
        biased;
        () = listener.wait() => true,
        () = std::future::ready(()) => false,
    }
}

#[tokio::test]
async fn a_commit_through_any_handle_or_closure_wakes_and_an_aborted_one_does_not() {
    let (db, outbox) = open();
    let other = SledOutbox::open(&db).unwrap();
    let apart = SledOutbox::open_named(&db, "apart").unwrap();
    let mut listener = outbox.wakeups().await.unwrap();
    let close = |commits: bool| {
        other.transaction(&[], |transaction| {
            transaction.save(&event())?;
            if commits { Ok(()) } else { Err(Abort(Error::new(ErrorKind::Backend, "no credit"))) }
        })
    };
    close(true).unwrap();
    assert!(is_woken(&mut *listener).await);
    close(false).unwrap_err();
    apart.save(&event()).await.unwrap();
    assert!(!is_woken(&mut *listener).await);
    other.save(&event()).await.unwrap();
    assert!(is_woken(&mut *listener).await);
    assert!(!is_woken(&mut *listener).await, "once");
}

#[tokio::test]
async fn of_deliveries_only_a_requeued_event_wakes() {
    let (_db, outbox) = open();
    outbox.save(&event()).await.unwrap();
    let mut listener = outbox.wakeups().await.unwrap();
    let leased = outbox.claim(&Claim::new("a worker")).await.unwrap();
    outbox.settle(&[Settlement::dead_letter(leased[0].lease, "no")]).await.unwrap();
    assert!(!is_woken(&mut *listener).await, "else a worker would wake itself for ever");
    assert!(outbox.requeue(leased[0].event.id()).await.unwrap());
    assert!(is_woken(&mut *listener).await);
}

#[tokio::test]
async fn a_listener_hears_handles_that_are_opened_after_the_last_one_was_dropped() {
    let (db, outbox) = open();
    let mut listener = outbox.wakeups().await.unwrap();
    drop(outbox);
    SledOutbox::open(&db).unwrap().save(&event()).await.unwrap();
    assert!(is_woken(&mut *listener).await);
}

#[tokio::test]
async fn an_event_that_is_deleted_on_delivery_leaves_nothing_behind() {
    let (db, outbox) = open();
    let outbox = outbox.with_retention(Retention::DeleteOnDelivery);
    let events = [(); 4].map(|()| event().with_idempotency_key(uuid()));
    outbox.save_all(&events).await.unwrap();
    let leased = outbox.claim(&Claim::new("a worker").with_limit(2)).await.unwrap();
    let done: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
    assert!(outbox.settle(&done).await.unwrap().iter().all(Result::is_ok));
    // One is leased when it is acknowledged, and its key is free again.
    outbox.claim(&Claim::new("a worker").with_limit(1)).await.unwrap();
    outbox.acknowledge(events[2].id()).await.unwrap();
    let leased = outbox.claim(&Claim::new("a worker")).await.unwrap();
    assert_eq!(leased[0].event, events[3]);
    outbox.acknowledge(events[3].id()).await.unwrap();
    let stats = outbox.stats().await.unwrap();
    assert_eq!((stats.pending, stats.leased, stats.delivered, stats.oldest_pending), (0, 0, 0, None));
    assert_eq!(outbox.purge(Duration::ZERO).await.unwrap(), 0);
    for tree in db.tree_names() {
        let name = String::from_utf8_lossy(&tree).into_owned();
        if name.starts_with("outbox.") && name != "outbox.meta" {
            assert!(db.open_tree(&tree).unwrap().is_empty(), "{name}");
        }
    }
}

fn uuid() -> String {
    outbox_traits::EventId::new().to_string()
}

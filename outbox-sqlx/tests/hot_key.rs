//! A key with more events than one claim puts aside.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox, sqlx};
use outbox_traits::{Claim, ClaimStore, DeadLetterStore, Event, OutboxStore, Settlement};
use serde_json::json;

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// Of the hot key, behind its first.
const HOT: u32 = 10_000;

fn hot(number: u32) -> Event {
    Event::new("hot", json!(number)).unwrap().with_partition_key("hot")
}

async fn others_come_past_it_and_it_keeps_its_order<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let store = h.store();
    let claim = Claim::new("worker").with_lease(Duration::from_secs(600));
    store.save(&hot(0)).await.unwrap();
    let first = store.claim(&claim.clone().with_limit(1)).await.unwrap();
    store.save_all(&(1..=HOT).map(hot).collect::<Vec<_>>()).await.unwrap();
    let other = Event::new("other", json!({})).unwrap().with_partition_key("other");
    store.save(&other).await.unwrap();

    // Empty as long as the lease may be about to end.
    let others = loop {
        let leased = store.claim(&claim.clone().with_limit(10)).await.unwrap();
        if !leased.is_empty() {
            break leased;
        }
    };
    assert_eq!(others.iter().map(|leased| leased.event.id()).collect::<Vec<_>>(), [other.id()]);

    let mut leased = [first, others].concat();
    let mut next = 1;
    while !leased.is_empty() {
        let settlements: Vec<_> = leased.iter().map(|leased| Settlement::delivered(leased.lease)).collect();
        for settled in store.settle(&settlements).await.unwrap() {
            settled.unwrap();
        }
        leased = store.claim(&claim.clone().with_limit(1000)).await.unwrap();
        for leased in &leased {
            assert_eq!(*leased.event.payload(), json!(next));
            next += 1;
        }
    }
    assert_eq!(next, HOT + 1);
}

/// Claims leave out what the first of them has met of a hot key, but nothing that stands in between, or comes there.
async fn what_stands_between_is_found_each_time<H, DB>(h: &H, late: bool)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let store = h.store();
    let claim = Claim::new("worker").with_lease(Duration::from_secs(600)).with_limit(10);
    let claim_other = async |expected: &[&Event]| {
        let leased = store.claim(&claim).await.unwrap();
        assert_eq!(
            leased.iter().map(|one| one.event.id()).collect::<Vec<_>>(),
            expected.iter().map(|event| event.id()).collect::<Vec<_>>()
        );
        leased
    };
    let settle = async |settlement| {
        store.settle(&[settlement]).await.unwrap().remove(0).unwrap();
    };
    let other = |key: &str| Event::new("other", json!({})).unwrap().with_partition_key(key);
    let (between, behind, late_one, later) =
        (other("between"), other("behind"), other("late"), other("late"));

    store.save(&hot(0)).await.unwrap();
    let first = store.claim(&claim).await.unwrap();
    store.save_all(&(1..3000).map(hot).collect::<Vec<_>>()).await.unwrap();
    let mut transaction = if late { Some(store.pool().begin().await.unwrap()) } else { None };
    if let Some(transaction) = &mut transaction {
        store.save_in_session(&late_one, transaction).await.unwrap();
    }
    store.save(&between).await.unwrap();
    store.save_all(&(3000..6000).map(hot).collect::<Vec<_>>()).await.unwrap();
    store.save(&behind).await.unwrap();
    // The lease of the first one is not to be about to end.
    tokio::time::sleep(Duration::from_millis(200)).await;

    let leased = claim_other(&[&between, &behind]).await;
    claim_other(&[]).await;
    settle(Settlement::delivered(leased[1].lease)).await;
    // Released, it is where it was; and dead and requeued, too.
    settle(Settlement::released(leased[0].lease)).await;
    let leased = claim_other(&[&between]).await;
    settle(Settlement::dead_letter(leased[0].lease, "why")).await;
    claim_other(&[]).await;
    store.requeue(between.id()).await.unwrap();
    let leased = claim_other(&[&between]).await;
    settle(Settlement::delivered(leased[0].lease)).await;
    if let Some(transaction) = transaction {
        transaction.commit().await.unwrap();
        store.save(&later).await.unwrap();
        let leased = claim_other(&[&late_one, &later]).await;
        for one in leased {
            settle(Settlement::delivered(one.lease)).await;
        }
    }
    // More of the hot key, and something behind it.
    store.save_all(&(6000..9000).map(hot).collect::<Vec<_>>()).await.unwrap();
    let last = other("last");
    store.save(&last).await.unwrap();
    let leased = claim_other(&[&last]).await;
    settle(Settlement::delivered(leased[0].lease)).await;
    // And then the hot key is free.
    settle(Settlement::released(first[0].lease)).await;
    let mut next = 0;
    while next < 9000 {
        let leased = store.claim(&claim.clone().with_limit(1000)).await.unwrap();
        for one in &leased {
            assert_eq!(*one.event.payload(), json!(next));
            next += 1;
        }
        let settlements: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
        assert!(store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    }
    claim_other(&[]).await;
}

/// What is known of the places of a table that is not there any more leaves out nothing of another in its stead.
#[tokio::test]
async fn a_table_that_is_made_anew_has_no_places_to_be_left_out() {
    let Some(h) = require("hot_key::anew", Pg::open().await) else { return };
    let claim = Claim::new("worker").with_lease(Duration::from_secs(600)).with_limit(10);
    let lease_first = async || {
        h.store.save(&hot(0)).await.unwrap();
        h.store.claim(&claim).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    lease_first().await;
    h.store.save_all(&(1..6000).map(hot).collect::<Vec<_>>()).await.unwrap();
    assert!(h.store.claim(&claim).await.unwrap().is_empty());
    h.run("TRUNCATE {s}.outbox, {s}.outbox_lease, {s}.outbox_key, {s}.outbox_parked RESTART IDENTITY").await;
    lease_first().await;
    h.store.save_all(&(1..3000).map(hot).collect::<Vec<_>>()).await.unwrap();
    let other = Event::new("other", json!({})).unwrap();
    h.store.save(&other).await.unwrap();
    let leased = h.store.claim(&claim).await.unwrap();
    assert_eq!(leased.iter().map(|one| one.event.id()).collect::<Vec<_>>(), [other.id()]);
    h.close().await;
}

#[tokio::test]
async fn nothing_between_the_events_of_a_hot_key_is_left_out() {
    if let Some(h) = require("hot_key::between_postgres", Pg::open().await) {
        what_stands_between_is_found_each_time(&h, true).await;
        h.close().await;
    }
    if let Some(h) = require("hot_key::between_mysql", My::open().await) {
        what_stands_between_is_found_each_time(&h, true).await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    // It has one writer.
    what_stands_between_is_found_each_time(&h, false).await;
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_postgres() {
    let Some(h) = require("hot_key::postgres", Pg::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_mysql() {
    let Some(h) = require("hot_key::mysql", My::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_sqlite() {
    let Some(h) = require("hot_key::sqlite", Lite::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

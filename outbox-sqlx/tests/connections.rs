//! What the connections of a pool may be like: without a database of their own, or with a stricter isolation.

mod harness;

use std::{task::Poll, time::Duration};

use outbox_conformance::{Harness, SchemaHarness, require};
use outbox_sqlx::{Dialect, MySqlInbox, MySqlOutbox, PgOutbox, SqlxOutbox, sqlx};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterStore, ErrorKind, Event, EventId, InboxStore, OutboxStore, Retention,
    SchemaStore, Settlement,
};
use sqlx::{ConnectOptions, Pool, mysql::MySqlPoolOptions, postgres::PgPoolOptions};

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

fn event(number: usize) -> Event {
    Event::new("order.created", serde_json::json!({ "number": number })).unwrap()
}

/// Everything that deletes.
async fn deletes<DB: Dialect>(store: &SqlxOutbox<DB>) {
    let events: Vec<Event> = (0..3).map(event).collect();
    store.save_all(&events).await.unwrap();
    store.acknowledge(events[0].id()).await.unwrap();
    assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 1);
    let leased = store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    let dead = Settlement::dead_letter(leased[0].lease, "no use");
    assert!(store.settle(&[dead]).await.unwrap()[0].is_ok());
    assert!(store.discard(events[1].id()).await.unwrap());
    let store = store.clone().with_retention(Retention::DeleteOnDelivery);
    let leased = store.claim(&Claim::new("w")).await.unwrap();
    assert!(store.settle(&[Settlement::delivered(leased[0].lease)]).await.unwrap()[0].is_ok());
    assert!(store.get_pending(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn mysql_needs_no_database_of_the_connection() {
    let Some(h) = require("mysql_needs_no_database_of_the_connection", My::open().await) else { return };
    let options = h.pool().connect_options().as_ref().clone();
    let mut url = options.to_url_lossy();
    url.set_path("");
    let pool: Pool<sqlx::MySql> = MySqlPoolOptions::new().connect(url.as_str()).await.unwrap();
    deletes(&MySqlOutbox::new(pool.clone()).with_schema(&h.place).unwrap()).await;

    let inbox = MySqlInbox::new(pool.clone()).with_schema(&h.place).unwrap();
    let mut session = pool.acquire().await.unwrap();
    inbox.process_once(&mut session, "consumer", EventId::new()).await.unwrap();
    drop(session);
    assert_eq!(inbox.purge(Duration::ZERO).await.unwrap(), 1);
    pool.close().await;
    h.close().await;
}

#[tokio::test]
async fn postgres_bears_bytes_that_come_escaped() {
    let Some(h) = require("postgres_bears_bytes_that_come_escaped", Pg::open().await) else { return };
    let options = h.pool().connect_options().as_ref().clone().options([("bytea_output", "escape")]);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let store = PgOutbox::new(pool.clone()).with_schema(&h.place).unwrap();
    deletes(&store).await;

    // Enough for every byte, of lists and of keys that wait.
    let keyed = |number: usize| event(number).with_partition_key(format!("key {}", number / 2));
    let events: Vec<Event> = (0..600).map(keyed).collect();
    store.save_all(&events).await.unwrap();
    let retry = |lease| Settlement::retry(lease, Duration::ZERO, "once more");
    for settlement in [retry, Settlement::delivered as fn(_) -> _] {
        let leased = store.claim(&Claim::new("w").with_limit(600)).await.unwrap();
        assert!(leased.iter().map(|one| &one.event).eq(&events));
        let settlements: Vec<Settlement> = leased.iter().map(|one| settlement(one.lease)).collect();
        assert!(store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    }
    pool.close().await;
    h.close().await;
}

#[tokio::test]
async fn postgres_bears_a_stricter_isolation_by_default() {
    let Some(h) = require("postgres_bears_a_stricter_isolation_by_default", Pg::open().await) else { return };
    for isolation in ["repeatable read", "serializable"] {
        let options = h.pool().connect_options().as_ref().clone();
        let options = options.options([("default_transaction_isolation", isolation)]);
        let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
        let store = PgOutbox::new(pool.clone()).with_schema(&h.place).unwrap();
        for _ in 0..4 {
            let soon = chrono::Utc::now() + chrono::TimeDelta::milliseconds(20);
            let events: Vec<Event> = (0..40).map(|number| event(number).with_not_before(soon)).collect();
            store.save_all(&events).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            let work = async || {
                let leased = store.claim(&Claim::new("w").with_limit(10)).await.unwrap();
                for one in leased {
                    store.acknowledge(one.event.id()).await.unwrap();
                }
                store.purge(Duration::ZERO).await.unwrap()
            };
            let done = tokio::join!(work(), work(), work(), work());
            assert!(done.0 + done.1 + done.2 + done.3 > 0);
        }
        pool.close().await;
    }
    h.close().await;
}

/// As where its machine is gone, of which the server hears nothing.
#[tokio::test]
async fn postgres_lets_go_of_the_lock_of_a_claim_that_nobody_goes_on_with() {
    let Some(h) = require("postgres_lets_go_of_the_lock", Pg::open().await) else { return };
    h.store.save(&event(1)).await.unwrap();
    let mut other = h.pool().acquire().await.unwrap();
    let look = format!("SELECT 1 FROM {}.outbox_version WHERE version = 2 FOR UPDATE NOWAIT", h.place);
    let asked = Claim::new("silent");
    let is_locked = async |connection: &mut sqlx::PgConnection| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(look.clone())).execute(connection).await.is_err()
    };
    // A little of a claim, until it has the lock, and then no more; where that was not seen, once more.
    let silent = 'claim: loop {
        let mut claim = h.store.claim(&asked);
        loop {
            let poll = std::future::poll_fn(|context| Poll::Ready(claim.as_mut().poll(context)));
            if let Poll::Ready(claimed) = poll.await {
                let released = claimed.unwrap().into_iter().map(|one| Settlement::released(one.lease));
                h.store.settle(&released.collect::<Vec<_>>()).await.unwrap();
                continue 'claim;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if is_locked(&mut other).await {
                break 'claim claim;
            }
        }
    };
    let next = tokio::time::timeout(Duration::from_mins(1), h.store.claim(&Claim::new("next"))).await;
    assert_eq!(next.expect("the lock is let go of").unwrap().len(), 1);
    assert_eq!(silent.await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(other);
    h.close().await;
}

/// As outboxes do.
#[tokio::test]
async fn mysql_inboxes_refuse_connections_that_cannot_be_used() {
    let Some(h) = require("mysql_inboxes_refuse_connections", My::open().await) else { return };
    for way in 0..2 {
        let (store, reason) = h.unfit(way).await.unwrap();
        let inbox = MySqlInbox::new(store.pool().clone()).with_schema(&h.place).unwrap();
        let refused = inbox.migrate().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Schema, "{refused}");
        assert!(refused.to_string().contains(reason), "{refused}");
        store.pool().close().await;
    }
    h.close().await;
}

/// Times are kept in whole milliseconds there: ends that are one when they are kept must be one before.
#[tokio::test]
async fn sqlite_renews_a_part_of_a_claim_for_a_part_of_a_millisecond() {
    let Some(h) = require("sqlite_renews_a_part_of_a_claim_for_a_part_of_a_millisecond", Lite::open().await)
    else {
        return;
    };
    let length = Duration::from_micros(60_000_333);
    for number in 0..100 {
        h.store.save_all(&[event(number), event(number)]).await.unwrap();
        let leased = h.store.claim(&Claim::new("w").with_limit(2).with_lease(length)).await.unwrap();
        assert!(h.store.renew(&[leased[0].lease], length).await.unwrap()[0].is_ok());
        let settlements: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
        assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    }
    h.close().await;
}

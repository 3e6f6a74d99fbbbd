//! Calls whose futures are dropped at any moment, as by a time-out.

mod harness;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, MySqlOutbox, PgOutbox, SqliteOutbox, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, Event, Lease, OutboxStore, Outcome, Retention, Saved, Settlement, StatsStore,
};
use serde_json::json;
use sqlx::{Connection, Pool, pool::PoolOptions};

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// A pool of one connection, so that whatever a call has left behind in it meets the next one.
fn one<DB: Dialect>(pool: &Pool<DB>) -> Pool<DB>
where
    <DB::Connection as Connection>::Options: Clone,
{
    PoolOptions::new().max_connections(1).connect_lazy_with((*pool.connect_options()).clone())
}

/// Drops a call after it went on so often: later in each round, until it is done.
async fn cut<T>(round: u32, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    let mut steps = 1 + round % 40;
    poll_fn(|context| {
        // The server has answered by then, and nobody has read it.
        if steps == 0 {
            return Poll::Ready(());
        }
        steps -= 1;
        call.as_mut().poll(context).map(|_| ())
    })
    .await;
}

async fn what_is_saved_next_is_committed<H, DB>(h: &H, store: SqlxOutbox<DB>)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let event = || Event::new("t", json!({})).unwrap().with_partition_key("key");
    let claim = Claim::new("worker").with_limit(1).with_lease(Duration::from_secs(60));
    for round in 0..160 {
        match round / 40 {
            0 => cut(round, store.claim(&claim)).await,
            1 => cut(round, store.stats()).await,
            2 => cut(round, store.save_all(&[event(), event()])).await,
            _ => {
                for leased in store.claim(&claim).await.unwrap() {
                    cut(round, store.settle(&[Settlement::released(leased.lease)])).await;
                }
            }
        }
        let one = event();
        assert_eq!(store.save(&one).await.unwrap(), Saved::Stored, "round {round}");
        let pending = h.store().get_pending(10_000).await.unwrap();
        assert!(pending.contains(&one), "what was saved after round {round} is not there for others");
    }
}

/// An acknowledgement that was cut off has marked an event, and left the lease.
async fn a_settlement_says_which_event_is_acknowledged<H, DB>(h: &H, table: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let failed = |lease| Settlement::retry(lease, Duration::from_secs(60), "why");
    for (retention, settlement) in [
        (Retention::UntilPurged, Settlement::delivered as fn(Lease) -> Settlement),
        (Retention::UntilPurged, failed),
        (Retention::DeleteOnDelivery, Settlement::delivered),
    ] {
        let store = h.store().clone().with_retention(retention);
        for event_type in ["first", "second", "third"] {
            store.save(&Event::new(event_type, json!(1)).unwrap()).await.unwrap();
        }
        let leased = store.claim(&Claim::new("worker")).await.unwrap();
        let marked = format!(
            "UPDATE {table} SET status = 'delivered', delivered_at = created_at WHERE type = 'second'"
        );
        run(&store, marked).await;

        let settlements: Vec<Settlement> = leased.iter().map(|one| settlement(one.lease)).collect();
        let answers = store.settle(&settlements).await.unwrap();

        let took: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(took, [true, false, true]);
        let stats = store.stats().await.unwrap();
        let fails = matches!(settlements[0].outcome, Outcome::Retry { .. });
        assert_eq!((stats.leased, stats.pending), (0, if fails { 2 } else { 0 }));
        for one in leased {
            store.acknowledge(one.event.id()).await.unwrap();
        }
        store.purge(Duration::ZERO).await.unwrap();
    }
}

/// The same, of an event whose key others wait for.
async fn an_acknowledged_event_keeps_its_key_from_nobody<H, DB>(h: &H, table: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let store = h.store();
    let fails: [fn(Lease) -> Settlement; 2] = [
        |lease| Settlement::retry(lease, Duration::from_secs(3600), "why"),
        |lease| Settlement::dead_letter_holding_key(lease, "why"),
    ];
    for settlement in fails {
        let [first, second] =
            ["first", "second"].map(|name| Event::new(name, json!(1)).unwrap().with_partition_key("key"));
        store.save_all(&[first, second.clone()]).await.unwrap();
        let claim = Claim::new("worker").with_limit(1);
        let leased = store.claim(&claim).await.unwrap();
        run(
            store,
            format!("UPDATE {table} SET status = 'delivered', delivered_at = created_at")
                + " WHERE type = 'first'",
        )
        .await;
        assert!(store.settle(&[settlement(leased[0].lease)]).await.unwrap()[0].is_err());

        let leased = store.claim(&claim).await.unwrap();

        assert_eq!(leased.iter().map(|one| one.event.id()).collect::<Vec<_>>(), [second.id()]);
        assert!(store.settle(&[Settlement::delivered(leased[0].lease)]).await.unwrap()[0].is_ok());
    }
    store.purge(Duration::ZERO).await.unwrap();
}

/// The same, of events that had been put aside behind one of their key: their rows there are left.
async fn what_an_acknowledgement_has_left_hides_nothing<H, DB>(h: &H, table: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let store = h.store();
    let events: Vec<Event> = (0..6)
        .map(|number| Event::new(format!("t{number}"), json!(1)).unwrap().with_partition_key("other key"))
        .collect();
    store.save_all(&events).await.unwrap();
    let leased = store.claim(&Claim::new("worker").with_limit(1)).await.unwrap();
    let failed = Settlement::retry(leased[0].lease, Duration::from_secs(3600), "why");
    assert!(store.settle(&[failed]).await.unwrap()[0].is_ok());
    assert!(store.claim(&Claim::new("worker")).await.unwrap().is_empty());
    let aside = format!("SELECT count(*) FROM {table}_parked");
    let mut connection = store.pool().acquire().await.unwrap();
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{aside} HAVING count(*) = 6")));
    assert_eq!(rows.fetch_all(&mut *connection).await.unwrap().len(), 1, "all wait for the first");
    drop(connection);
    run(
        store,
        format!("UPDATE {table} SET status = 'delivered', delivered_at = created_at")
            + " WHERE type IN ('t1', 't2', 't3')",
    )
    .await;

    assert_eq!(store.get_pending(2).await.unwrap(), events[4..]);
    assert_eq!(store.get_pending(1).await.unwrap(), events[4..5]);
}

async fn run<DB: Dialect>(store: &SqlxOutbox<DB>, sql: String)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let mut connection = store.pool().acquire().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
}

#[tokio::test]
async fn what_is_left_of_an_acknowledgement_is_in_nobodys_way_on_each_engine() {
    if let Some(h) = require("cut_off::left_postgres", Pg::open().await) {
        let table = format!("{}.outbox", h.place);
        an_acknowledged_event_keeps_its_key_from_nobody(&h, &table).await;
        what_an_acknowledgement_has_left_hides_nothing(&h, &table).await;
        h.close().await;
    }
    if let Some(h) = require("cut_off::left_mysql", My::open().await) {
        let table = format!("{}.outbox", h.place);
        an_acknowledged_event_keeps_its_key_from_nobody(&h, &table).await;
        what_an_acknowledgement_has_left_hides_nothing(&h, &table).await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    an_acknowledged_event_keeps_its_key_from_nobody(&h, "outbox").await;
    what_an_acknowledgement_has_left_hides_nothing(&h, "outbox").await;
}

/// A settlement that has found its lease in time holds the row of it. SQLite has one writer, and no such thing.
async fn a_settlement_under_way_is_waited_for<H, DB>(h: &H, table: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let (store, claim) = (h.store(), Claim::new("worker").with_lease(Duration::from_secs(60)));
    let event = Event::new("t", json!({})).unwrap();
    store.save(&event).await.unwrap();
    assert_eq!(store.claim(&claim).await.unwrap().len(), 1);
    h.advance(Duration::from_secs(3600)).await;
    let mut settling = store.pool().begin().await.unwrap();
    let hold = format!("SELECT token FROM {table}_lease FOR UPDATE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut *settling).await.unwrap();

    assert!(store.claim(&claim).await.unwrap().is_empty(), "it is being settled");
    settling.rollback().await.unwrap();

    let leased = store.claim(&claim).await.unwrap();
    assert_eq!((leased[0].event.id(), leased[0].attempts), (event.id(), 2));
}

#[tokio::test]
async fn a_settlement_under_way_is_waited_for_where_many_may_write() {
    if let Some(h) = require("cut_off::settling_postgres", Pg::open().await) {
        a_settlement_under_way_is_waited_for(&h, &format!("{}.outbox", h.place)).await;
        h.close().await;
    }
    if let Some(h) = require("cut_off::settling_mysql", My::open().await) {
        a_settlement_under_way_is_waited_for(&h, &format!("{}.outbox", h.place)).await;
        h.close().await;
    }
}

#[tokio::test]
async fn a_settlement_says_which_event_is_acknowledged_on_each_engine() {
    if let Some(h) = require("cut_off::postgres", Pg::open().await) {
        a_settlement_says_which_event_is_acknowledged(&h, &format!("{}.outbox", h.place)).await;
        h.close().await;
    }
    if let Some(h) = require("cut_off::mysql", My::open().await) {
        a_settlement_says_which_event_is_acknowledged(&h, &format!("{}.outbox", h.place)).await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    a_settlement_says_which_event_is_acknowledged(&h, "outbox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_off_leaves_no_transaction_open_on_postgres() {
    let Some(h) = require("cut_off::postgres", Pg::open().await) else { return };
    let store = PgOutbox::new(one(h.pool())).with_schema(&h.place).unwrap();
    what_is_saved_next_is_committed(&h, store).await;
    h.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_off_leaves_no_transaction_open_on_mysql() {
    let Some(h) = require("cut_off::mysql", My::open().await) else { return };
    let store = MySqlOutbox::new(one(h.pool())).with_schema(&h.place).unwrap();
    what_is_saved_next_is_committed(&h, store).await;
    h.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_off_leaves_no_transaction_open_on_sqlite() {
    let Some(h) = require("cut_off::sqlite", Lite::open().await) else { return };
    let store = SqliteOutbox::new(one(h.pool()));
    what_is_saved_next_is_committed(&h, store).await;
    h.close().await;
}

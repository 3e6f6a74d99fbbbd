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
        let mut connection = store.pool().acquire().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(marked)).execute(&mut *connection).await.unwrap();
        drop(connection);

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

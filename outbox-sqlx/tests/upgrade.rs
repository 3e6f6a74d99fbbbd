//! Outboxes of the first version of the schema, as dumps of then hold them: a migration loses nothing of them.

mod harness;

use std::time::Duration;

use chrono::DateTime;
use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, Saved, SchemaStore,
    Settlement, StatsStore,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, raw_sql};
use uuid::Uuid;

use harness::{Engine, Sql, mysql::My, postgres::Pg, sqlite::Lite};

fn id(number: u128) -> EventId {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number).into()
}

fn event(number: u16, event_type: &str, payload: Value) -> Event {
    let time = DateTime::from_timestamp_millis(1_763_900_000_000 + i64::from(number)).unwrap();
    Event::new(event_type, payload).unwrap().with_id(id(number.into())).with_timestamp(time)
}

/// What the dumps have pending, in order.
fn pending() -> [Event; 3] {
    let payload = json!({ "text": "it's \"é\" \\ 😀\n", "n": u64::MAX, "x": 1.5 });
    [
        event(1, "order.placed", payload)
            .with_partition_key("order-1")
            .with_idempotency_key("k-1")
            .with_header("tenant", "acme")
            .with_resource("order", "1")
            .with_user_id("u-1"),
        event(2, "order.paid", json!({ "n": 2 })).with_partition_key("order-1"),
        event(6, "last", json!("x")),
    ]
}

async fn is_upgraded_and_loses_nothing<E: Engine + Dialect>(h: &Sql<E, false>)
where
    SqlxOutbox<E>: OutboxStore<Session = <E as sqlx::Database>::Connection>
        + ClaimStore
        + DeadLetterStore
        + SchemaStore
        + StatsStore,
{
    let store = &h.store;
    assert!(store.verify().await.unwrap().to_string().contains("version 1, not "));
    for _ in 0..2 {
        store.migrate().await.unwrap();
        assert!(store.verify().await.unwrap().is_current());
    }
    assert_eq!(store.get_pending(9).await.unwrap(), pending());
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.pending, stats.delivered, stats.dead), (4, 1, 1), "{stats:?}");
    let letters = store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id(5)]);
    assert!(letters[0].reason.contains("the stored meta cannot be read"), "{letters:?}");
    for number in 1..=6 {
        assert_eq!(store.save(&event(number, "again", json!({}))).await.unwrap(), Saved::Duplicate);
    }
    for key in ["k-1", "k-3"] {
        let again = Event::new("again", json!({})).unwrap().with_idempotency_key(key);
        assert_eq!(store.save(&again).await.unwrap(), Saved::Duplicate, "{key}");
    }
    let later = event(7, "later", json!({})).with_partition_key("order-1");
    assert_eq!(store.save(&later).await.unwrap(), Saved::Stored);
    let leased = store.claim(&Claim::new("w")).await.unwrap();
    let all = pending().into_iter().chain([later]).collect::<Vec<_>>();
    assert_eq!(leased.iter().map(|one| one.event.clone()).collect::<Vec<_>>(), all);
    let delivered: Vec<Settlement> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
    assert!(store.settle(&delivered).await.unwrap().iter().all(Result::is_ok));
    // What was hidden until a time is hidden still.
    assert_eq!(store.get_pending(9).await.unwrap(), []);
    assert_eq!(store.stats().await.unwrap().pending, 1);
    assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 5);
    assert_eq!(store.save(&event(3, "done", json!({}))).await.unwrap(), Saved::Stored, "its id is free");
}

/// In the place of the outbox that the harness has made.
async fn load<E: Engine + Dialect>(h: &Sql<E, false>, dump: &str)
where
    SqlxOutbox<E>: OutboxStore<Session = <E as sqlx::Database>::Connection>,
    for<'c> &'c mut E::Connection: sqlx::Executor<'c, Database = E>,
{
    let mut connection = h.store.pool().acquire().await.unwrap();
    h.drop_outbox().await;
    raw_sql(AssertSqlSafe(dump)).execute(&mut *connection).await.unwrap();
}

#[tokio::test]
async fn an_outbox_of_the_first_version_on_postgres() {
    let Some(h) = require("upgrade::postgres", Pg::open().await) else { return };
    load(&h, &include_str!("dumps/postgres.sql").replace("public.", &format!("{}.", h.place))).await;
    is_upgraded_and_loses_nothing(&h).await;
    h.close().await;
}

#[tokio::test]
async fn an_outbox_of_the_first_version_on_mysql() {
    let Some(h) = require("upgrade::mysql", My::open().await) else { return };
    load(&h, &format!("USE {}; {}", h.place, include_str!("dumps/mysql.sql"))).await;
    is_upgraded_and_loses_nothing(&h).await;
    h.close().await;
}

#[tokio::test]
async fn an_outbox_of_the_first_version_on_sqlite() {
    let Some(h) = require("upgrade::sqlite", Lite::open().await) else { return };
    load(&h, include_str!("dumps/sqlite.sql")).await;
    is_upgraded_and_loses_nothing(&h).await;
    h.close().await;
}

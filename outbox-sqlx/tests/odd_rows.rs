//! Rows that nobody who keeps to the schema would write: they hold up nothing, and no question fails for ever.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, Settlement, StatsStore,
};
use serde_json::json;

use harness::{Engine, Sql, postgres::Pg, sqlite::Lite};

/// Of two events the first becomes odd: the second is handed out all the same, and so is the first if it can be read.
async fn holds_up_nothing<E: Engine + Dialect>(h: &Sql<E, false>, set: &str)
where
    SqlxOutbox<E>:
        OutboxStore<Session = <E as sqlx::Database>::Connection> + ClaimStore + DeadLetterStore + StatsStore,
{
    let events = [1, 2].map(|number| Event::new("t", json!(number)).unwrap());
    h.store.save_all(&events).await.unwrap();
    h.run(&format!(
        "UPDATE {} SET {set} WHERE seq = (SELECT MIN(seq) FROM {0})",
        E::table(&h.place, "outbox")
    ))
    .await;
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<EventId>>();
    h.store.stats().await.unwrap_or_else(|error| panic!("stats, {set}: {error:?}"));
    let pending =
        h.store.get_pending(10).await.unwrap_or_else(|error| panic!("get_pending, {set}: {error:?}"));
    assert!(ids(&pending).ends_with(&ids(&events[1..])), "{set}: {pending:?}");
    let leased =
        h.store.claim(&Claim::new("w")).await.unwrap_or_else(|error| panic!("claim, {set}: {error:?}"));
    assert_eq!(leased.last().map(|one| one.event.id()), Some(events[1].id()), "{set}");
    h.store.stats().await.unwrap_or_else(|error| panic!("stats, {set}: {error:?}"));
    let settlements: Vec<Settlement> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok), "{set}");
    let letters = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.len() + leased.len(), 2, "{set}: {letters:?}");
    for letter in letters {
        assert!(!letter.reason.is_empty(), "{set}");
        assert!(h.store.discard(letter.id).await.unwrap(), "{set}");
    }
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), leased.len() as u64, "{set}");
}

#[tokio::test]
async fn postgres_times_that_no_calendar_has() {
    let Some(h) = require("odd_rows::postgres", Pg::open().await) else { return };
    for time in ["'infinity'", "'-infinity'", "'294276-01-01'"] {
        for set in [format!("not_before = {time}"), format!("created_at = {time}")] {
            holds_up_nothing(&h, &set).await;
        }
    }
    holds_up_nothing(&h, "status = 'scheduled', not_before = '-infinity'").await;
    h.close().await;
}

#[tokio::test]
async fn sqlite_values_of_other_kinds() {
    let Some(h) = require("odd_rows::sqlite", Lite::open().await) else { return };
    for set in [
        "attempts = 5000000000",
        "attempts = 'abc'",
        "failures = 1.5",
        "partition_hash = 5",
        "partition_hash = 1.5",
        "created_at = 1.5",
        "created_at = 9223372036854775807",
        "not_before = 9223372036854775807",
    ] {
        holds_up_nothing(&h, set).await;
    }
    h.close().await;
}

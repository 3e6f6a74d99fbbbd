//! Rows that nobody who keeps to the schema would write: they hold up nothing, and no question fails for ever.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, SchemaStore,
    Settlement, StatsStore,
};
use serde_json::json;

use harness::{Engine, Sql, mysql::My, postgres::Pg, sqlite::Lite};

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

/// What says that it was tried as often as its column has room for is claimed and ends in each way, beside another.
async fn counts_no_further<E: Engine + Dialect>(h: &Sql<E, false>)
where
    SqlxOutbox<E>:
        OutboxStore<Session = <E as sqlx::Database>::Connection> + ClaimStore + DeadLetterStore + StatsStore,
{
    const MOST: u32 = 2_147_483_647;
    let claim = Claim::new("w");
    for end in 0..3 {
        let events = [1, 2].map(|number| Event::new("t", json!(number)).unwrap());
        h.store.save_all(&events).await.unwrap();
        let table = E::table(&h.place, "outbox");
        h.run(&format!(
            "UPDATE {table} SET attempts = {MOST}, failures = {MOST} WHERE seq = (SELECT n FROM (SELECT MIN(seq) AS n
            FROM {table} WHERE status = 'pending') AS first)"
        ))
        .await;
        assert_eq!(h.store.claim(&claim).await.unwrap().len(), 2);
        h.advance(claim.lease).await;
        let leased = h.store.claim(&claim).await.unwrap();
        assert_eq!([leased[0].failures, leased[1].attempts, leased[1].failures], [MOST, 2, 0]);
        let settlements = leased.iter().map(|one| match end {
            0 => Settlement::delivered(one.lease),
            1 => Settlement::retry(one.lease, Duration::ZERO, "failed"),
            _ => Settlement::dead_letter(one.lease, "failed"),
        });
        let settled = h.store.settle(&settlements.collect::<Vec<_>>()).await.unwrap();
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        if end == 1 {
            let again = h.store.claim(&claim).await.unwrap();
            assert_eq!([again[0].failures, again[1].attempts, again[1].failures], [MOST, 3, 1]);
            let delivered: Vec<_> = again.iter().map(|one| Settlement::delivered(one.lease)).collect();
            assert!(h.store.settle(&delivered).await.unwrap().iter().all(Result::is_ok));
        }
    }
    let letters = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|one| one.failures).collect::<Vec<_>>(), [MOST, 1]);
}

/// Where the rows of older versions are deleted, nobody would wait for the lock that they are.
async fn versions_are_put_back<E: Engine + Dialect>(h: &Sql<E, false>)
where
    SqlxOutbox<E>: OutboxStore<Session = <E as sqlx::Database>::Connection> + ClaimStore + SchemaStore,
{
    let events = [1, 2].map(|number| Event::new("t", json!(number)).unwrap());
    h.store.save_all(&events).await.unwrap();
    let first = h.store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    let versions = E::table(&h.place, "outbox_version");
    h.run(&format!(
        "DELETE FROM {versions} WHERE version < (SELECT n FROM (SELECT MAX(version) AS n FROM {versions}) AS newest)"
    ))
    .await;
    let report = h.store.verify().await.unwrap();
    assert!(report.problems().iter().any(|problem| problem.contains("version 0")), "{report}");
    h.store.migrate().await.unwrap();
    assert!(h.store.verify().await.unwrap().is_current());
    let rest = h.store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(rest.iter().map(|one| &one.event).collect::<Vec<_>>(), [&events[1]]);
    let delivered = [&first[0], &rest[0]].map(|one| Settlement::delivered(one.lease));
    assert!(h.store.settle(&delivered).await.unwrap().iter().all(Result::is_ok));
}

/// A dead letter of another program that does not say when it died is shown, and found by the time that is shown.
async fn dead_without_a_time<E: Engine + Dialect>(h: &Sql<E, false>)
where
    SqlxOutbox<E>: OutboxStore<Session = <E as sqlx::Database>::Connection> + DeadLetterStore,
{
    let event = Event::new("t", json!(1)).unwrap();
    h.store.save(&event).await.unwrap();
    h.run(&format!("UPDATE {} SET status = 'dead_letter'", E::table(&h.place, "outbox"))).await;
    let letters = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|one| one.id).collect::<Vec<_>>(), [event.id()]);
    let now = h.now().await;
    let [before, since] = [DeadLetterFilter::new().with_before(now), DeadLetterFilter::new().with_since(now)];
    assert_eq!(h.store.dead_letters(&before).await.unwrap().letters, letters);
    assert_eq!(h.store.dead_letters(&since).await.unwrap().letters, []);
    assert_eq!(h.store.requeue_all(&before).await.unwrap(), 1);
    assert_eq!(h.store.get_pending(9).await.unwrap(), [event]);
}

/// On each engine, where it can be tried.
macro_rules! on_each_engine {
    ($($test:ident: $check:ident;)*) => { $(
        #[tokio::test]
        async fn $test() {
            on_each_engine!($test: $check on Pg "postgres", My "mysql", Lite "sqlite");
        }
    )* };
    ($test:ident: $check:ident on $($engine:ident $name:literal),*) => { $(
        let place = concat!("odd_rows::", stringify!($test), "::", $name);
        if let Some(h) = require(place, $engine::open().await) {
            $check(&h).await;
            h.close().await;
        }
    )* };
}

on_each_engine! {
    counts_end_where_their_columns_do: counts_no_further;
    versions_that_are_missing_are_told_of_and_put_back: versions_are_put_back;
    dead_letters_without_a_time_are_found_by_it: dead_without_a_time;
}

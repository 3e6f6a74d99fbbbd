//! What is particular about wake-ups on each engine: how often others are told, and what it takes from the pool.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, OutageHarness, Proxy, WakeHarness, require};
use outbox_sqlx::{MySqlOutbox, PgOutbox, SqliteOutbox, sqlx};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, Lease, OutboxStore,
    SchemaStore, Settlement, WakeStore, Wakeups,
};
use serde_json::json;
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgListener, PgPoolOptions},
    sqlite::SqlitePoolOptions,
};
use tokio::time::{sleep, timeout};

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// A guard against a test that hangs, and no measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what must not come.
const A_WHILE: Duration = Duration::from_millis(300);

fn event() -> Event {
    Event::new("t", json!({})).unwrap()
}

async fn woken(listener: &mut dyn Wakeups) {
    timeout(PATIENCE, listener.wait()).await.expect("nobody was woken");
}

async fn is_woken(listener: &mut dyn Wakeups) -> bool {
    timeout(A_WHILE, listener.wait()).await.is_ok()
}

/// What is listened to in this place, by the server.
async fn listeners(h: &Pg) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT query FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN %'",
    )
    .bind(&h.place)
    .fetch_all(&PgPool::connect_lazy_with((*h.pool().connect_options()).clone().application_name("test")))
    .await
    .unwrap()
}

/// Hears the announcements themselves.
async fn eavesdrop(h: &Pg) -> PgListener {
    let listen = listeners(h).await.pop().unwrap();
    let channel = listen.split('"').nth(1).unwrap();
    let pool = PgPool::connect_lazy_with((*h.pool().connect_options()).clone().application_name("test"));
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(channel).await.unwrap();
    listener
}

async fn notifications(listener: &mut PgListener) -> usize {
    let mut count = 0;
    while timeout(A_WHILE, listener.recv()).await.is_ok() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn postgres_is_told_nothing_of_a_save_that_was_rolled_back() {
    let Some(h) = require("wake::rolled_back", Pg::open().await) else { return };
    let listener = h.store.wakeups().await.unwrap();
    let mut ear = eavesdrop(&h).await;
    let mut transaction = h.begin().await;
    h.store.save_in_session(&event(), &mut transaction).await.unwrap();
    assert_eq!(notifications(&mut ear).await, 0, "told before the commit");
    transaction.rollback().await.unwrap();
    assert_eq!(notifications(&mut ear).await, 0, "told of nothing");
    let mut transaction = h.begin().await;
    h.store.save_in_session(&event(), &mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(notifications(&mut ear).await, 1);
    let saved = event();
    h.store.save(&saved).await.unwrap();
    assert_eq!(notifications(&mut ear).await, 1);
    let mut transaction = h.begin().await;
    h.store.save_in_session(&saved, &mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    h.store.save(&saved).await.unwrap();
    assert_eq!(notifications(&mut ear).await, 0, "told of duplicates");
    drop(listener);
    h.close().await;
}

#[tokio::test]
async fn postgres_is_told_of_many_commits_at_once() {
    const EVENTS: usize = 1000;
    let Some(h) = require("wake::coalesced", Pg::open().await) else { return };
    let mut listener = h.peer().await.wakeups().await.unwrap();
    let mut ear = eavesdrop(&h).await;
    let writers: Vec<_> = (0..5)
        .map(|_| {
            let store = h.store.clone();
            tokio::spawn(async move {
                for _ in 0..EVENTS / 10 {
                    store.save(&event()).await.unwrap();
                    let mut transaction = store.pool().begin().await.unwrap();
                    store.save_in_session(&event(), &mut transaction).await.unwrap();
                    transaction.commit().await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    woken(&mut *listener).await;
    let count = notifications(&mut ear).await;
    assert!((1..EVENTS / 2).contains(&count), "{count} for {EVENTS} events");
    h.close().await;
}

#[tokio::test]
async fn postgres_does_not_wake_who_was_woken_in_the_process() {
    let Some(h) = require("wake::once", Pg::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    let mut peer = h.peer().await.wakeups().await.unwrap();
    h.store.save(&event()).await.unwrap();
    woken(&mut *peer).await;
    woken(&mut *listener).await;
    assert!(!is_woken(&mut *listener).await);
    assert!(!is_woken(&mut *peer).await);
    h.close().await;
}

#[tokio::test]
async fn postgres_finds_out_where_a_table_is_that_was_not_said() {
    let Some(h) = require("wake::search_path", Pg::open().await) else { return };
    let options = (*h.pool().connect_options()).clone().options([("search_path", &h.place)]);
    let outbox = PgOutbox::new(PgPool::connect_with(options).await.unwrap());
    let mut listener = outbox.wakeups().await.unwrap();
    let mut named = h.store.wakeups().await.unwrap();
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    woken(&mut *named).await;
    outbox.save(&event()).await.unwrap();
    woken(&mut *named).await;
    let other = h.store.clone().with_table("other").unwrap();
    other.migrate().await.unwrap();
    assert!(is_woken(&mut *listener).await, "by its own save");
    other.save(&event()).await.unwrap();
    assert!(!is_woken(&mut *listener).await && !is_woken(&mut *named).await, "by another table");
    h.close().await;
}

/// Waits until nothing is left to be told: not for ever, as where one is woken all the time.
async fn calm(listener: &mut dyn Wakeups) {
    for _ in 0..10 {
        if !is_woken(listener).await {
            return;
        }
    }
    panic!("woken again and again for nothing");
}

#[tokio::test]
async fn postgres_is_listened_to_again_after_the_connection_went_silent() {
    let Some(h) = require("wake::half_open", Pg::open().await) else { return };
    let options = (*h.pool().connect_options()).clone();
    let proxy = Proxy::to(h.server().await).await.unwrap();
    let options = options.host("127.0.0.1").port(proxy.port());
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let outbox = PgOutbox::new(pool).with_schema(&h.place).unwrap();
    let mut listener = outbox.wakeups().await.unwrap();
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    let connections = proxy.connections();

    proxy.go_silent();
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    assert_eq!(proxy.connections(), connections + 1, "woken by another connection");
    assert!(!is_woken(&mut *listener).await, "once for all that was missed");
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    h.close().await;
}

/// A pool of one connection, which a transaction holds, is in nobody's way.
#[tokio::test]
async fn postgres_needs_no_second_connection_in_the_pool() {
    let Some(h) = require("wake::pool_of_one", Pg::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    let options = (*h.pool().connect_options()).clone();
    let one = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(20));
    let outbox = PgOutbox::new(one.connect_with(options).await.unwrap()).with_schema(&h.place).unwrap();
    let mut own = outbox.wakeups().await.unwrap();
    for _ in 0..3 {
        let mut transaction = outbox.pool().begin().await.unwrap();
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        sleep(A_WHILE).await;
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        assert!(!is_woken(&mut *own).await, "before the commit");
        transaction.commit().await.unwrap();
        woken(&mut *own).await;
        woken(&mut *listener).await;
        assert!(!outbox.get_pending(1).await.unwrap().is_empty());
        while is_woken(&mut *own).await || is_woken(&mut *listener).await {}
    }
    h.close().await;
}

#[tokio::test]
async fn postgres_is_told_also_from_a_pool_that_is_never_idle() {
    let Some(h) = require("wake::busy_pool", Pg::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    let options = (*h.pool().connect_options()).clone();
    let one = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let outbox = PgOutbox::new(one).with_schema(&h.place).unwrap();
    let users: Vec<_> = (0..4)
        .map(|_| {
            let pool = outbox.pool().clone();
            tokio::spawn(async move {
                loop {
                    sqlx::query("SELECT pg_sleep(0.01)").execute(&pool).await.unwrap();
                }
            })
        })
        .collect();
    let mut transaction = outbox.pool().begin().await.unwrap();
    outbox.save_in_session(&event(), &mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    woken(&mut *listener).await;
    for user in users {
        user.abort();
    }
    h.close().await;
}

#[tokio::test]
async fn postgres_is_told_also_where_the_connections_of_a_pool_are_kept() {
    let Some(h) = require("wake::kept_pool", Pg::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    let options = (*h.pool().connect_options()).clone();
    let pool = PgPoolOptions::new().max_connections(10).connect_with(options).await.unwrap();
    let outbox = PgOutbox::new(pool).with_schema(&h.place).unwrap();
    let mut kept = outbox.pool().acquire().await.unwrap();
    for _ in 0..3 {
        let mut transaction = sqlx::Connection::begin(&mut *kept).await.unwrap();
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        woken(&mut *listener).await;
        while is_woken(&mut *listener).await {}
    }
    drop(kept);
    h.close().await;
}

/// Waits until the server says that so many connections are there.
async fn until<F: Future<Output = usize>>(count: usize, connections: impl Fn() -> F) {
    let arrived = async {
        while connections().await != count {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let last = timeout(PATIENCE, arrived).await;
    assert!(last.is_ok(), "{} instead of {count}", connections().await);
}

#[tokio::test]
async fn postgres_listeners_share_a_connection_and_leave_none() {
    let Some(h) = require("wake::dropped", Pg::open().await) else { return };
    let connections = || async { listeners(&h).await.len() };
    let mut listening = Vec::new();
    for _ in 0..3 {
        listening.push(h.store.clone().wakeups().await.unwrap());
    }
    assert_eq!(connections().await, 1);
    listening.truncate(1);
    h.store.save(&event()).await.unwrap();
    woken(&mut *listening[0]).await;
    listening.clear();
    until(0, connections).await;
    let mut again = h.store.wakeups().await.unwrap();
    h.store.save(&event()).await.unwrap();
    woken(&mut *again).await;
    // With the pool.
    let peer = h.peer().await;
    let left = peer.wakeups().await.unwrap();
    until(2, connections).await;
    peer.pool().close().await;
    until(1, connections).await;
    drop(left);
    h.close().await;
}

#[tokio::test]
async fn a_save_that_may_yet_be_committed_keeps_no_pool_alive() {
    let Some(h) = require("wake::pool_dropped", Pg::open().await) else { return };
    let options = (*h.pool().connect_options()).clone().application_name(&format!("{}_2", h.place));
    let pool = PgPool::connect_with(options).await.unwrap();
    let connections = || async {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1")
                .bind(format!("{}_2", h.place))
                .fetch_one(h.pool())
                .await
                .unwrap();
        usize::try_from(count).unwrap()
    };
    let outbox = PgOutbox::new(pool).with_schema(&h.place).unwrap();
    let mut transaction = outbox.pool().begin().await.unwrap();
    outbox.save_in_session(&event(), &mut transaction).await.unwrap();
    sleep(A_WHILE).await;
    assert_eq!(connections().await, 1);
    transaction.rollback().await.unwrap();
    drop(outbox);
    until(0, connections).await;
    h.close().await;
}

#[tokio::test]
async fn mysql_listeners_share_a_connection_and_leave_none() {
    let Some(h) = require("wake::mysql_dropped", My::open().await) else { return };
    let options = (*h.pool().connect_options()).clone();
    let server = MySqlOutbox::new(sqlx::MySqlPool::connect_lazy_with(options.database("mysql")));
    let connections = || async {
        let sql = format!(
            "SELECT CAST(count(*) AS SIGNED) FROM information_schema.processlist WHERE db = '{}'",
            h.place
        );
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(server.pool()).await.unwrap();
        usize::try_from(count).unwrap()
    };
    let before = connections().await;
    let listening = [h.store.wakeups().await.unwrap(), h.store.clone().wakeups().await.unwrap()];
    assert_eq!(connections().await, before + 1);
    drop(listening);
    until(before, connections).await;
    h.close().await;
}

/// The one connection of such a pool is the database.
#[tokio::test]
async fn sqlite_in_memory_needs_no_second_connection() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = SqliteOutbox::new(pool);
    outbox.migrate().await.unwrap();
    // Also what was saved before anybody listened.
    let mut transaction = outbox.pool().begin().await.unwrap();
    outbox.save_in_session(&event(), &mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let mut listener = outbox.wakeups().await.unwrap();
    woken(&mut *listener).await;
    for commits in [true, false, true] {
        let mut transaction = outbox.pool().begin().await.unwrap();
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        assert!(!is_woken(&mut *listener).await, "before the commit");
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        if commits {
            transaction.commit().await.unwrap();
            woken(&mut *listener).await;
            while is_woken(&mut *listener).await {}
        } else {
            transaction.rollback().await.unwrap();
            assert!(!is_woken(&mut *listener).await, "nothing was committed");
        }
        outbox.get_pending(1).await.unwrap();
    }
    outbox.save(&event()).await.unwrap();
    woken(&mut *listener).await;
}

#[tokio::test]
async fn sqlite_wakes_for_events_and_not_for_other_commits() {
    let h = Lite::open().await.unwrap();
    let mut listener = h.store.wakeups().await.unwrap();
    let peer = h.peer().await;
    let saved = event();
    peer.save(&saved).await.unwrap();
    woken(&mut *listener).await;
    while is_woken(&mut *listener).await {}
    h.store.acknowledge(saved.id()).await.unwrap();
    h.run("INSERT INTO business VALUES ('row')").await;
    assert!(!is_woken(&mut *listener).await);
    // From a connection of whomever.
    let mut plain = peer.pool().acquire().await.unwrap().detach();
    peer.save_in_session(&event(), &mut plain).await.unwrap();
    woken(&mut *listener).await;
    h.close().await;
}

#[tokio::test]
async fn an_outbox_that_is_not_there_cannot_be_listened_to() {
    let h = Lite::open().await.unwrap();
    let error = h.store.clone().with_table("absent").unwrap().wakeups().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("run `migrate`"), "{error}");
    if let Some(h) = require("wake::absent_postgres", Pg::open().await) {
        let error = h.store.clone().with_table("absent").unwrap().wakeups().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        h.close().await;
    }
    if let Some(h) = require("wake::absent_mysql", My::open().await) {
        let error = h.store.clone().with_table("absent").unwrap().wakeups().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        h.close().await;
    }
}

#[tokio::test]
async fn what_a_listener_shows_is_no_secret() {
    let Some(h) = require("wake::debug", My::open().await) else { return };
    let listener = h.store.wakeups().await.unwrap();
    let shown = format!("{listener:?} {:?}", h.store);
    assert!(shown.contains(&h.place) && shown.len() < 300, "{shown}");
    h.close().await;
}

#[tokio::test]
async fn one_who_listens_hears_also_after_the_store_is_dropped() {
    let Some(h) = require("wake::store_dropped", Pg::open().await) else { return };
    let peer = h.peer().await;
    let mut listener = peer.wakeups().await.unwrap();
    drop(peer);
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    h.cut_connections().await;
    woken(&mut *listener).await;
    h.store.save(&event()).await.unwrap();
    woken(&mut *listener).await;
    h.close().await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whatever heard of others for the first listener has ended with its runtime.
#[test]
fn one_who_listens_on_another_runtime_is_woken_after_the_first_is_gone() {
    let first = runtime();
    let (h, left) = first.block_on(async {
        let h = Lite::open().await.unwrap();
        let left = h.store.wakeups().await.unwrap();
        (h, left)
    });
    drop(first);
    runtime().block_on(async {
        let peer = h.peer().await;
        let mut listener = h.store.wakeups().await.unwrap();
        peer.save(&event()).await.unwrap();
        woken(&mut *listener).await;
    });
    drop(left);
}

/// What looked for the commits of sessions has ended with its runtime, too.
#[test]
fn a_session_of_another_runtime_wakes_after_the_first_is_gone() {
    let first = runtime();
    let (outbox, mut listener) = first.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let outbox = SqliteOutbox::new(pool);
        outbox.migrate().await.unwrap();
        let listener = outbox.wakeups().await.unwrap();
        let mut transaction = outbox.pool().begin().await.unwrap();
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        // The one connection, which is the database, comes back by a task of this runtime.
        while outbox.pool().num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        (outbox, listener)
    });
    drop(first);
    runtime().block_on(async {
        let mut transaction = outbox.pool().begin().await.unwrap();
        outbox.save_in_session(&event(), &mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        woken(&mut *listener).await;
    });
}

/// In memory, where nobody looks at the table.
#[tokio::test]
async fn one_is_woken_by_dead_letters_that_come_back_and_by_keys_that_are_freed() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = SqliteOutbox::new(pool);
    outbox.migrate().await.unwrap();
    let mut listener = outbox.wakeups().await.unwrap();
    let dies = async |settlement: fn(Lease) -> Settlement, listener: &mut dyn Wakeups| -> EventId {
        let one = event().with_partition_key("key");
        outbox.save(&one).await.unwrap();
        let leased = outbox.claim(&Claim::new("worker")).await.unwrap();
        let last = leased.last().unwrap();
        assert_eq!(last.event.id(), one.id());
        assert!(outbox.settle(&[settlement(last.lease)]).await.unwrap()[0].is_ok());
        calm(listener).await;
        one.id()
    };
    let (all, holds): (_, fn(Lease) -> Settlement) =
        (DeadLetterFilter::new(), |lease| Settlement::dead_letter_holding_key(lease, "why"));
    let frees: fn(Lease) -> Settlement = |lease| Settlement::dead_letter(lease, "why");

    let id = dies(frees, &mut *listener).await;
    assert!(outbox.requeue(id).await.unwrap());
    assert!(is_woken(&mut *listener).await, "by one that was requeued");
    assert!(!outbox.requeue(id).await.unwrap());
    assert!(!is_woken(&mut *listener).await, "it is none any more");
    outbox.acknowledge(id).await.unwrap();

    let id = dies(frees, &mut *listener).await;
    assert_eq!(outbox.requeue_all(&all).await.unwrap(), 1);
    assert!(is_woken(&mut *listener).await, "by all that were requeued");
    assert_eq!(outbox.requeue_all(&all).await.unwrap(), 0);
    assert!(!is_woken(&mut *listener).await, "there is none any more");
    outbox.acknowledge(id).await.unwrap();

    let id = dies(frees, &mut *listener).await;
    assert!(outbox.discard(id).await.unwrap());
    assert!(!is_woken(&mut *listener).await, "nothing waited for it");
    let id = dies(holds, &mut *listener).await;
    assert!(outbox.discard(id).await.unwrap());
    assert!(is_woken(&mut *listener).await, "its key goes on");
    dies(holds, &mut *listener).await;
    assert_eq!(outbox.discard_all(&all).await.unwrap(), 1);
    assert!(is_woken(&mut *listener).await, "its key goes on");
    assert_eq!(outbox.discard_all(&all).await.unwrap(), 0);
    assert!(!is_woken(&mut *listener).await, "there is none any more");
}

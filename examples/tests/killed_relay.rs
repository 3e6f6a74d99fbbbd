//! A relay as a process of its own, which is killed a hundred times while others write.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use outbox::{
    Event, EventId, OutboxStoreExt, SchemaStore, SqliteOutbox,
    relay::{CancellationToken, Relay},
    sqlx::{
        self, SqlitePool,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
    },
    transport::JsonLines,
};
use serde_json::json;

/// Tells a process that it is the relay, and of which directory.
const RELAY: &str = "OUTBOX_EXAMPLES_RELAY";
const KILLS: usize = 100;
const WRITERS: u64 = 2;
const KEYS: u64 = 300;
/// What a relay has in hand at most when it dies: a few calls of the transport, and what they have not settled yet.
const BATCH: usize = 20;
const IN_FLIGHT: usize = 10 * BATCH;
const PATIENCE: Duration = Duration::from_secs(60);

/// The part of the child. As a test of its own it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_that_is_killed() {
    let Ok(directory) = env::var(RELAY) else { return };
    let directory = PathBuf::from(directory);
    let outbox = SqliteOutbox::new(pool(&directory).await);
    let transport = JsonLines::append(published(&directory)).await.unwrap();
    let relay = Relay::new(outbox.clone(), transport)
        .with_batch_size(BATCH)
        .with_lease(Duration::from_secs(1))
        .with_wakeups(outbox);
    relay.run(CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_a_hundred_times_loses_nothing_and_keeps_the_order_of_each_key() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(directory.path()).await;
    let outbox = SqliteOutbox::new(pool.clone());
    outbox.migrate().await.unwrap();
    sqlx::query("CREATE TABLE orders (id TEXT PRIMARY KEY)").execute(&pool).await.unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let committed = Arc::new(Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (pool, outbox) = (pool.clone(), outbox.clone());
        let (is_over, committed) = (Arc::clone(&is_over), Arc::clone(&committed));
        writers.spawn(async move { write(writer, &pool, &outbox, &is_over, &committed).await });
    }

    // How many lines there were at each death.
    let mut deaths = Vec::new();
    for kill in 0..KILLS {
        let mut relay = start(directory.path());
        let before = lines(directory.path()).len();
        wait_until(|| lines(directory.path()).len() > before).await;
        // At some moment of its work.
        tokio::time::sleep(Duration::from_micros((kill as u64 * 7919) % 40_000)).await;
        relay.kill().unwrap();
        relay.wait().unwrap();
        deaths.push(lines(directory.path()).len());
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }

    let committed = std::mem::take(&mut *committed.lock().unwrap());
    let wanted: HashSet<EventId> = committed.iter().copied().collect();
    let mut relay = start(directory.path());
    wait_until(|| ids(&lines(directory.path())).is_superset(&wanted)).await;
    relay.kill().unwrap();
    relay.wait().unwrap();

    let lines = lines(directory.path());
    assert_eq!(ids(&lines), wanted, "all that was committed, and nothing that was rolled back");
    assert!(wanted.len() > 4 * KILLS, "{} events say little about {KILLS} deaths", wanted.len());
    check(&lines, &deaths);
}

/// The order of each key, and that only what was in flight is there twice.
fn check(lines: &[Event], deaths: &[usize]) {
    let life = |line: usize| deaths.partition_point(|death| *death <= line);
    let mut last: HashMap<&str, (u64, usize)> = HashMap::new();
    let mut newest: HashMap<&str, u64> = HashMap::new();
    let mut line_of: HashMap<EventId, usize> = HashMap::new();
    for (line, event) in lines.iter().enumerate() {
        let key = event.partition_key().unwrap();
        let number = event.payload()["number"].as_u64().unwrap();
        let (before, line_before) = last.insert(key, (number, line)).unwrap_or((0, line));
        if number != before + 1 {
            assert!(number <= before, "{key}: {number} comes after {before}");
            assert_ne!(
                life(line),
                life(line_before),
                "{key}: {number} comes after {before}, and nobody died"
            );
        }
        let newest = newest.entry(key).or_insert(0);
        assert!(number <= *newest + 1, "{key}: {number} comes before {}", *newest + 1);
        *newest = number.max(*newest);
        if let Some(first) = line_of.insert(event.id(), line) {
            let death = deaths[life(first)];
            assert!(first + IN_FLIGHT >= death, "line {first} was long settled at the death at line {death}");
        }
    }
}

/// Orders, each with an event that has a number in its key, until it is told to stop. Some are rolled back.
async fn write(
    writer: u64,
    pool: &SqlitePool,
    outbox: &SqliteOutbox,
    is_over: &AtomicBool,
    committed: &Mutex<Vec<EventId>>,
) {
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for order in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("writer {writer}, key {}", (order * 31) % KEYS);
        let number = numbers.get(&key).copied().unwrap_or(0) + 1;
        let event = Event::new("order.placed", json!({ "number": number })).unwrap().with_partition_key(&key);
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let id = event.id().to_string();
        sqlx::query("INSERT INTO orders (id) VALUES (?)").bind(id).execute(&mut *transaction).await.unwrap();
        outbox.enqueue(event.clone(), &mut transaction).await.unwrap();
        if order % 5 == 3 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            numbers.insert(key, number);
            committed.lock().unwrap().push(event.id());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn pool(directory: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(directory.join("shop.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(PATIENCE);
    SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap()
}

fn start(directory: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["the_relay_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(RELAY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn published(directory: &Path) -> PathBuf {
    directory.join("events.jsonl")
}

/// The whole lines of a file that may be growing; one that a death has torn is no event.
fn lines(directory: &Path) -> Vec<Event> {
    let text = fs::read(published(directory)).unwrap_or_default();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole].split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn ids(events: &[Event]) -> HashSet<EventId> {
    events.iter().map(Event::id).collect()
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "the relay does not go on");
        tokio::task::yield_now().await;
        thread::sleep(Duration::from_millis(2));
    }
}

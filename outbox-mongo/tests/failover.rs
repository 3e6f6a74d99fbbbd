//! Writers, workers and a listener, while the primary goes; and migrations that the others do not know of yet.

mod replica_set;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
    error::{Error as DriverError, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT},
};
use outbox_conformance::require;
use outbox_mongo::{MongoInbox, MongoOutbox, driver_error, mongodb};
use outbox_traits::{
    Claim, ClaimStore, ErrorKind, Event, EventId, InboxStore, OutboxStore, SchemaStore, Settlement,
    StatsStore, WakeStore,
};
use replica_set::ReplicaSet;
use serde_json::json;

const WRITERS: usize = 3;
const WORKERS: usize = 3;
/// A guard against hanging, no promise.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Default)]
struct Witness {
    /// By key, the numbers that were handed out, in the order in which that was.
    handed_out: Mutex<HashMap<String, Vec<u64>>>,
    /// Whose settlement took.
    settled: Mutex<Vec<EventId>>,
    saved: Mutex<Vec<EventId>>,
    /// How many were saved beside a business row.
    rows: AtomicUsize,
    errors: AtomicUsize,
    stop: AtomicBool,
}

impl Witness {
    fn settled(&self) -> usize {
        self.settled.lock().unwrap().len()
    }

    fn saved(&self) -> usize {
        self.saved.lock().unwrap().len()
    }

    /// Waits until more is saved and more is settled.
    async fn goes_on(&self, more: usize) {
        let (saved, settled, started) = (self.saved(), self.settled(), Instant::now());
        while self.saved() < saved + more || self.settled() < settled + more {
            assert!(started.elapsed() < PATIENCE, "it does not go on");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Saves with a business row, in a transaction of the caller's.
async fn save(store: &MongoOutbox, event: &Event) -> Result<(), DriverError> {
    let mut session = store.database().client().start_session().await?;
    session.start_transaction().await?;
    let saved = store.save_in_session(event, &mut session).await.map_err(driver_error)?;
    if saved == outbox_traits::Saved::Stored {
        let rows = store.database().collection::<Document>("business");
        rows.insert_one(doc! { "event": event.id().to_string() }).session(&mut session).await?;
    }
    session.commit_transaction().await
}

/// Saves events of one key, one after the other, each again until it is known to be there.
async fn write(store: MongoOutbox, witness: Arc<Witness>, writer: usize) {
    for number in 0_u64.. {
        let event = Event::new("t", json!(number)).unwrap().with_partition_key(format!("k{writer}"));
        loop {
            let is_saved = if number % 2 == 0 {
                let saved = store.save(&event).await;
                saved.inspect_err(|error| assert!(error.is_retryable(), "{error:?}")).is_ok()
            } else {
                let labels = [TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT];
                let is_retryable =
                    |error: &DriverError| labels.iter().any(|label| error.contains_label(label));
                let saved = save(&store, &event).await;
                saved.inspect_err(|error| assert!(is_retryable(error), "{error:?}")).is_ok()
            };
            if is_saved {
                break;
            }
            witness.errors.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        witness.saved.lock().unwrap().push(event.id());
        witness.rows.fetch_add(usize::from(number % 2 == 1), Ordering::Relaxed);
        if witness.stop.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Claims and settles until all is delivered.
async fn work(store: MongoOutbox, witness: Arc<Witness>) {
    let claim = Claim::new("w").with_limit(7).with_lease(Duration::from_secs(4));
    loop {
        // Of a settlement whose answer was lost nobody knows but the store.
        if witness.stop.load(Ordering::Relaxed)
            && store.stats().await.is_ok_and(|stats| stats.pending + stats.leased == 0)
        {
            return;
        }
        let leased = match store.claim(&claim).await {
            Ok(leased) => leased,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                witness.errors.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for one in &leased {
            let key = one.event.partition_key().unwrap().to_owned();
            let number = one.event.payload().as_u64().unwrap();
            witness.handed_out.lock().unwrap().entry(key).or_default().push(number);
        }
        let settlements: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
        match store.settle(&settlements).await {
            Ok(answers) => {
                for (one, answer) in leased.iter().zip(answers) {
                    match answer {
                        Ok(()) => witness.settled.lock().unwrap().push(one.event.id()),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
                    }
                }
            }
            // Whether it took is not known: if not, the lease runs out.
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                witness.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        if leased.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_when_the_primary_steps_down_and_when_it_is_killed() {
    let Some(mut set) = require("failover::primary", ReplicaSet::start(3).await) else { return };
    let database = set.client().database("shop");
    let store = MongoOutbox::new(&database);
    store.migrate().await.unwrap();
    database.create_collection("business").await.unwrap();
    let mut listener = store.wakeups().await.unwrap();
    let witness = Arc::new(Witness::default());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        tasks.spawn(write(store.clone(), Arc::clone(&witness), writer));
    }
    for _ in 0..WORKERS {
        // With a turn of its own, as in a process of its own.
        let other = MongoOutbox::new(&database);
        tasks.spawn(work(other, Arc::clone(&witness)));
    }
    witness.goes_on(60).await;

    let first = set.primary_other_than("").await;
    // It closes connections, perhaps that of this command.
    let _ = set.client().database("admin").run_command(doc! { "replSetStepDown": 10 }).await;
    let second = set.primary_other_than(&first).await;
    witness.goes_on(60).await;
    tokio::time::timeout(PATIENCE, listener.wait()).await.expect("nobody is woken after a step-down");

    set.kill(&second);
    set.primary_other_than(&second).await;
    witness.goes_on(60).await;

    witness.stop.store(true, Ordering::Relaxed);
    let joined = tokio::time::timeout(PATIENCE, async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    });
    joined.await.expect("what was saved is not delivered to the end");

    let saved = witness.saved.lock().unwrap().clone();
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0));
    let stored = database.collection::<Document>("outbox");
    // What a settlement that was cut off has said is written into the events by a claim, once its lease is over.
    let written = async {
        while stored.count_documents(doc! { "status": "delivered" }).await.unwrap() < saved.len() as u64 {
            assert!(store.claim(&Claim::new("w")).await.is_ok_and(|leased| leased.is_empty()));
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, written)
        .await
        .expect("what is delivered is never written into the events");
    for (filter, count) in [
        (doc! {}, saved.len()),
        (doc! { "status": "delivered" }, saved.len()),
        (
            doc! { "eventId": { "$in": saved.iter().map(EventId::to_string).collect::<Vec<_>>() } },
            saved.len(),
        ),
    ] {
        assert_eq!(stored.count_documents(filter.clone()).await.unwrap(), count as u64, "{filter}");
    }
    let rows = database.collection::<Document>("business");
    let of_events = rows.distinct("event", doc! {}).await.unwrap().len();
    let count = usize::try_from(rows.count_documents(doc! {}).await.unwrap()).unwrap();
    let expected = witness.rows.load(Ordering::Relaxed);
    assert_eq!((count, of_events), (expected, expected), "rows, and events that they are of");
    let settled = witness.settled.lock().unwrap().clone();
    assert_eq!(settled.iter().collect::<HashSet<_>>().len(), settled.len(), "settled twice");
    for (key, numbers) in witness.handed_out.lock().unwrap().iter() {
        let mut next = 0;
        for number in numbers {
            assert!(*number <= next, "{key}: {number} before {next}: {numbers:?}");
            next = next.max(number + 1);
        }
    }

    // All of before, and then one more.
    while tokio::time::timeout(Duration::from_secs(1), listener.wait()).await.is_ok() {}
    store.save(&Event::new("t", json!(0)).unwrap()).await.unwrap();
    tokio::time::timeout(PATIENCE, listener.wait()).await.expect("nobody is woken after a crash");
    println!("{} events, {} errors meanwhile", saved.len(), witness.errors.load(Ordering::Relaxed));
}

/// What another `migrate` has made a moment ago may be unknown to the majority, which is who is asked by these indexes.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_just_made_is_waited_for() {
    let Some(set) = require("schema::majority", ReplicaSet::start(3).await) else { return };
    let database = set.client().database("shop");
    let (outbox, inbox) = (MongoOutbox::new(&database), MongoInbox::new(&database));
    outbox.migrate().await.unwrap();
    inbox.migrate().await.unwrap();

    set.replicate(false).await;
    make_indexes_again(&database).await;
    let mut waiting = tokio::task::JoinSet::new();
    let (outbox, inbox) = (MongoOutbox::new(&database), MongoInbox::new(&database));
    {
        let (outbox, inbox) = (outbox.clone(), inbox.clone());
        waiting.spawn(async move { outbox.migrate().await });
        waiting.spawn(async move { inbox.migrate().await });
    }
    waiting.spawn(async move { outbox.claim(&Claim::new("w")).await.map(drop) });
    waiting.spawn(async move { inbox.purge(Duration::ZERO).await.map(drop) });
    let early = tokio::time::timeout(Duration::from_secs(1), waiting.join_next()).await;
    assert!(early.is_err(), "{early:?}");

    set.replicate(true).await;
    for done in waiting.join_all().await {
        done.unwrap();
    }

    // Not for ever.
    set.replicate(false).await;
    make_indexes_again(&database).await;
    let error = MongoOutbox::new(&database).stats().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

/// As another `migrate` does, of which the primary alone knows.
async fn make_indexes_again(database: &Database) {
    for name in ["outbox", "inbox"] {
        let indexes = database.run_command(doc! { "listIndexes": name }).await.unwrap();
        let indexes = indexes.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let indexes: Vec<Bson> = indexes.iter().skip(1).cloned().collect();
        let by_one = doc! { "w": 1 };
        for again in [
            doc! { "dropIndexes": name, "index": "*", "writeConcern": &by_one },
            doc! { "createIndexes": name, "indexes": indexes, "writeConcern": &by_one },
        ] {
            database.run_command(again).await.unwrap();
        }
    }
}

//! What is sled's own about claims: what is on the disk, and what is not in order there.

use std::{path::Path, time::Duration};

use outbox_sled::{
    SledOutbox,
    sled::{self, Db, IVec},
};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, Leased, OutboxStore, Saved,
    Settlement, StatsStore,
};
use serde_json::{Value, json};

fn event(key: Option<&str>) -> Event {
    let event = Event::new("order.placed", json!({ "key": key })).unwrap();
    match key {
        Some(key) => event.with_partition_key(key),
        None => event,
    }
}

fn temporary() -> (Db, SledOutbox) {
    let db = sled::Config::new().temporary(true).open().unwrap();
    let outbox = SledOutbox::open(&db).unwrap();
    (db, outbox)
}

/// Sled's threads may hold the lock of a closed data base for a moment.
fn reopen(path: &Path) -> SledOutbox {
    let open = |_| sled::open(path).map_err(|_| std::thread::sleep(Duration::from_millis(10))).ok();
    SledOutbox::open(&(0..200).find_map(open).expect("nobody has it open")).unwrap()
}

async fn claim(outbox: &SledOutbox, limit: usize) -> Vec<Leased> {
    outbox.claim(&Claim::new("a worker").with_limit(limit)).await.unwrap()
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<EventId> {
    events.into_iter().map(Event::id).collect()
}

fn claimed(leased: &[Leased]) -> Vec<EventId> {
    ids(leased.iter().map(|one| &one.event))
}

async fn settle(outbox: &SledOutbox, settlements: &[Settlement]) {
    for answer in outbox.settle(settlements).await.unwrap() {
        answer.unwrap();
    }
}

async fn counts(outbox: &SledOutbox) -> [u64; 4] {
    let stats = outbox.stats().await.unwrap();
    [stats.pending, stats.leased, stats.delivered, stats.dead]
}

#[tokio::test]
async fn claims_attempts_and_counts_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let all = [event(Some("a")), event(Some("a")), event(Some("b")), event(None), event(Some("b"))];
    let outbox = reopen(directory.path());
    outbox.save_all(&all).await.unwrap();
    let first = claim(&outbox, 4).await;
    let failed = Settlement::retry(first[2].lease, Duration::from_secs(60), "down");
    settle(&outbox, &[Settlement::delivered(first[3].lease), failed]).await;
    drop(outbox);

    let outbox = reopen(directory.path());
    assert_eq!(counts(&outbox).await, [2, 2, 1, 0]);
    assert!(claim(&outbox, 10).await.is_empty(), "one key is leased, and one waits");
    settle(&outbox, &[Settlement::delivered(first[0].lease)]).await;
    drop(outbox);

    let outbox = reopen(directory.path());
    outbox.advance_clock(Duration::from_secs(61));
    let again = claim(&outbox, 10).await;
    assert_eq!(claimed(&again), ids([&all[1], &all[2], &all[4]]));
    let attempts: Vec<_> = again.iter().map(|one| (one.attempts, one.failures)).collect();
    assert_eq!(attempts, [(2, 0), (2, 1), (1, 0)]);
}

#[tokio::test]
async fn a_held_key_is_held_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let all = [event(Some("a")), event(Some("a")), event(Some("b"))];
    let outbox = reopen(directory.path());
    outbox.save_all(&all).await.unwrap();
    let leased = claim(&outbox, 1).await;
    settle(&outbox, &[Settlement::dead_letter_holding_key(leased[0].lease, "broken")]).await;
    drop(outbox);

    let outbox = reopen(directory.path());
    assert!(outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters[0].holds_key);
    assert_eq!(claimed(&claim(&outbox, 10).await), ids([&all[2]]));
    assert!(outbox.requeue(all[0].id()).await.unwrap());
    drop(outbox);

    let outbox = reopen(directory.path());
    assert_eq!(claimed(&claim(&outbox, 10).await), ids([&all[0], &all[1]]));
}

/// Its hold is known from the index, so that the key is not held for ever.
#[tokio::test]
async fn a_dead_letter_whose_row_cannot_be_read_can_be_discarded_and_frees_its_key() {
    let (db, outbox) = temporary();
    let all = [event(Some("a")), event(Some("a"))];
    outbox.save_all(&all).await.unwrap();
    let leased = claim(&outbox, 1).await;
    settle(&outbox, &[Settlement::dead_letter_holding_key(leased[0].lease, "broken")]).await;
    db.open_tree("outbox.rows").unwrap().insert(1_u64.to_be_bytes(), "{").unwrap();
    assert!(claim(&outbox, 10).await.is_empty());
    assert!(outbox.discard(all[0].id()).await.unwrap());
    assert_eq!(claimed(&claim(&outbox, 10).await), ids([&all[1]]));
}

/// Its trees as they were before there were claims; but for the rows.
fn make_format_1(db: &Db) {
    for name in ["leased", "waiting", "open", "key_places", "key_states", "heads"] {
        db.open_tree(format!("outbox.{name}")).unwrap().clear().unwrap();
    }
    let meta = db.open_tree("outbox.meta").unwrap();
    meta.remove("counts").unwrap();
    meta.insert("format", "1").unwrap();
}

#[tokio::test]
async fn an_outbox_of_format_1_is_upgraded() {
    let (db, outbox) = temporary();
    let hidden = event(Some("a")).with_not_before(outbox.now() + Duration::from_secs(60));
    let all = [event(None), event(Some("a")), event(Some("a")), event(None), hidden, event(Some("b"))];
    outbox.save_all(&all).await.unwrap();
    outbox.acknowledge(all[0].id()).await.unwrap();
    db.open_tree("outbox.events").unwrap().insert(6_u64.to_be_bytes(), "{").unwrap();
    assert_eq!(outbox.get_pending(10).await.unwrap().len(), 3);
    drop(outbox);

    make_format_1(&db);
    let rows = db.open_tree("outbox.rows").unwrap();
    for row in &rows {
        let (place, row) = row.unwrap();
        let mut row: Value = serde_json::from_slice(&row).unwrap();
        row.as_object_mut().unwrap().retain(|field, _| field != "key" && field != "savedAt");
        rows.insert(place, row.to_string().as_str()).unwrap();
    }

    let outbox = SledOutbox::open(&db).unwrap();
    let meta = db.open_tree("outbox.meta").unwrap();
    assert_eq!(meta.get("format").unwrap(), Some(IVec::from("2")));
    assert_eq!(counts(&outbox).await, [4, 0, 1, 1]);
    assert!(outbox.stats().await.unwrap().oldest_pending.unwrap() < Duration::from_secs(60));
    assert_eq!(claimed(&claim(&outbox, 1).await), ids([&all[1]]));
    assert_eq!(claimed(&claim(&outbox, 10).await), ids([&all[3]]), "the key is known");
    outbox.advance_clock(Duration::from_secs(61));
    assert_eq!(claimed(&claim(&outbox, 10).await), ids(&all[1..5]));
    assert_eq!(counts(&outbox).await, [0, 4, 1, 1]);
}

#[tokio::test]
async fn a_row_that_the_upgrade_cannot_read_stays_what_its_index_says() {
    let (db, outbox) = temporary();
    let hidden = event(None).with_not_before(outbox.now() + Duration::from_secs(60));
    let all = [event(None), hidden, event(None)];
    outbox.save_all(&all).await.unwrap();
    let leased = claim(&outbox, 1).await;
    settle(&outbox, &[Settlement::dead_letter(leased[0].lease, "poison")]).await;
    drop(outbox);
    make_format_1(&db);
    for seq in 1..=3_u64 {
        db.open_tree("outbox.rows").unwrap().insert(seq.to_be_bytes(), "{").unwrap();
    }

    let outbox = SledOutbox::open(&db).unwrap();
    assert_eq!(outbox.get_pending(10).await.unwrap(), all[2..]);
    assert_eq!(counts(&outbox).await, [2, 0, 0, 1]);
    let letters = outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!((letters[0].id, letters[0].reason.is_empty()), (all[0].id(), false));
    assert_eq!(letters[0].content, Ok(all[0].clone()));
    outbox.advance_clock(Duration::from_secs(61));
    assert_eq!(claimed(&claim(&outbox, 10).await), ids(&all[1..]));
    assert_eq!(counts(&outbox).await, [0, 2, 0, 1]);
}

#[tokio::test]
async fn broken_rows_hold_up_nobody_and_keep_their_place() {
    for by_fetch in [false, true] {
        let (db, outbox) = temporary();
        let all: Vec<Event> = (0..5).map(|_| event(Some("a"))).collect();
        outbox.save_all(&all).await.unwrap();
        let tree = |name: &str| db.open_tree(format!("outbox.{name}")).unwrap();
        // The row, then both, then the record.
        for (name, seq) in [("rows", 1_u64), ("rows", 2), ("events", 2), ("events", 3)] {
            tree(name).insert(seq.to_be_bytes(), "{").unwrap();
        }
        if by_fetch {
            assert_eq!(outbox.get_pending(10).await.unwrap().len(), 3);
        }
        let first = claim(&outbox, 1).await;
        assert_eq!(claimed(&first), ids(&all[..1]));
        assert!(claim(&outbox, 10).await.is_empty(), "its key is known from the record");
        tree("rows").insert(1_u64.to_be_bytes(), "{").unwrap();
        outbox.advance_clock(Duration::from_secs(31));
        assert_eq!(claimed(&claim(&outbox, 10).await), ids([&all[0], &all[3], &all[4]]));
        assert_eq!(counts(&outbox).await, [0, 3, 0, 2]);
        assert_eq!(outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters.len(), 2);
    }
}

/// Also where only its row is spoilt, or all of it, and by all that goes through them.
#[tokio::test]
async fn a_dead_letter_that_is_spoilt_is_shown_and_goes_with_the_others() {
    let (db, outbox) = temporary();
    let all: Vec<Event> = (0..3).map(|_| event(Some("a"))).collect();
    outbox.save_all(&all).await.unwrap();
    let leased = claim(&outbox, 2).await;
    let dead = leased.iter().map(|one| Settlement::dead_letter_holding_key(one.lease, "poison"));
    settle(&outbox, &dead.collect::<Vec<_>>()).await;
    let tree = |name: &str| db.open_tree(format!("outbox.{name}")).unwrap();
    for (name, seq) in [("rows", 1_u64), ("rows", 2), ("events", 2)] {
        tree(name).insert(seq.to_be_bytes(), "{").unwrap();
    }
    let letters = outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), ids(&all[..2]));
    assert_eq!(letters[0].content, Ok(all[0].clone()));
    assert_eq!(letters[1].content, Err("{".to_owned()));
    assert!(letters.iter().all(|letter| !letter.reason.is_empty()));
    // A dead letter is not acknowledged, whatever its row says.
    outbox.acknowledge(all[0].id()).await.unwrap();
    assert_eq!(counts(&outbox).await, [1, 0, 0, 2]);
    assert_eq!(outbox.purge(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(outbox.discard_all(&DeadLetterFilter::new()).await.unwrap(), 2);
    assert_eq!(outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters, []);
}

/// What they have taken is known from the trees of ids and keys.
#[tokio::test]
async fn rows_of_which_nothing_can_be_read_are_known_by_their_ids_and_free_them_when_they_go() {
    let (db, outbox) = temporary();
    let all: Vec<Event> = (0..3).map(|index| event(None).with_idempotency_key(index.to_string())).collect();
    outbox.save_all(&all).await.unwrap();
    for name in ["outbox.rows", "outbox.events"] {
        for seq in 1..=3_u64 {
            db.open_tree(name).unwrap().insert(seq.to_be_bytes(), "{").unwrap();
        }
    }
    // The last one has none any more.
    let ids_tree = db.open_tree("outbox.ids").unwrap();
    ids_tree.remove(all[2].id().as_uuid().as_bytes()).unwrap();
    let shown = async || {
        assert!(outbox.get_pending(10).await.unwrap().is_empty());
        let letters = outbox.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
        letters.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let letters = shown().await;
    assert_eq!(letters[..2], ids(&all[..2]));
    assert!(outbox.requeue(letters[2]).await.unwrap());
    assert_eq!(shown().await, letters);
    assert!(outbox.discard(letters[0]).await.unwrap() && outbox.discard(letters[2]).await.unwrap());
    assert_eq!(outbox.discard_all(&DeadLetterFilter::new()).await.unwrap(), 1);
    assert_eq!((ids_tree.len(), db.open_tree("outbox.keys").unwrap().len()), (0, 0));
    assert_eq!(outbox.save_all(&all).await.unwrap(), [Saved::Stored; 3]);
}

/// Also where it is no fetch that meets it.
#[tokio::test]
async fn a_row_that_is_lost_after_its_delivery_frees_its_id_and_key_when_it_is_purged() {
    let (db, outbox) = temporary();
    let one = event(None).with_idempotency_key("key");
    outbox.save(&one).await.unwrap();
    outbox.acknowledge(one.id()).await.unwrap();
    for name in ["outbox.rows", "outbox.events"] {
        db.open_tree(name).unwrap().insert(1_u64.to_be_bytes(), "{").unwrap();
    }
    assert_eq!(outbox.purge(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(outbox.save(&one).await.unwrap(), Saved::Stored);
}

/// Nobody knows of what key it was: that key begins where it stood, and must not go with it.
#[tokio::test]
async fn a_first_event_of_which_nothing_can_be_read_holds_up_its_key_for_nobody() {
    for is_requeued in [false, true] {
        let (db, outbox) = temporary();
        let all: Vec<Event> = (0..3).map(|_| event(Some("a"))).collect();
        outbox.save_all(&all).await.unwrap();
        for name in ["outbox.rows", "outbox.events"] {
            db.open_tree(name).unwrap().insert(1_u64.to_be_bytes(), "{").unwrap();
        }
        assert_eq!(outbox.get_pending(10).await.unwrap(), all[1..]);
        let due = outbox.stats().await.unwrap().oldest_due.unwrap();
        assert!(due < Duration::from_secs(60), "{due:?}");
        if is_requeued {
            assert!(outbox.requeue(all[0].id()).await.unwrap());
        }
        assert_eq!(claimed(&claim(&outbox, 10).await), ids(&all[1..]));
        assert_eq!(counts(&outbox).await, [0, 2, 0, 1]);
    }
}

/// Where a key begins may be long before its first event.
#[tokio::test]
async fn what_is_due_first_is_looked_for_beyond_the_beginning_of_a_key() {
    let (_db, outbox) = temporary();
    let (first, second, third) = (event(Some("a")), event(None), event(Some("a")));
    outbox.save_all(&[first.clone(), second]).await.unwrap();
    outbox.advance_clock(Duration::from_secs(100));
    outbox.save(&third).await.unwrap();
    let due = async || outbox.stats().await.unwrap().oldest_due.unwrap().as_secs();
    outbox.acknowledge(first.id()).await.unwrap();
    assert!((100..160).contains(&due().await), "{}", due().await);
    assert_eq!(claim(&outbox, 1).await.len(), 1);
    assert!((100..160).contains(&due().await), "leased, it is due");
}

/// Two stores over the same trees have a writer each, and must not hand out the same.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_two_stores_over_the_same_trees_are_disjoint() {
    let (db, outbox) = temporary();
    let all: Vec<Event> = (0..400).map(|index| event(Some(&format!("{}", index % 20)))).collect();
    outbox.save_all(&all).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for outbox in [outbox.clone(), SledOutbox::open(&db).unwrap()] {
        for _ in 0..2 {
            let outbox = outbox.clone();
            workers.spawn(async move {
                let mut own = Vec::new();
                while counts(&outbox).await[..2] != [0, 0] {
                    let leased = claim(&outbox, 7).await;
                    own.extend(claimed(&leased));
                    let done: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
                    settle(&outbox, &done).await;
                }
                own
            });
        }
    }
    let mut delivered: Vec<EventId> = workers.join_all().await.concat();
    delivered.sort();
    let mut expected = ids(&all);
    expected.sort();
    assert_eq!(delivered, expected);
}

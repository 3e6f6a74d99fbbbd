//! Claims beside what else writes and reads the collection.

mod harness;

use std::{collections::HashSet, time::Duration};

use harness::{DeletingMongo, Mongo, MongoOf};
use outbox_conformance::{Harness, SchemaHarness, require};
use outbox_mongo::mongodb::bson::{DateTime, Document, doc};
use outbox_traits::{Claim, ClaimStore, Event, EventId, Leased, MAX_REASON_CHARS, OutboxStore, Settlement};
use serde_json::json;

#[tokio::test]
async fn what_a_typescript_writer_saved_is_claimed_retried_and_delivered() {
    let Some(h) = require("claims::written_elsewhere", Mongo::open().await) else { return };
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = EventId::new();
        let row = doc! {
            "eventId": id.to_string(), "type": "order.placed", "payload": {},
            "meta": { "id": id.to_string(), "timestamp": DateTime::now() },
            "status": "pending", "createdAt": DateTime::now(),
        };
        h.outbox().insert_one(row).await.unwrap();
        ids.push(id);
    }
    let claim = async |limit| h.store.claim(&Claim::new("w").with_limit(limit)).await.unwrap();
    let first = claim(1).await;
    let rest = claim(9).await;
    assert_eq!((first.len(), rest.len()), (1, 2));
    let retry = Settlement::retry(first[0].lease, Duration::from_secs(60), "failed");
    assert!(h.store.settle(&[retry]).await.unwrap()[0].is_ok());
    // A reader of the TypeScript shape goes by `pending`.
    let pending = doc! { "status": "pending", "eventId": first[0].event.id().to_string() };
    assert_eq!(h.outbox().count_documents(pending).await.unwrap(), 0);
    let delivered: Vec<_> = rest.iter().map(|one| Settlement::delivered(one.lease)).collect();
    assert!(h.store.settle(&delivered).await.unwrap().iter().all(Result::is_ok));
    assert!(claim(9).await.is_empty());
    h.advance(Duration::from_secs(61)).await;
    let again = claim(9).await;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].event.id(), again[0].attempts, again[0].failures), (first[0].event.id(), 2, 1));
    assert!(h.store.settle(&[Settlement::delivered(again[0].lease)]).await.unwrap()[0].is_ok());
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), 3);
    h.close().await;
}

/// It is kept with the lease, in a document that holds the names of its events as well.
#[tokio::test]
async fn of_the_name_of_a_worker_the_beginning_is_kept() {
    let Some(h) = require("claims::long_name", Mongo::open().await) else { return };
    h.store.save(&Event::new("t", json!(1)).unwrap()).await.unwrap();
    let leased = h.store.claim(&Claim::new("w".repeat(17_000_000))).await.unwrap();
    let lease = h.database().collection::<Document>("outbox.leases");
    let lease = lease.find_one(doc! { "token": leased[0].lease.token().to_string() }).await.unwrap().unwrap();
    assert_eq!(lease.get_str("worker").unwrap(), "w".repeat(MAX_REASON_CHARS));
    assert!(h.store.settle(&[Settlement::delivered(leased[0].lease)]).await.unwrap()[0].is_ok());
    h.close().await;
}

/// Each store has a turn of its own, as in processes of their own: what keeps them apart is the lock on the server.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_many_processes_are_disjoint() {
    let Some(h) = require("claims::processes", Mongo::open().await) else { return };
    let event = |number: usize| {
        Event::new("t", json!(number)).unwrap().with_partition_key(format!("k{}", number % 40))
    };
    let all: Vec<Event> = (0..600).map(event).collect();
    h.store.save_all(&all).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = h.unmigrated("outbox");
        workers.spawn(async move {
            let (mut mine, mut misses) = (Vec::new(), 0);
            while misses < 10 {
                let leased = store.claim(&Claim::new("w").with_limit(13)).await.unwrap();
                misses += usize::from(leased.is_empty());
                let settlements: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
                assert!(store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
                mine.extend(leased.iter().map(|one| one.event.id()));
            }
            mine
        });
    }
    let claimed: Vec<EventId> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), all.len());
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), all.iter().map(Event::id).collect());
    h.close().await;
}

/// As its server sees it: a session that claims has listed, and its first transaction, that goes on no more.
#[tokio::test]
async fn a_claim_whose_process_dies_in_the_middle_of_it_is_ended_and_no_other_transaction_is() {
    let Some(h) = require("claims::stalled", Mongo::open().await) else { return };
    h.store.save(&Event::new("t", json!(1)).unwrap()).await.unwrap();
    let lock = h.database().collection::<Document>("outbox.leases");
    let mut bystander = h.begin().await;
    h.write_row("slow", &mut bystander).await;
    let mut dead = h.begin().await;
    let listed = doc! { "$push": { "sessions": dead.id().get("id").unwrap().clone() } };
    lock.update_one(doc! { "_id": "sessions" }, listed).upsert(true).await.unwrap();
    let write = || lock.update_one(doc! { "_id": "lock" }, doc! { "$inc": { "version": 1_i64 } });
    write().upsert(true).await.unwrap();
    write().session(&mut dead).await.unwrap();
    // By itself the server would wait for a minute, and a claim waits for ten seconds.
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 1);
    dead.commit_transaction().await.unwrap_err();
    dead.start_transaction().await.unwrap();
    write().session(&mut dead).await.unwrap();
    // And so would an acknowledgement.
    h.store.acknowledge(EventId::new()).await.unwrap();
    dead.commit_transaction().await.unwrap_err();
    // Also one of what it was about to park, or to count an attempt of.
    let event = Event::new("t", json!(2)).unwrap();
    h.store.save(&event).await.unwrap();
    dead.start_transaction().await.unwrap();
    write().session(&mut dead).await.unwrap();
    let events = h.database().collection::<Document>("outbox");
    let (this, park) = (doc! { "eventId": event.id().to_string() }, doc! { "$set": { "status": "parked" } });
    events.update_one(this, park).session(&mut dead).await.unwrap();
    let acknowledged = tokio::time::timeout(Duration::from_secs(30), h.store.acknowledge(event.id())).await;
    acknowledged.expect("it waits until the server ends it by itself").unwrap();
    dead.commit_transaction().await.unwrap_err();
    // And a settlement of what it was about to take from a lease.
    h.store.save(&Event::new("t", json!(3)).unwrap()).await.unwrap();
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    dead.start_transaction().await.unwrap();
    let this = doc! { "token": leased[0].lease.token().to_string() };
    let touch = doc! { "$inc": { "revision": 1_i64 } };
    lock.update_one(this, touch).session(&mut dead).await.unwrap();
    let delivered = [Settlement::delivered(leased[0].lease)];
    let settled = tokio::time::timeout(Duration::from_secs(30), h.store.settle(&delivered)).await;
    assert!(settled.expect("it waits until the server ends it by itself").unwrap()[0].is_ok());
    dead.commit_transaction().await.unwrap_err();
    let known = lock.find_one(doc! { "_id": "sessions" }).await.unwrap().unwrap();
    assert_eq!(known.get_array("sessions").unwrap().len(), 2, "its own as well: {known}");
    h.commit(bystander).await;
    assert_eq!(h.rows().await, ["slow"]);
    h.close().await;
}

/// A settlement is written into the lease first; the process dies before it is written anywhere else.
#[tokio::test]
async fn what_was_settled_by_a_process_that_died_then_is_delivered() {
    let Some(h) = require("claims::half_settled", Mongo::open().await) else { return };
    let events: Vec<Event> =
        (0..4).map(|number| Event::new("t", json!(number)).unwrap().with_partition_key("k")).collect();
    h.store.save_all(&events).await.unwrap();
    let claim = async |limit| h.store.claim(&Claim::new("w").with_limit(limit)).await.unwrap();
    let leases = h.database().collection::<Document>("outbox.leases");
    let first = claim(2).await;
    let decided = doc! { "$set": { "delivered": true }, "$inc": { "revision": 1_i64 } };
    leases.update_one(doc! { "token": first[0].lease.token().to_string() }, decided).await.unwrap();
    // It is not handed out again, and what follows is.
    let pending = h.store.get_pending(9).await.unwrap();
    assert_eq!(pending.iter().map(Event::id).collect::<Vec<_>>(), [events[2].id(), events[3].id()]);
    assert!(h.store.renew(&[first[0].lease], Duration::from_secs(9)).await.unwrap()[0].is_err());
    assert!(h.store.settle(&[Settlement::released(first[0].lease)]).await.unwrap()[0].is_err());
    let second = claim(2).await;
    assert_eq!(second.iter().map(|one| one.event.id()).collect::<Vec<_>>(), [events[2].id(), events[3].id()]);

    // Of the second lease one is settled so, and the other not at all.
    let decided = doc! { "$set": { "entries.0.delivered": true }, "$inc": { "revision": 1_i64 } };
    leases.update_one(doc! { "token": second[0].lease.token().to_string() }, decided).await.unwrap();
    h.advance(Duration::from_hours(1)).await;
    let again = claim(9).await;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].event.id(), again[0].attempts), (events[3].id(), 2));
    assert!(h.store.settle(&[Settlement::delivered(again[0].lease)]).await.unwrap()[0].is_ok());
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), 4);
    assert_eq!(leases.count_documents(doc! { "token": { "$exists": true } }).await.unwrap(), 0);
    h.close().await;
}

/// A settlement that was cut off has written into the lease what it could; the next one of the same is lost, and does the rest.
#[tokio::test]
async fn a_settlement_that_is_made_again_does_what_is_left_to_do() {
    let Some(h) = require("claims::made_again", Mongo::open().await) else { return };
    let leases = h.database().collection::<Document>("outbox.leases");
    for fails in [false, true] {
        let events: Vec<Event> = (0..3).map(|number| Event::new("t", json!(number)).unwrap()).collect();
        h.store.save_all(&events).await.unwrap();
        let leased = h.store.claim(&Claim::new("w").with_limit(3)).await.unwrap();
        let set = doc! { "entries.0.delivered": true, "entries.1.delivered": true };
        let decided = doc! { "$set": set, "$inc": { "revision": 1_i64 } };
        leases.update_one(doc! { "token": leased[0].lease.token().to_string() }, decided).await.unwrap();
        let mut settlements: Vec<Settlement> =
            leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
        if fails {
            settlements[2] = Settlement::dead_letter(leased[2].lease, "failed");
        }
        let answers = h.store.settle(&settlements).await.unwrap();
        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), if fails { 2 } else { 3 });
        assert_eq!(leases.count_documents(doc! { "token": { "$exists": true } }).await.unwrap(), 0);
    }
    h.close().await;
}

/// A lease that was read is written only as it was read.
#[tokio::test]
async fn settlements_of_one_claim_from_many_sides_lose_nothing() {
    let Some(h) = require("claims::sides", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..24).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    let mut sides = tokio::task::JoinSet::new();
    for some in leased.chunks(4) {
        let (store, leases) = (h.store.clone(), some.iter().map(|one| one.lease).collect::<Vec<_>>());
        sides.spawn(async move {
            store.renew(&leases[..2], Duration::from_mins(1)).await.unwrap();
            let delivered: Vec<_> = leases.iter().copied().map(Settlement::delivered).collect();
            // Each side settles twice, and one of the two counts.
            let settle = async || store.settle(&delivered).await.unwrap();
            let (first, second) = tokio::join!(settle(), settle());
            first.iter().zip(&second).filter(|(first, second)| first.is_ok() != second.is_ok()).count()
        });
    }
    assert_eq!(sides.join_all().await.into_iter().sum::<usize>(), 24);
    assert!(h.store.claim(&Claim::new("w")).await.unwrap().is_empty());
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), 24);
    h.close().await;
}

/// A claim that has read the event before its acknowledgement must not lease it after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_leased_by_no_claim_that_is_under_way() {
    let Some(h) = require("claims::acknowledged", Mongo::open().await) else { return };
    let other = h.unmigrated("outbox");
    for round in 0..250 {
        let event = Event::new("t", json!(round)).unwrap();
        h.store.save(&event).await.unwrap();
        let acknowledge = async {
            tokio::time::sleep(Duration::from_micros(100 * (round % 50))).await;
            other.acknowledge(event.id()).await.unwrap();
        };
        let claim = Claim::new("w");
        let (leased, ()) = tokio::join!(h.store.claim(&claim), acknowledge);
        for one in leased.unwrap() {
            let renewed = h.store.renew(&[one.lease], Duration::from_mins(1)).await.unwrap();
            assert!(renewed[0].is_err(), "in round {round} what was delivered is leased");
        }
    }
    h.close().await;
}

/// Events of two keys, the first of each: one is leased for an hour, and one waits for a retry as long.
async fn two_that_are_waited_for<const DELETES: bool>(h: &MongoOf<DELETES>, round: u64) -> [Event; 2] {
    let event =
        |kind: &str| Event::new("t", json!(round)).unwrap().with_partition_key(format!("{kind} {round}"));
    let (leased, waiting) = (event("leased"), event("waiting"));
    let claim = Claim::new("w").with_lease(Duration::from_hours(1));
    h.store.save(&waiting).await.unwrap();
    let one = h.store.claim(&claim).await.unwrap();
    let retry = Settlement::retry(one[0].lease, Duration::from_hours(1), "failed");
    assert!(h.store.settle(&[retry]).await.unwrap()[0].is_ok());
    h.store.save(&leased).await.unwrap();
    assert_eq!(h.store.claim(&claim).await.unwrap().len(), 1);
    [leased, waiting]
}

/// Either it is not acknowledged, and then it can be, or nothing waits for it any more.
async fn nobody_waits_for<const DELETES: bool>(h: &MongoOf<DELETES>, events: &[Event]) {
    for event in events {
        let next = event.clone().with_id(EventId::new());
        h.store.save(&next).await.unwrap();
        let handed_out = async {
            loop {
                let leased = h.store.claim(&Claim::new("w")).await.unwrap();
                if let [one] = &leased[..] {
                    assert_eq!(one.event.id(), next.id());
                    return h.store.settle(&[Settlement::delivered(one.lease)]).await.unwrap();
                }
                let id = event.id().to_string();
                let open = doc! { "eventId": id, "status": { "$in": ["pending", "parked"] } };
                if h.outbox().count_documents(open).await.unwrap() == 1 {
                    h.store.acknowledge(event.id()).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let key = event.partition_key().unwrap();
        let handed_out = tokio::time::timeout(Duration::from_secs(10), handed_out).await;
        handed_out.unwrap_or_else(|_| panic!("nobody is handed the next event of {key:?}"));
    }
}

/// What is delivered nobody acknowledges again, so that it must not be delivered without an end of the wait for it.
async fn cut_off_acknowledgements<const DELETES: bool>(h: &MongoOf<DELETES>) {
    let locks = h.database().collection::<Document>("outbox.leases");
    let events = two_that_are_waited_for(h, 0).await;
    let mut other = h.begin().await;
    let write = doc! { "$inc": { "version": 1_i64 } };
    locks.update_one(doc! { "_id": "lock" }, write).session(&mut other).await.unwrap();
    for event in &events {
        let cut_off = tokio::time::timeout(Duration::from_millis(500), h.store.acknowledge(event.id()));
        cut_off.await.expect_err("another has the lock");
    }
    h.rollback(other).await;
    nobody_waits_for(h, &events).await;
    // And at any other moment.
    for round in 1..60 {
        let free = Event::new("t", json!(round)).unwrap();
        let events = two_that_are_waited_for(h, round).await;
        h.store.save(&free).await.unwrap();
        let ids = [&events[0], &events[1], &free].map(Event::id);
        let acknowledged = h.store.acknowledge_all(&ids);
        tokio::time::timeout(Duration::from_micros(300 * round), acknowledged).await.ok();
        h.store.acknowledge(free.id()).await.unwrap();
        nobody_waits_for(h, &events).await;
    }
    assert!(h.store.claim(&Claim::new("w")).await.unwrap().is_empty());
    assert!(h.store.get_pending(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_acknowledgement_that_is_cut_off_holds_up_nobody() {
    let Some(h) = require("claims::cut_off", Mongo::open().await) else { return };
    cut_off_acknowledgements(&h).await;
    h.close().await;
}

#[tokio::test]
async fn an_acknowledgement_that_deletes_and_is_cut_off_holds_up_nobody() {
    let Some(h) = require("claims::cut_off_deletion", DeletingMongo::open().await) else { return };
    cut_off_acknowledgements(&h).await;
    h.close().await;
}

/// Else there would be one for each key that ever waited.
#[tokio::test]
async fn a_key_of_which_nothing_is_parked_any_more_has_no_document() {
    let Some(h) = require("claims::keys", Mongo::open().await) else { return };
    let keys = h.database().collection::<Document>("outbox.keys");
    // Also where nobody ever claims all types.
    for asked in [Claim::new("w"), Claim::new("w").with_types(["t"])] {
        h.store.save(&Event::new("t", json!(1)).unwrap().with_partition_key("k")).await.unwrap();
        let claim = async || h.store.claim(&asked).await.unwrap();
        let retry = Settlement::retry(claim().await[0].lease, Duration::ZERO, "failed");
        assert!(h.store.settle(&[retry]).await.unwrap()[0].is_ok());
        assert_eq!(keys.count_documents(doc! {}).await.unwrap(), 1);
        assert!(h.store.settle(&[Settlement::delivered(claim().await[0].lease)]).await.unwrap()[0].is_ok());
        // So long as another event is there, nothing is idle.
        h.store.save(&Event::new("t", json!(2)).unwrap()).await.unwrap();
        assert!(h.store.settle(&[Settlement::delivered(claim().await[0].lease)]).await.unwrap()[0].is_ok());
        assert_eq!(keys.count_documents(doc! {}).await.unwrap(), 0);
    }
    // But not where there is another of another type.
    for event_type in ["t", "u"] {
        h.store.save(&Event::new(event_type, json!(1)).unwrap().with_partition_key("k")).await.unwrap();
    }
    let both = h.store.claim(&Claim::new("w")).await.unwrap();
    let retry = both.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "failed"));
    h.store.settle(&retry.collect::<Vec<_>>()).await.unwrap();
    let first = h.store.claim(&Claim::new("w").with_types(["t"])).await.unwrap();
    assert!(h.store.settle(&[Settlement::delivered(first[0].lease)]).await.unwrap()[0].is_ok());
    assert!(h.store.claim(&Claim::new("w").with_types(["t"])).await.unwrap().is_empty());
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap()[0].event.id(), both[1].event.id());
    h.close().await;
}

/// Whoever settles one of them meanwhile would have to look again.
#[tokio::test]
async fn an_acknowledgement_leaves_the_leases_of_others_as_they_are() {
    let Some(h) = require("claims::others", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..2).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let claim = Claim::new("w").with_limit(1);
    let (first, second) = (h.store.claim(&claim).await.unwrap(), h.store.claim(&claim).await.unwrap());
    let leases = h.database().collection::<Document>("outbox.leases");
    let of = async |leased: &[outbox_traits::Leased]| {
        leases.find_one(doc! { "token": leased[0].lease.token().to_string() }).await.unwrap()
    };
    let before = of(&second).await;
    assert!(before.is_some());
    h.store.acknowledge(first[0].event.id()).await.unwrap();
    assert_eq!((of(&first).await, of(&second).await), (None, before));
    h.close().await;
}

/// Whoever settles what is left must find it, and who claims must find nothing to look through.
#[tokio::test]
async fn a_settlement_with_a_failure_leaves_of_a_lease_what_it_does_not_name() {
    let Some(h) = require("claims::left", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..5).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let leases = h.database().collection::<Document>("outbox.leases");
    let leased: Vec<_> = h.store.claim(&Claim::new("w")).await.unwrap().iter().map(|one| one.lease).collect();
    let left = async || {
        let document = leases.find_one(doc! { "token": leased[0].token().to_string() }).await.unwrap();
        document.map_or(0, |document| document.get_array("entries").unwrap().len())
    };
    for (number, still) in [(0, 3), (2, 1)] {
        let delivered = Settlement::delivered(leased[number]);
        let settlements = [delivered, Settlement::dead_letter(leased[number + 1], "failed")];
        assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
        assert_eq!(left().await, still);
    }
    assert!(h.store.renew(&leased[4..], Duration::from_mins(1)).await.unwrap()[0].is_ok());
    assert!(h.store.settle(&[Settlement::dead_letter(leased[4], "failed")]).await.unwrap()[0].is_ok());
    assert_eq!(leases.count_documents(doc! { "token": { "$exists": true } }).await.unwrap(), 0);

    h.store
        .save_all(&events.iter().map(|event| event.clone().with_id(EventId::new())).collect::<Vec<_>>())
        .await
        .unwrap();
    let all = h.store.claim(&Claim::new("w").with_limit(2)).await.unwrap();
    let settlements = [Settlement::delivered(all[0].lease), Settlement::dead_letter(all[1].lease, "failed")];
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(leases.count_documents(doc! { "token": { "$exists": true } }).await.unwrap(), 0);
    h.close().await;
}

/// Under a lease that does not run out meanwhile.
async fn claim_for_long(h: &Mongo, limit: usize) -> Vec<Leased> {
    let claim = Claim::new("w").with_lease(Duration::from_mins(10)).with_limit(limit);
    h.store.claim(&claim).await.unwrap()
}

fn ids(leased: &[Leased]) -> Vec<EventId> {
    leased.iter().map(|one| one.event.id()).collect()
}

/// Those behind a key that has more events than a claim parks at once are claimed before all of these are parked.
#[tokio::test]
async fn a_claim_puts_a_part_of_a_hot_key_aside_and_goes_on_with_others() {
    let Some(h) = require("claims::hot_key", Mongo::open().await) else { return };
    let of = |key: &str, number: u32| Event::new("t", json!(number)).unwrap().with_partition_key(key);
    let claim = async |limit| claim_for_long(&h, limit).await;
    let hot = |numbers: std::ops::Range<u32>| numbers.map(|number| of("hot", number)).collect::<Vec<_>>();
    h.store.save_all(&hot(0..10)).await.unwrap();
    let mut leased = claim(10).await;
    let others = ["a", "b", "c"].map(|key| of(key, 0));
    h.store.save_all(&hot(10..9000)).await.unwrap();
    h.store.save(&others[0]).await.unwrap();
    h.store.save_all(&hot(9000..14_000)).await.unwrap();
    h.store.save_all(&others[1..]).await.unwrap();

    assert_eq!(ids(&claim(2).await), [others[0].id(), others[1].id()]);
    let parked = h.outbox().count_documents(doc! { "status": "parked" }).await.unwrap();
    assert_eq!(parked, 2000, "by one claim");
    assert_eq!(ids(&claim(2).await), [others[2].id()]);
    let mut next = 0;
    while !leased.is_empty() {
        for one in &leased {
            assert_eq!(*one.event.payload(), json!(next));
            next += 1;
        }
        let delivered: Vec<_> = leased.iter().map(|one| Settlement::delivered(one.lease)).collect();
        assert!(h.store.settle(&delivered).await.unwrap().iter().all(Result::is_ok));
        leased = claim(1000).await;
    }
    assert_eq!(next, 14_000);
    h.close().await;
}

/// Where claims begin behind a hot key, what comes in front of that is found, and before what is behind.
#[tokio::test]
async fn what_comes_late_in_front_of_a_hot_key_comes_before_what_is_behind() {
    let Some(h) = require("claims::in_front", Mongo::open().await) else { return };
    let of = |key: &str| Event::new("t", json!(key)).unwrap().with_partition_key(key);
    let claim = async |limit| claim_for_long(&h, limit).await;
    let settle = async |settlements: Vec<Settlement>| {
        assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    };
    let hot = |count: usize| (0..count).map(|_| of("hot")).collect::<Vec<_>>();

    h.store.save(&of("hot")).await.unwrap();
    let first = claim(1).await;
    h.store.save_all(&hot(4000)).await.unwrap();
    let between = [of("released"), of("late")];
    h.store.save(&between[0]).await.unwrap();
    let mut transaction = h.begin().await;
    h.store.save_in_session(&between[1], h.session(&mut transaction)).await.unwrap();
    h.store.save_all(&hot(4000)).await.unwrap();
    let behind = ["a", "b", "late", "b", "c"].map(of);
    h.store.save_all(&behind[..2]).await.unwrap();

    // It parks its share, and is past the rest.
    let leased = claim(2).await;
    assert_eq!(ids(&leased), [between[0].id(), behind[0].id()]);
    let parked = async || h.outbox().count_documents(doc! { "status": "parked" }).await.unwrap();
    let share = parked().await;
    h.commit(transaction).await;
    h.store.save_all(&behind[2..]).await.unwrap();
    let b = claim(1).await;
    assert_eq!(ids(&b), [behind[1].id()]);
    let late = claim(1).await;
    assert_eq!(ids(&late), [between[1].id()], "before what was saved when it was there");
    let [released_b, released] = [&b[0], &leased[0]].map(|one| Settlement::released(one.lease));
    settle(vec![released_b]).await;
    assert_eq!(ids(&claim(3).await), [behind[1].id(), behind[3].id(), behind[4].id()]);
    settle(vec![released]).await;
    assert_eq!(ids(&claim(9).await), [between[0].id()], "where nothing is behind");
    assert!(claim(9).await.is_empty());
    settle(late.iter().map(|one| Settlement::delivered(one.lease)).collect()).await;
    assert_eq!(ids(&claim(9).await), [behind[2].id()]);
    // Each claim that begins in front parks as much; one may, after some time.
    assert!(share == 2000 && parked().await < 8000, "what was passed over once is not looked at again");
    settle(first.iter().map(|one| Settlement::delivered(one.lease)).collect()).await;
    assert_eq!(claim(8000).await.len(), 8000, "the key is free");
    h.close().await;
}

/// Of more busy keys than are passed over at once.
#[tokio::test]
async fn a_claim_comes_past_many_busy_keys_that_have_many_events_each() {
    let Some(h) = require("claims::many_hot_keys", Mongo::open().await) else { return };
    let of = |key: usize| Event::new("t", json!(key)).unwrap().with_partition_key(format!("{key}"));
    let claim = async |limit| claim_for_long(&h, limit).await;
    let keys: Vec<_> = (0..30).map(of).collect();
    h.store.save_all(&keys).await.unwrap();
    assert_eq!(claim(30).await.len(), 30);
    // Each round has another key behind it.
    let mut others = Vec::new();
    for round in 0..4 {
        h.store.save_all(&(0..3000).map(|number| of(number % 30)).collect::<Vec<_>>()).await.unwrap();
        others.push(of(100 + round));
        h.store.save(&others[round]).await.unwrap();
    }
    for other in others {
        assert_eq!(ids(&claim(1).await), [other.id()]);
    }
    assert!(claim(1).await.is_empty());
    h.close().await;
}

/// Of each of these, more than a claim parks, one after the other and mixed.
#[tokio::test]
async fn claims_begin_behind_the_events_of_all_hot_keys() {
    let Some(h) = require("claims::behind_all", Mongo::open().await) else { return };
    let of = |key: &str| Event::new("t", json!(key)).unwrap().with_partition_key(key);
    let claim = async |limit| claim_for_long(&h, limit).await;
    h.store.save_all(&["hot", "warm", "busy"].map(of)).await.unwrap();
    assert_eq!(claim(3).await.len(), 3);
    for keys in [["hot"; 2], ["warm"; 2], ["hot", "warm"]] {
        let stretch: Vec<_> = (0..3000).map(|number| of(keys[number % 2])).collect();
        h.store.save_all(&stretch).await.unwrap();
        h.store.save(&of("busy")).await.unwrap();
    }
    let others: Vec<_> = (0..8).map(|number| of(&format!("{number}"))).collect();
    h.store.save_all(&others).await.unwrap();
    for other in others {
        assert_eq!(ids(&claim(1).await), [other.id()]);
    }
    assert!(claim(1).await.is_empty());
    // Each claim that begins in front parks 2,000; one may, after some time.
    let parked = h.outbox().count_documents(doc! { "status": "parked" }).await.unwrap();
    assert!((2000..=4000).contains(&parked), "{parked}");
    h.close().await;
}

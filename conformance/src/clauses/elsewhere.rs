//! Section 9.7: what programs write and read that know no more than the published shape of a row.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use outbox_traits::{
    ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, Leased, MAX_ENCODED_BYTES,
    OutboxStore, Saved, Settlement, StatsStore,
};
use serde_json::{Value, json};

use super::{
    claim::{LEASE, claim, leased_ids, pages, settled},
    dead_letter::{dead, discarded_page_by_page},
};
use crate::{
    ElsewhereHarness, Filled,
    support::{
        acknowledge, acknowledge_all, event, ids, kept, pending, pending_ids, save, saved_after_delivery,
    },
};

const HOUR: Duration = Duration::from_secs(3600);

async fn write_all<H: ElsewhereHarness>(h: &Arc<H>, count: usize) -> Vec<Event> {
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let event = Event::new("elsewhere.written", json!({ "number": number })).expect("valid");
        h.write_elsewhere(&event).await;
        all.push(event);
    }
    all
}

/// Such events have no place among each other.
fn any_order(ids: impl IntoIterator<Item = EventId>) -> HashSet<EventId> {
    ids.into_iter().collect()
}

async fn with_id<H: ElsewhereHarness>(h: &Arc<H>, id: EventId) -> Option<Event> {
    pending(h).await.into_iter().find(|event| event.id() == id)
}

/// 9.7, 2.6, 5.1 and 6.1: it is handed out as it was written, its id is taken, and it is acknowledged and purged.
pub async fn what_is_written_elsewhere_is_an_event_like_any_other<H: ElsewhereHarness>(h: Arc<H>) {
    let theirs = write_all(&h, 3).await;
    let ours = event("ours");
    save(&h, &ours).await;
    for event in &theirs {
        assert_eq!(with_id(&h, event.id()).await.as_ref(), Some(event));
    }
    assert_eq!(any_order(pending_ids(&h).await), any_order(ids(&theirs).into_iter().chain([ours.id()])));
    let again = event("again").with_id(theirs[0].id());
    assert_eq!(h.store().save(&again).await.expect("save"), Saved::Duplicate);
    let batch = [again.clone(), event("beside")];
    let saved = h.store().save_all(&batch).await.expect("save_all");
    assert_eq!(saved, [Saved::Duplicate, Saved::Stored]);
    acknowledge(&h, theirs[0].id()).await;
    let left = [theirs[1].id(), theirs[2].id(), ours.id(), batch[1].id()];
    assert_eq!(any_order(pending_ids(&h).await), any_order(left));
    assert_eq!(h.store().save(&again).await.expect("save"), saved_after_delivery(&h));
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
}

/// 9.7, 7.1, 7.7, 8.1 and 8.3: it is claimed, fails, waits, dies and comes back like any other.
pub async fn what_is_written_elsewhere_is_claimed_and_settled<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let theirs = write_all(&h, 4).await;
    let first = claim(&h, 1).await;
    let rest = claim(&h, 9).await;
    assert_eq!((first.len(), rest.len()), (1, 3));
    assert_eq!(
        any_order(leased_ids(&first).into_iter().chain(leased_ids(&rest))),
        any_order(ids(&theirs)),
        "one was claimed twice",
    );
    assert!(pending_ids(&h).await.is_empty(), "what is leased is not pending");
    settled(
        &h,
        [
            Settlement::retry(first[0].lease, HOUR, "failed"),
            Settlement::delivered(rest[0].lease),
            Settlement::dead_letter(rest[1].lease, "failed for good"),
            Settlement::released(rest[2].lease),
        ],
    )
    .await;
    let released = claim(&h, 9).await;
    assert_eq!(leased_ids(&released), [rest[2].event.id()]);
    assert_eq!((released[0].attempts, released[0].failures), (1, 0));
    settled(&h, [Settlement::delivered(released[0].lease)]).await;
    let dead = dead(&h, DeadLetterFilter::new()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].content.as_ref(), Ok(&rest[1].event));
    assert_eq!((dead[0].attempts, dead[0].failures, dead[0].reason.as_str()), (1, 1, "failed for good"));
    assert!(h.store().requeue(dead[0].id).await.expect("requeue"));
    let requeued = claim(&h, 9).await;
    assert_eq!(leased_ids(&requeued), [dead[0].id]);
    assert_eq!((requeued[0].attempts, requeued[0].failures), (1, 0));
    settled(&h, [Settlement::delivered(requeued[0].lease)]).await;
    h.advance(HOUR).await;
    let again = claim(&h, 9).await;
    assert_eq!(leased_ids(&again), leased_ids(&first));
    assert_eq!((again[0].attempts, again[0].failures), (2, 1));
    assert_eq!(again[0].event, first[0].event);
    settled(&h, [Settlement::delivered(again[0].lease)]).await;
    assert!(pending_ids(&h).await.is_empty());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 4));
}

/// 9.7, 4.1, 7.1 and 7.7: whatever such a program has filled in, an event of its own is pending, and claimed and settled together
/// with others, however that ends first; its attempts are counted on from the number that it has.
pub async fn what_is_filled_in_elsewhere_is_claimed_and_settled<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for way in 0.. {
        let two = [1, 2].map(|number| Event::new("elsewhere.filled", json!({ "n": number })).expect("valid"));
        for event in &two {
            if h.write_filled_elsewhere(event, way).await.is_none() {
                return;
            }
        }
        assert_eq!(any_order(pending_ids(&h).await), any_order(ids(&two)), "in way {way}");
        acknowledge_all(&h, &ids(&two)).await;
        assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2), "in way {way}");
        // Its lease runs out, it fails, it dies, and it is delivered; and each of these comes first once.
        for first in 0..4 {
            let written = Event::new("elsewhere.filled", json!({ "way": way })).expect("valid");
            let filled = h.write_filled_elsewhere(&written, way).await.expect("there is such a way");
            let ours = event("ours");
            save(&h, &ours).await;
            assert_eq!(with_id(&h, written.id()).await.as_ref(), Some(&written), "in way {way}");
            let (mut started, mut failed) = (0, 0);
            for turn in first..3 {
                let leased = claim_both(&h, &written, &ours, (started + 1, failed), filled, way).await;
                match turn {
                    0 => h.advance(LEASE).await,
                    1 => {
                        let failed = leased.iter().map(|one| Settlement::retry(one.lease, HOUR, "failed"));
                        settled(&h, failed).await;
                        h.advance(HOUR).await;
                    }
                    _ => {
                        let dead = leased.iter().map(|one| Settlement::dead_letter(one.lease, "dead"));
                        settled(&h, dead).await;
                    }
                }
                started += 1;
                failed += u32::from(turn > 0);
            }
            let mut filled = filled;
            if first < 3 {
                let letters = dead(&h, DeadLetterFilter::new()).await;
                assert_eq!(letters.len(), 2, "in way {way}");
                let letter = letters.iter().find(|one| one.id == written.id()).expect("it is listed");
                let counts = (filled.attempts + started, filled.failures + failed);
                assert_eq!((letter.attempts, letter.failures), counts, "in way {way}");
                let first_failed_at = letter.first_failed_at.expect("it has failed");
                // A harness may make time go by as all that was written getting older.
                assert!(filled.first_failed_at.is_none_or(|time| first_failed_at <= time), "in way {way}");
                assert!(Some(first_failed_at) <= letter.last_failed_at, "{letter:?} in way {way}");
                assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), 2);
                (started, filled) = (0, Filled::default());
            }
            let last = claim_both(&h, &written, &ours, (started + 1, 0), filled, way).await;
            settled(&h, last.iter().map(|one| Settlement::delivered(one.lease))).await;
            h.advance(LEASE).await;
            assert_eq!(claim(&h, 9).await, [], "what is delivered comes again, in way {way}");
            assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2), "in way {way}");
        }
    }
}

/// Claims one event from elsewhere and one of ours, of which there are no others, and which were tried as often here.
async fn claim_both<H: ElsewhereHarness>(
    h: &Arc<H>,
    written: &Event,
    ours: &Event,
    (started, failed): (u32, u32),
    filled: Filled,
    way: usize,
) -> Vec<Leased>
where
    H::Store: ClaimStore,
{
    let leased = claim(h, 9).await;
    assert_eq!(any_order(leased_ids(&leased)), any_order([written.id(), ours.id()]), "in way {way}");
    for one in &leased {
        let (event, before) =
            if one.event.id() == ours.id() { (ours, Filled::default()) } else { (written, filled) };
        let counts = (before.attempts + started, before.failures + failed);
        assert_eq!((one.attempts, one.failures), counts, "in way {way}");
        assert_eq!(&one.event, event, "in way {way}");
    }
    leased
}

/// 9.7, 7.1 and 8.2: however many there are, each is claimed once, what comes after them is found, and those that died are all
/// on some page.
pub async fn many_that_are_written_elsewhere_are_claimed_and_die_page_by_page<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const MANY: usize = 1100;
    let all = any_order(ids(&write_all(&h, MANY).await));
    let ours = event("ours");
    save(&h, &ours).await;
    let mut leased = Vec::new();
    loop {
        let next = claim(&h, 400).await;
        if next.is_empty() {
            break;
        }
        leased.extend(next);
    }
    assert_eq!(leased.len(), MANY + 1, "some were claimed twice, or not at all");
    assert_eq!(any_order(leased_ids(&leased)), all.iter().copied().chain([ours.id()]).collect());
    settled(&h, leased.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
    let found = pages(&h, &DeadLetterFilter::new(), 600).await;
    assert_eq!(found.len(), MANY + 1, "some are on two pages, or on none");
    assert_eq!(any_order(found.iter().map(|letter| letter.id)), any_order(leased_ids(&leased)));
    let requeued = h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all");
    assert_eq!(requeued, MANY as u64 + 1);
    assert_eq!(h.store().get_pending(2 * MANY).await.expect("get_pending").len(), MANY + 1);
}

/// 9.7 and 1.6: a number is the one that was meant, in whatever way the other language writes numbers down.
pub async fn numbers_that_are_written_elsewhere_are_those_that_were_meant<H: ElsewhereHarness>(h: Arc<H>) {
    const LAST: i64 = (1 << 53) - 1;
    let shorter = [0, 1, -1, i64::from(i32::MAX), i64::from(i32::MIN), -i64::from(i32::MAX)];
    let longer = [1 << 31, -(1 << 31) - 1, 1 << 32, 1_700_000_000_000, -1_700_000_000_000, LAST, -LAST];
    let floats = [0.5, -0.25, 9.75, 4_294_967_296.5, -2_147_483_648.5, 1e17, -1e17, 1e300, 5e-324];
    let payload =
        json!({ "shorter": shorter, "longer": longer, "floats": floats, "nested": [{ "at": LAST }] });
    let event = Event::new("elsewhere.numbers", payload).expect("valid");
    h.write_elsewhere(&event).await;
    let read = pending(&h).await;
    assert_eq!(read[0].payload().to_string(), event.payload().to_string());
    assert_eq!(read, [event]);
}

/// 9.7 and 1.6: a value of a kind that JSON has no word for, such as a date or a UUID, is what the other language makes JSON of.
pub async fn kinds_that_are_written_elsewhere_are_read_as_their_json<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let event = event("theirs");
    let Some(payload) = h.write_kinds_elsewhere(&event).await else { return };
    let meant = Event::new(event.event_type(), payload).expect("valid").with_id(event.id());
    let meant = meant.with_timestamp(event.meta().timestamp());
    assert_eq!(pending(&h).await, std::slice::from_ref(&meant));
    let leased = claim(&h, 9).await;
    assert_eq!(leased.iter().map(|one| &one.event).collect::<Vec<_>>(), [&meant]);
}

/// 9.7, 5.1 and 6.1: what such a program has delivered is delivered, whoever wrote it, and is purged when it is old enough.
pub async fn what_is_delivered_elsewhere_is_delivered<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + StatsStore,
{
    let theirs = write_all(&h, 2).await;
    let ours = [event("delivered elsewhere"), event("ours")];
    for event in &ours {
        save(&h, event).await;
    }
    for id in [theirs[0].id(), ours[0].id()] {
        h.deliver_elsewhere(id).await;
    }
    let left = any_order([theirs[1].id(), ours[1].id()]);
    assert_eq!(any_order(pending_ids(&h).await), left);
    let stats = h.store().stats().await.expect("stats");
    assert_eq!((stats.pending, stats.delivered), (2, 2));
    assert_eq!(any_order(leased_ids(&claim(&h, 9).await)), left);
    // Said again it is no error, and the time stays.
    h.advance(HOUR).await;
    acknowledge(&h, ours[0].id()).await;
    assert_eq!(h.store().purge(HOUR * 2).await.expect("purge"), 0);
    assert_eq!(h.store().purge(HOUR).await.expect("purge"), 2);
    assert_eq!(h.store().stats().await.expect("stats").delivered, 0);
}

/// 9.7 and 9.1: it is counted, and is as old as it says.
pub async fn what_is_written_elsewhere_has_an_age<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + StatsStore,
{
    let hours = |age: Option<Duration>| age.map(|age| age.as_secs() / HOUR.as_secs());
    save(&h, &event("ours")).await;
    h.advance(HOUR * 2).await;
    let written = event("theirs").with_timestamp(h.now().await);
    h.write_elsewhere(&written).await;
    h.advance(HOUR).await;
    let stats = h.store().stats().await.expect("stats");
    assert_eq!((stats.pending, hours(stats.oldest_pending)), (2, Some(3)), "{stats:?}");
    let leased = claim(&h, 9).await;
    let ours = leased.iter().find(|one| one.event.id() != written.id()).expect("it is claimed");
    settled(&h, [Settlement::delivered(ours.lease)]).await;
    let stats = h.store().stats().await.expect("stats");
    assert_eq!((stats.leased, hours(stats.oldest_pending)), (1, Some(1)), "{stats:?}");
    h.advance(HOUR).await;
    let stats = h.store().stats().await.expect("stats");
    assert_eq!((stats.pending, hours(stats.oldest_due)), (1, Some(2)), "{stats:?}");
}

/// 9.7: such a program reads what this library has saved: as long as it is pending, and as JSON has it.
pub async fn what_is_saved_is_read_elsewhere<H: ElsewhereHarness>(h: Arc<H>) {
    let payload = json!({
        "total": 4200, "big": 1_i64 << 40, "less": -7, "price": 9.5, "lines": [{ "sku": "a" }, []], "note": null,
        "is_paid": true, "$set": { "a.b": "c" },
    });
    let plain = Event::new("elsewhere.read", payload)
        .expect("valid")
        .with_resource("order", "17")
        .with_idempotency_key("k-17")
        .with_header("tenant", "acme");
    // What there is no room for in the shape may be left out, but neither id nor time.
    let mut large = Event::new("elsewhere.large", json!({})).expect("valid");
    large.meta_mut().extra.insert("long".to_owned(), Value::Array(vec![json!(0); 1_400_000]));
    // What other languages have no number for is near enough, and all else in it is as it was.
    let beyond = Event::new("elsewhere.beyond", json!({ "n": u64::MAX, "name": "x" })).expect("valid");
    // Nearly as large as an event can be, and with room for all of it.
    let long = json!({ "n": 1, "text": "x".repeat(MAX_ENCODED_BYTES - 1000) });
    let long = Event::new("elsewhere.long", long).expect("valid");
    for event in [&plain, &large, &beyond, &long] {
        save(&h, event).await;
    }
    assert_eq!(h.read_elsewhere(plain.id()).await, Some(json!(plain)));
    for (event, name) in [(&large, "large"), (&beyond, "beyond")] {
        let read = h.read_elsewhere(event.id()).await.unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!(read["type"], event.event_type());
        let meta = json!(event.meta());
        assert_eq!((&read["meta"]["id"], &read["meta"]["timestamp"]), (&meta["id"], &meta["timestamp"]));
        if name == "beyond" {
            assert_eq!(read["payload"]["name"], "x");
            assert_eq!(read["payload"]["n"].as_f64(), json!(u64::MAX).as_f64());
        }
    }
    let all = [plain.clone(), large, beyond, long.clone()];
    assert!(pending(&h).await == all, "read by this library, something is left out");
    let read = h.read_elsewhere(long.id()).await.expect("it is there");
    assert!(read == json!(long), "a payload is not all there for which there is room");
    acknowledge(&h, plain.id()).await;
    assert_eq!(h.read_elsewhere(plain.id()).await, None, "what is delivered is still to be read");
}

/// Dead letters that another program has written.
#[derive(Default)]
struct Written {
    all: usize,
    /// Those that are to be read.
    readable: HashSet<EventId>,
    /// Those of them that do not say when they died.
    without_a_time: HashSet<EventId>,
}

/// Writes so many in each way.
async fn write_dead<H: ElsewhereHarness>(h: &Arc<H>, of_each: usize) -> Written {
    let mut all = Written::default();
    for way in 0.. {
        for _ in 0..of_each {
            let event = Event::new("elsewhere.dead", json!({ "way": way })).expect("valid");
            let Some(written) = h.write_dead_elsewhere(&event, way).await else {
                assert!(all.all > 0, "there is a way at least");
                return all;
            };
            all.all += 1;
            if written.is_readable {
                all.readable.insert(event.id());
                all.without_a_time.extend(written.dead_at.is_none().then_some(event.id()));
            }
        }
    }
    unreachable!("there is a last way")
}

/// 9.7 and 8.1 to 8.3: what such a program has given up on is shown, with its time where it says that, and with the time when it was
/// found where it has no place either, and is found again by the time that is shown; it is requeued and discarded by the id that is shown.
pub async fn what_dies_elsewhere_is_a_dead_letter_like_any_other<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let all = DeadLetterFilter::new;
    for way in 0.. {
        let event_type = format!("elsewhere.dead.{way}");
        let event = Event::new(event_type.as_str(), json!({ "way": way })).expect("valid");
        let Some(written) = h.write_dead_elsewhere(&event, way).await else {
            assert!(way > 0, "there is a way at least");
            return;
        };
        let since = h.now().await;
        let letters = dead(&h, all()).await;
        assert_eq!(letters.len(), 1, "in way {way}");
        let letter = &letters[0];
        assert!(!letter.holds_key, "in way {way}");
        if written.is_readable {
            assert_eq!((letter.id, letter.content.as_ref()), (event.id(), Ok(&event)), "in way {way}");
            assert_eq!(h.store().save(&event).await.expect("save"), Saved::Duplicate, "in way {way}");
        } else {
            assert!(!letter.reason.is_empty(), "why can it not be read? In way {way}");
            let raw = letter.content.as_ref().expect_err("it cannot be read");
            assert!(!raw.is_empty(), "its content is gone, in way {way}");
        }
        assert_eq!(pending(&h).await, [], "in way {way}");
        assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0, "in way {way}");
        if let Some(dead_at) = written.dead_at {
            assert_eq!(letter.dead_at, dead_at, "in way {way}");
        } else if written.is_readable {
            assert_found_dead(letter, since, h.now().await);
        }
        // By what is shown, the same each time.
        let (died, later) = (letter.dead_at, letter.dead_at + TimeDelta::milliseconds(1));
        let mut filters = vec![
            (all().with_since(died), true),
            (all().with_since(later), false),
            (all().with_before(died), false),
            (all().with_before(later), true),
            (all().with_type("elsewhere.dead"), false),
            (all().with_since(died).with_before(died), false),
            (all().with_since(later).with_before(later + TimeDelta::days(1)), false),
        ];
        // What cannot be read may have no type, and be very large.
        if written.is_readable {
            filters.push((all().with_since(died).with_before(later), true));
            filters.push((all().with_type(event_type.as_str()), true));
        }
        for (filter, is_found) in filters {
            let found = dead(&h, filter.clone()).await;
            let expected = if is_found { letters.as_slice() } else { &[] };
            assert!(found == expected, "in way {way}, by {filter:?}: {} are found", found.len());
        }
        let id = letter.id;
        assert!(h.store().requeue(id).await.expect("requeue"), "in way {way}");
        assert!(!h.store().requeue(id).await.expect("requeue"), "it is requeued already, in way {way}");
        if written.is_readable {
            assert_eq!(pending(&h).await, [event], "in way {way}");
            acknowledge(&h, id).await;
            assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1), "in way {way}");
            continue;
        }
        assert_eq!(pending(&h).await, [], "it cannot be read, in way {way}");
        let again = dead(&h, all()).await;
        assert_eq!(again.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id], "in way {way}");
        assert!(h.store().discard(id).await.expect("discard"), "in way {way}");
        assert!(!h.store().discard(id).await.expect("discard"), "it is gone already, in way {way}");
    }
}

/// 9.7 and 8.2: each is on one page, whatever they have to be told apart by, and also where those before are discarded.
pub async fn what_dies_elsewhere_is_found_page_by_page<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let ours = die(&h).await;
    let written = write_dead(&h, 2).await;
    let all = DeadLetterFilter::new();
    let since = h.now().await;
    let found = pages(&h, &all, 2).await;
    let until = h.now().await;
    assert_eq!(found.len(), written.all + 1, "some are on two pages, or on none");
    for letter in found.iter().filter(|letter| written.without_a_time.contains(&letter.id)) {
        assert_found_dead(letter, since, until);
    }
    let ids = any_order(found.iter().map(|letter| letter.id));
    assert_eq!(ids.len(), written.all + 1, "an id is shown twice");
    assert!(ids.contains(&ours));
    assert_eq!(any_order(discarded_page_by_page(&h, 1).await), ids);
    assert!(dead(&h, all).await.is_empty());
}

/// One that does not say when it died did so when it was first asked for, by the store's clock.
#[track_caller]
fn assert_found_dead(letter: &DeadLetter, since: DateTime<Utc>, until: DateTime<Utc>) {
    // The clock may be asked for less exactly than it is written down by.
    let second = TimeDelta::seconds(1);
    let found = since - second..=until + second;
    assert!(found.contains(&letter.dead_at), "{} died at {}, not in {found:?}", letter.id, letter.dead_at);
}

/// Saves one that dies here.
async fn die<H: ElsewhereHarness>(h: &Arc<H>) -> EventId
where
    H::Store: ClaimStore,
{
    let ours = event("ours");
    save(h, &ours).await;
    let leased = claim(h, 1).await;
    assert_eq!(leased_ids(&leased), [ours.id()]);
    settled(h, [Settlement::dead_letter(leased[0].lease, "failed")]).await;
    ours.id()
}

/// 9.7 and 8.3: a requeue and a discard of all are of these and of others.
pub async fn what_dies_elsewhere_is_requeued_and_discarded_with_others<H: ElsewhereHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let all = DeadLetterFilter::new();
    let ours = die(&h).await;
    let Written { all: written, mut readable, .. } = write_dead(&h, 1).await;
    readable.insert(ours);
    assert_eq!(h.store().requeue_all(&all).await.expect("requeue_all"), written as u64 + 1);
    assert_eq!(any_order(pending_ids(&h).await), readable, "what is to be read is pending");
    let set_aside = dead(&h, all.clone()).await.len();
    assert_eq!(set_aside, written + 1 - readable.len(), "and the rest is set aside again");
    acknowledge_all(&h, &readable.iter().copied().collect::<Vec<_>>()).await;
    die(&h).await;
    let written = write_dead(&h, 1).await.all + set_aside + 1;
    let alive = event("alive");
    save(&h, &alive).await;
    assert_eq!(h.store().discard_all(&all).await.expect("discard_all"), written as u64);
    assert!(dead(&h, all).await.is_empty());
    assert_eq!(pending_ids(&h).await, [alive.id()], "what is pending is not discarded");
}

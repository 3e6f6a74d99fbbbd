//! What a durable store knows of claims.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    sync::Arc,
    time::Duration,
};

use outbox_traits::{
    ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, Leased, OutboxStore,
    Retention, Saved, Settlement,
};

use super::{
    claim::{LEASE, claim, keyed, leased_ids, settle_all_by, settled},
    durable::{say, spawn_child},
};
use crate::{
    DurableHarness, Harness,
    support::{ALL, acknowledge, event, events, ids, kept, pending_ids, save_all},
};

async fn dead<H: Harness>(h: &Arc<H>) -> Vec<DeadLetter>
where
    H::Store: DeadLetterStore,
{
    h.store().dead_letters(&DeadLetterFilter::new().with_limit(ALL)).await.expect("dead_letters").letters
}

/// 7.5, 7.7, 7.8 and 8.4: leases, attempts, failures, the wait for a retry, the last error and held keys are so after
/// closing and opening, for whatever worker.
pub async fn what_claims_have_written_survives_closing_and_opening<H: DurableHarness>(
    h: Arc<H>,
    _test: String,
) where
    H::Store: ClaimStore + DeadLetterStore,
{
    let location = h.location();
    // Each is closed before the next one is opened: an embedded engine lets one in at a time.
    let first = Arc::new(H::reopen(&location).await);
    let keys = ["failing", "leased", "held"];
    let all: Vec<Event> = (0..6).map(|index| keyed(keys[index % 3], &index.to_string())).collect();
    save_all(&first, &all).await;
    let leased = claim(&first, 3).await;
    assert_eq!(leased_ids(&leased), ids(&all[..3]));
    settled(
        &first,
        [
            Settlement::retry(leased[0].lease, Duration::ZERO, "the first error"),
            Settlement::dead_letter_holding_key(leased[2].lease, "broken"),
        ],
    )
    .await;
    let again = claim(&first, 1).await;
    assert_eq!(leased_ids(&again), [all[0].id()]);
    settled(&first, [Settlement::retry(again[0].lease, LEASE, "the second error")]).await;
    drop(first);

    let second = Arc::new(H::reopen(&location).await);
    assert!(claim(&second, 10).await.is_empty(), "a key waits for a retry, one is leased and one is held");
    let letters = dead(&second).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].content.as_ref(), Ok(&all[2]));
    assert!(letters[0].holds_key && letters[0].reason == "broken", "{letters:?}");
    assert_eq!((letters[0].attempts, letters[0].failures), (1, 1));
    let renewed = second.store().renew(&[leased[1].lease], LEASE).await.expect("renew");
    assert!(renewed[0].is_ok(), "whoever has its token has the lease: {renewed:?}");
    drop(second);

    let third = Arc::new(H::reopen(&location).await);
    third.advance(LEASE * 2).await;
    let again = claim(&third, 1).await;
    settled(&third, [Settlement::dead_letter(again[0].lease, "the last error")]).await;
    let rest = settle_all_by(third.store(), 10, Settlement::delivered).await;
    let came: Vec<Leased> = [again, rest].concat();
    assert_eq!(leased_ids(&came), [0, 1, 3, 4].map(|index: usize| all[index].id()));
    let counts: Vec<_> = came.iter().map(|one| (one.attempts, one.failures)).collect();
    assert_eq!(counts, [(3, 2), (2, 0), (1, 0), (1, 0)]);
    drop(third);

    let fourth = Arc::new(H::reopen(&location).await);
    let letters = dead(&fourth).await;
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [all[0].id(), all[2].id()]);
    assert!(letters[0].reason == "the last error" && !letters[0].holds_key, "{letters:?}");
    assert_eq!((letters[0].attempts, letters[0].failures), (3, 3));
    let between = letters[0].last_failed_at.expect("a time") - letters[0].first_failed_at.expect("a time");
    assert!(between >= chrono::TimeDelta::seconds(59), "{between} between the first and the last failure");
    assert!(fourth.store().requeue(all[2].id()).await.expect("requeue"));
    let freed = claim(&fourth, 1).await;
    assert_eq!(leased_ids(&freed), [all[2].id()], "requeued, it comes first");
    assert_eq!((freed[0].attempts, freed[0].failures), (1, 0));
}

/// 2.6, 2.7, 2.9, 4.5 and 6.1: ids, idempotency keys, times and what was set aside are known after closing and opening.
pub async fn what_is_known_of_events_survives_closing_and_opening<H: DurableHarness>(h: Arc<H>, _test: String)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const HOUR: Duration = Duration::from_secs(3600);
    let location = h.location();
    let first = Arc::new(H::reopen(&location).await);
    let [open, delivered] = ["open", "delivered"].map(|name| event(name).with_idempotency_key(name));
    let hidden = event("hidden").with_not_before(first.now().await + HOUR * 3);
    save_all(&first, &[open.clone(), delivered.clone(), hidden.clone()]).await;
    let broken = EventId::new();
    first.insert_undecodable(broken).await;
    assert_eq!(pending_ids(&first).await, [open.id(), delivered.id()]);
    acknowledge(&first, delivered.id()).await;
    drop(first);

    let second = Arc::new(H::reopen(&location).await);
    let mut known = vec![&open];
    if second.retention() == Retention::UntilPurged {
        known.push(&delivered);
    }
    for first in known {
        let key = first.meta().idempotency_key.clone().expect("it has one");
        for again in [event("again").with_id(first.id()), event("again").with_idempotency_key(key)] {
            let saved = second.store().save(&again).await.expect("save");
            assert_eq!(saved, Saved::Duplicate, "{first:?} is forgotten");
        }
    }
    assert_eq!(pending_ids(&second).await, [open.id()]);
    assert_eq!(dead(&second).await.iter().map(|letter| letter.id).collect::<Vec<_>>(), [broken]);
    drop(second);

    let third = Arc::new(H::reopen(&location).await);
    third.advance(HOUR * 2).await;
    assert_eq!(third.store().purge(HOUR * 3).await.expect("purge"), 0);
    assert_eq!(
        third.store().purge(HOUR).await.expect("purge"),
        kept(&third, 1),
        "when it was delivered is forgotten"
    );
    assert_eq!(pending_ids(&third).await, [open.id()]);
    third.advance(HOUR * 2).await;
    assert_eq!(pending_ids(&third).await, [open.id(), hidden.id()]);
}

/// 7.6 and 7.7: a `kill -9` right after a claim or a settlement returned takes nothing of it back, and a settlement that it cut
/// off took as a whole or not at all.
pub async fn settlements_survive_a_kill<H: DurableHarness>(h: Arc<H>, test: String)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for run in 0..3_usize {
        let mut child = spawn_child(&h.location(), &test);
        let output = BufReader::new(child.stdout.take().expect("its standard output"));
        let mut batches: Vec<Vec<EventId>> = Vec::new();
        let mut claimed: HashSet<EventId> = HashSet::new();
        let (mut returned, mut is_killed) = (0, false);
        for line in output.lines().map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("claimed", id)) => drop(claimed.insert(id.parse().expect("an id"))),
                Some(("settling", ids)) => {
                    let batch: Vec<EventId> = ids.split(' ').map(|id| id.parse().expect("an id")).collect();
                    claimed.extend(&batch);
                    batches.push(batch);
                }
                Some(("settled", _)) => returned = batches.len(),
                _ => continue,
            }
            // And on to the end: a quick engine may have said more before it was killed.
            if !is_killed && batches.len() > 3 + 4 * run {
                child.kill().expect("kill -9");
                is_killed = true;
            }
        }
        let status = child.wait().expect("wait");
        assert!(!status.success() && returned > 2, "the child ended by itself: {status}");

        let h = Arc::new(H::reopen(&h.location()).await);
        // So that what is still leased is pending again.
        h.advance(LEASE * 2).await;
        let pending: HashSet<EventId> = pending_ids(&h).await.into_iter().collect();
        let dead: HashSet<EventId> = dead(&h).await.iter().map(|letter| letter.id).collect();
        for (number, batch) in batches.iter().enumerate() {
            let took = batch.iter().enumerate().filter(|(index, id)| match index % 2 {
                0 => !pending.contains(id) && !dead.contains(id),
                _ => !pending.contains(id) && dead.contains(id),
            });
            let took = took.count();
            let is_whole = took == batch.len() || took == 0 && number >= returned;
            assert!(
                is_whole,
                "{took} settlements of {} took, of batch {number}, and {returned} returned",
                batch.len()
            );
        }
        let again = claim(&h, ALL).await;
        let again: Vec<_> = again.iter().filter(|one| claimed.contains(&one.event.id())).collect();
        assert!(!again.is_empty(), "what was claimed and never settled is gone");
        for one in again {
            assert_eq!(one.attempts, 2, "it was claimed before, and is told so: {:?}", one.event);
        }
        let pending: Vec<EventId> = pending.into_iter().collect();
        h.store().acknowledge_all(&pending).await.expect("acknowledge_all");
    }
}

/// The child's part: claims and settles until it is killed, and says what it begins and what has returned.
pub(crate) async fn child<H: DurableHarness>(location: &str)
where
    H::Store: ClaimStore,
{
    let h = Arc::new(H::reopen(location).await);
    save_all(&h, &[event("never settled")]).await;
    say("claimed", claim(&h, 1).await[0].event.id());
    for number in 0..10_000 {
        save_all(&h, &events(6)).await;
        let leased = claim(&h, 6).await;
        let claimed: Vec<String> = leased_ids(&leased).iter().map(EventId::to_string).collect();
        say("settling", claimed.join(" "));
        let end = |(index, lease)| match index % 2 {
            0 => Settlement::delivered(lease),
            _ => Settlement::dead_letter(lease, "broken"),
        };
        settled(&h, leased.iter().map(|one| one.lease).enumerate().map(end)).await;
        say("settled", number);
    }
}

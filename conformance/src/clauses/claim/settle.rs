//! What comes of a settlement.

use std::{sync::Arc, time::Duration};

use chrono::{SubsecRound, TimeDelta};
use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, Event, Lease, MAX_REASON_CHARS, OutboxStore, Saved,
    Settlement,
};

use super::{LEASE, assert_first_of, claim, delivered, drained, keyed, leased_ids, of_key, settled};
use crate::{
    Harness,
    support::{
        WAYS, assert_exact, event, events, fuller_event, ids, kept, pending, pending_ids, save, save_all,
        saved_after_delivery, saved_by,
    },
};

/// 7.6: delivered, it is what acknowledging makes of it.
pub async fn a_delivered_settlement_is_an_acknowledgement<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = events(3);
    save_all(&h, &all).await;
    delivered(&h, &claim(&h, 2).await).await;
    assert_eq!(pending_ids(&h).await, [all[2].id()]);
    h.advance(LEASE * 2).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[2].id()]);
    assert_eq!(h.store().purge(LEASE * 3).await.expect("purge"), 0);
    assert_eq!(h.store().purge(LEASE).await.expect("purge"), kept(&h, 2));
}

/// 2.6, 2.7 and 7.6: it holds its id and its idempotency key as long as one that was acknowledged: until it is purged or, deleted on
/// delivery, no longer.
pub async fn what_was_delivered_by_a_settlement_frees_its_id_and_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let first = event("first").with_idempotency_key("order-17");
    save(&h, &first).await;
    delivered(&h, &claim(&h, 1).await).await;
    for again in [first.clone(), event("of the same key").with_idempotency_key("order-17")] {
        assert_eq!(h.store().save(&again).await.expect("save"), saved_after_delivery(&h));
        // Where it was stored.
        delivered(&h, &claim(&h, 1).await).await;
    }
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
    let of_the_key = event("second").with_idempotency_key("order-17");
    save(&h, &of_the_key).await;
    let of_the_id = event("third").with_id(first.id());
    save(&h, &of_the_id).await;
    assert_eq!(pending(&h).await, [of_the_key, of_the_id]);
}

/// 7.6: many in one call, of every outcome.
pub async fn one_call_settles_many_of_every_outcome<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let all = events(800);
    save_all(&h, &all).await;
    let leased = claim(&h, 800).await;
    assert_eq!(leased.len(), 800);
    let outcome = |(index, lease)| match index % 4 {
        0 => Settlement::delivered(lease),
        1 => Settlement::retry(lease, Duration::from_secs(60), "try again"),
        2 => Settlement::dead_letter(lease, "never"),
        _ => Settlement::released(lease),
    };
    settled(&h, leased.iter().map(|leased| leased.lease).enumerate().map(outcome)).await;
    let of = |rest: usize| ids(&all).into_iter().skip(rest).step_by(4).collect::<Vec<_>>();
    assert_eq!(pending_ids(&h).await, of(3));
    let dead = h.store().dead_letters(&DeadLetterFilter::new().with_limit(1000)).await.expect("dead_letters");
    assert_eq!(dead.letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), of(2));
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 200));
    h.advance(Duration::from_secs(61)).await;
    let mut due = [of(1), of(3)].concat();
    due.sort_by_key(|id| all.iter().position(|event| event.id() == *id));
    assert_eq!(leased_ids(&claim(&h, 1000).await), due);
}

/// 7.6: released, it is claimable again at once, in its place, and the attempt does not count.
pub async fn a_released_event_costs_no_attempt<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = of_key("a", 3);
    save_all(&h, &all).await;
    for _ in 0..3 {
        let leased = claim(&h, 2).await;
        assert_first_of(&leased, &ids(&all[..2]));
        assert!(leased.iter().all(|one| (one.attempts, one.failures) == (1, 0)), "{leased:?}");
        settled(&h, leased.iter().rev().map(|one| Settlement::released(one.lease))).await;
    }
    assert_eq!(pending_ids(&h).await, ids(&all));
}

/// 7.7: attempts and failures are counted in the store; a worker that dies counts as a started attempt.
pub async fn attempts_and_failures_are_counted_in_the_store<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let one = keyed("a", "one");
    save(&h, &one).await;
    let counts = async || {
        let leased = claim(&h, 1).await.remove(0);
        ((leased.attempts, leased.failures), leased.lease)
    };
    let (first, lease) = counts().await;
    settled(&h, [Settlement::retry(lease, Duration::ZERO, "failed")]).await;
    let (second, _) = counts().await;
    // The worker dies.
    h.advance(LEASE * 2).await;
    let (third, lease) = counts().await;
    settled(&h, [Settlement::retry(lease, Duration::ZERO, "failed")]).await;
    let (fourth, lease) = counts().await;
    settled(&h, [Settlement::released(lease)]).await;
    let (fifth, _) = counts().await;
    assert_eq!([first, second, third, fourth, fifth], [(1, 0), (2, 1), (3, 1), (4, 2), (4, 2)]);
}

/// 7.6: a retry after no time at all is due at once.
pub async fn a_retry_comes_when_it_is_due_and_not_before<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = events(4);
    save_all(&h, &all).await;
    let leased = claim(&h, 4).await;
    let seconds = Duration::from_secs;
    let after = [Duration::ZERO, seconds(20), seconds(40), Duration::MAX];
    settled(&h, leased.iter().zip(after).map(|(one, after)| Settlement::retry(one.lease, after, "x"))).await;
    assert_eq!(pending_ids(&h).await, [all[0].id()]);
    h.advance(Duration::from_secs(30)).await;
    assert_eq!(pending_ids(&h).await, ids(&all[..2]));
    assert_eq!(leased_ids(&claim(&h, 10).await), ids(&all[..2]));
    h.advance(Duration::from_secs(20)).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[2].id()], "two are leased, one waits for ever");
}

/// 7.8 and 8.2: attempts, failures, the times of the first and the last one, and the last error, are kept.
pub async fn failures_are_kept_with_their_times_and_the_last_error<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let one = event("one");
    save(&h, &one).await;
    for error in ["first", "second", "the 3rd: \u{0} ‘ß’ 🦀"] {
        let leased = claim(&h, 1).await;
        let settlement = if error.starts_with("the") {
            Settlement::dead_letter(leased[0].lease, error)
        } else {
            Settlement::retry(leased[0].lease, Duration::ZERO, error)
        };
        settled(&h, [settlement]).await;
        h.advance(Duration::from_secs(100)).await;
    }
    // Of another a worker dies before it fails.
    save(&h, &event("two")).await;
    assert_eq!(claim(&h, 1).await.len(), 1);
    h.advance(LEASE * 2).await;
    settled(&h, [Settlement::dead_letter(claim(&h, 1).await[0].lease, "died")]).await;
    let mut dead = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(dead.len(), 2);
    let other = dead.pop().expect("two of them");
    assert_eq!((other.attempts, other.failures), (2, 1), "a delivery that never ended has not failed");
    assert_eq!(dead[0].content, Ok(one), "the event itself");
    assert_eq!((dead[0].attempts, dead[0].failures), (3, 3));
    assert!(dead[0].reason.contains("the 3rd") && dead[0].reason.contains("‘ß’ 🦀"), "{}", dead[0].reason);
    let (first, last) = (dead[0].first_failed_at.expect("a time"), dead[0].last_failed_at.expect("a time"));
    let between = (last - first).num_seconds();
    assert!((199..260).contains(&between), "{between} seconds lie between the first and the last failure");
    assert_eq!(dead[0].dead_at, last, "it died of the last one");
}

/// 7.8: of an error of any length at least the first 2,000 characters are kept.
pub async fn a_long_error_is_kept_from_its_beginning<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let large = Event::new("suite.large", "x".repeat(7 * 1024 * 1024)).expect("valid");
    save(&h, &large).await;
    let leased = claim(&h, 1).await;
    let long: String = ('ä'..='ỿ').cycle().take(5 * 1024 * 1024).collect();
    settled(&h, [Settlement::dead_letter(leased[0].lease, &long)]).await;
    let dead = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    let beginning: String = long.chars().take(MAX_REASON_CHARS).collect();
    assert!(dead[0].reason.starts_with(&beginning), "{:.100}…", dead[0].reason);
}

/// 7.6 and 7.8: of many that fail in one call each keeps its own error, and waits for its own time. All errors together
/// are more than one message to a server may be.
pub async fn each_of_many_failures_keeps_its_own_error_and_time<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const COUNT: usize = 2100;
    let all = events(COUNT);
    save_all(&h, &all).await;
    let leased = claim(&h, COUNT).await;
    assert_eq!(leased_ids(&leased), ids(&all));
    let (dies, seconds) = (|index: usize| index.is_multiple_of(2), |index: usize| 100 + index as u64);
    let error = |index: usize| format!("{index} {}", "🦀".repeat(MAX_REASON_CHARS - 8));
    let failure = |(index, lease)| match error(index) {
        error if dies(index) => Settlement::dead_letter(lease, error),
        error => Settlement::retry(lease, Duration::from_secs(seconds(index)), error),
    };
    settled(&h, leased.iter().map(|one| one.lease).enumerate().map(failure)).await;

    let filter = DeadLetterFilter::new().with_limit(COUNT);
    let dead = h.store().dead_letters(&filter).await.expect("dead_letters").letters;
    let kept: Vec<_> = dead.into_iter().map(|letter| (letter.id, letter.reason)).collect();
    let numbered = || all.iter().enumerate();
    let died = numbered().filter(|(index, _)| dies(*index));
    let died: Vec<_> = died.map(|(index, event)| (event.id(), error(index))).collect();
    assert_eq!(kept.len(), died.len());
    for (index, (kept, died)) in kept.iter().zip(&died).enumerate() {
        assert_eq!(kept.0, died.0, "the dead letter {index}");
        assert!(kept.1 == died.1, "the dead letter {index} has another error, {:.20}…", kept.1);
    }
    // Half a second before the next one.
    let middle = COUNT / 2 + 1;
    h.advance(Duration::from_secs(seconds(middle)) + Duration::from_millis(500)).await;
    let claimed = leased_ids(&claim(&h, COUNT).await);
    let waiting: Vec<_> =
        numbered().filter(|(index, _)| !dies(*index)).map(|(_, event)| event.id()).collect();
    assert!(waiting.starts_with(&claimed), "they come in their order");
    // A slow machine may have made more of them due meanwhile, but not all.
    let due = middle / 2 + 1;
    assert!((due..waiting.len()).contains(&claimed.len()), "{} come, and {due} are due", claimed.len());
}

/// 8.1: a dead event is claimed by nobody and blocks nobody, its own key included.
pub async fn a_dead_event_is_claimed_by_nobody_and_blocks_nobody<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let all = of_key("a", 3);
    save_all(&h, &all).await;
    let leased = claim(&h, 1).await;
    settled(&h, [Settlement::dead_letter(leased[0].lease, "poison")]).await;
    assert_eq!(pending_ids(&h).await, ids(&all[1..]));
    assert_eq!(drained(&h, 10).await, ids(&all[1..]));
    h.advance(Duration::from_hours(24)).await;
    assert!(claim(&h, 10).await.is_empty());
    h.store().acknowledge(all[0].id()).await.expect("acknowledge");
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2));
    let dead = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(dead.iter().map(|letter| letter.id).collect::<Vec<_>>(), [all[0].id()]);
}

/// 2.6, 2.7 and 8.1: the id and the idempotency key of an event are taken in every state, whichever way another is saved, until it
/// is discarded.
pub async fn the_id_and_the_idempotency_key_are_taken_in_every_state<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let of_key = |name: &str| keyed("key", name).with_idempotency_key("order-17");
    let first = of_key("first");
    save(&h, &first).await;
    let is_taken = async |state: &str| {
        for way in 0..WAYS {
            for again in [of_key("of the same key"), event("of the same id").with_id(first.id())] {
                let saved = saved_by(&h, &again, way).await.expect("save");
                assert_eq!(saved, Saved::Duplicate, "{state}, by way {way}");
            }
        }
    };
    let fail = async |failure: fn(Lease) -> Settlement| {
        let leased = claim(&h, 10).await;
        assert_eq!(leased_ids(&leased), [first.id()], "a duplicate was stored");
        settled(&h, [failure(leased[0].lease)]).await;
    };
    is_taken("pending").await;
    let leased = claim(&h, 1).await;
    is_taken("leased").await;
    settled(&h, [Settlement::retry(leased[0].lease, LEASE, "failed")]).await;
    is_taken("waiting for a retry").await;
    h.advance(LEASE * 2).await;
    fail(|lease| Settlement::dead_letter(lease, "failed")).await;
    is_taken("dead").await;
    assert!(h.store().requeue(first.id()).await.expect("requeue"));
    is_taken("requeued").await;
    fail(|lease| Settlement::dead_letter_holding_key(lease, "failed")).await;
    is_taken("dead, and holding its key").await;
    assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), 1);
    is_taken("requeued with others").await;
    fail(|lease| Settlement::dead_letter(lease, "failed")).await;
    assert!(h.store().discard(first.id()).await.expect("discard"));
    save(&h, &of_key("free again")).await;
    save(&h, &event("free again").with_id(first.id())).await;
}

/// 1.2, 1.6, 8.2 and 8.3: a dead letter has the event as it was saved, and so has who fetches or claims it once it is requeued.
pub async fn a_dead_event_is_as_it_was_saved<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let past = h.now().await.trunc_subsecs(3) - TimeDelta::hours(1);
    let mut all = ["one.x", "two.x"].map(|name| fuller_event(name).with_not_before(past));
    all[1].meta_mut().partition_key = None;
    save_all(&h, &all).await;
    let leased = claim(&h, 10).await;
    settled(&h, leased.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
    let letters = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    let types: Vec<_> = letters.iter().map(|letter| letter.event_type.as_str()).collect();
    assert_eq!(types, ["one.x", "two.x"]);
    let content: Vec<Event> =
        letters.into_iter().map(|letter| letter.content.expect("it can be read")).collect();
    assert_exact(&content, &all);

    assert!(h.store().requeue(all[0].id()).await.expect("requeue"));
    assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), 1);
    assert_exact(&pending(&h).await, &all);
    let claimed: Vec<Event> = claim(&h, 10).await.into_iter().map(|leased| leased.event).collect();
    assert_exact(&claimed, &all);
}

/// 8.3: all that match are requeued and discarded, however many there are.
pub async fn many_dead_events_are_requeued_and_discarded<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const MANY: usize = 1100;
    let all = events(MANY);
    save_all(&h, &all).await;
    let die = async || {
        let leased = claim(&h, MANY).await;
        assert_eq!(leased_ids(&leased), ids(&all));
        settled(&h, leased.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
    };
    let all_of_them = DeadLetterFilter::new();
    die().await;
    assert_eq!(h.store().requeue_all(&all_of_them).await.expect("requeue_all"), MANY as u64);
    die().await;
    assert_eq!(h.store().discard_all(&all_of_them).await.expect("discard_all"), MANY as u64);
    assert!(h.store().dead_letters(&all_of_them).await.expect("dead_letters").letters.is_empty());
    assert!(pending(&h).await.is_empty());
}

/// 8.3: requeued, a dead event is pending again, as it was saved, with fresh attempts.
pub async fn a_requeued_event_has_fresh_attempts<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let past = h.now().await - TimeDelta::hours(1);
    let all = [event("one"), event("two").with_not_before(past), keyed("a", "three")];
    save_all(&h, &all).await;
    let leased = claim(&h, 10).await;
    settled(&h, leased.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
    assert!(pending(&h).await.is_empty());
    assert!(h.store().requeue(all[1].id()).await.expect("requeue"));
    let again = claim(&h, 10).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].event, all[1]);
    assert_eq!((again[0].attempts, again[0].failures), (1, 0));
    assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), 2);
    let rest = claim(&h, 10).await;
    assert_eq!(leased_ids(&rest), [all[0].id(), all[2].id()]);
    delivered(&h, &rest).await;
    // What failed before is forgotten, its time too.
    h.advance(LEASE / 2).await;
    settled(&h, [Settlement::dead_letter(again[0].lease, "failed again")]).await;
    let letters = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].failures, letters[0].reason.as_str()), (1, "failed again"));
    assert_eq!(letters[0].first_failed_at, letters[0].last_failed_at, "a failure of before is known");
    assert!(!h.store().requeue(all[0].id()).await.expect("requeue"), "it is delivered");
}

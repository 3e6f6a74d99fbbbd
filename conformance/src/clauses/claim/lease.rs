//! Leases: what is claimed, for how long, and the fence.

use std::{
    collections::HashSet,
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, Lease, OutboxStore, Settlement,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    LEASE, assert_first_of, assert_lost, claim, claim_by, delivered, delivered_by, drained, keyed,
    leased_ids, settle, settle_all_of, settled,
};
use crate::{
    Harness,
    support::{
        A_SECOND, A_WHILE, FRACTION, acknowledge, acknowledge_all, again_after_conflicts, event, events,
        full_event, ids, is_telling, kept, pending, pending_ids, save, save_all,
    },
};

/// 7.1: a claim leases at most `limit` due events, oldest first, as they were saved.
pub async fn a_claim_leases_the_oldest_up_to_its_limit<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    assert!(claim(&h, 10).await.is_empty());
    let all = events(10);
    save_all(&h, &all).await;
    assert!(claim(&h, 0).await.is_empty());
    let first = claim(&h, 3).await;
    assert_eq!(first.iter().map(|leased| leased.event.clone()).collect::<Vec<_>>(), all[..3]);
    assert!(first.iter().all(|leased| leased.attempts == 1 && leased.failures == 0), "{first:?}");
    assert!(first.iter().all(|leased| leased.lease.event() == leased.event.id()));
    assert_eq!(leased_ids(&claim(&h, usize::MAX).await), ids(&all[3..]));
    assert!(claim(&h, 10).await.is_empty());
}

/// 1.2 and 1.6: a claim hands out the whole event, with its headers and with unknown fields of a newer producer: at once,
/// beside what is leased, and after a retry.
pub async fn a_claimed_event_is_as_it_was_saved<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut all = ["one.x", "two.x"].map(full_event);
    for event in &mut all {
        event
            .meta_mut()
            .extra
            .insert("region".to_owned(), json!({ "a.b": [1, 2.5, null], "$set": u64::MAX }));
    }
    all[1].meta_mut().partition_key = None;
    save_all(&h, &all).await;
    for after in [Some(Duration::ZERO), Some(LEASE), None] {
        for event in &all {
            assert_eq!(claim(&h, 1).await[0].event, *event);
        }
        h.advance(LEASE * 2).await;
        let leased = claim(&h, 10).await;
        assert_eq!(leased.iter().map(|one| one.event.clone()).collect::<Vec<_>>(), all);
        let Some(after) = after else { break };
        settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, after, "failed"))).await;
        h.advance(after).await;
    }
}

/// 7.1: hidden events are not claimed before their time.
pub async fn a_hidden_event_is_not_claimed<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let later = event("later").with_not_before(h.now().await + TimeDelta::seconds(60));
    let now = event("now");
    save_all(&h, &[later.clone(), now.clone()]).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [now.id()]);
    h.advance(Duration::from_secs(61)).await;
    let leased = claim(&h, 1).await;
    assert_eq!(leased_ids(&leased), [later.id()]);
    // And tells until when it was hidden, also when it comes again.
    let hidden_until = leased[0].event.not_before();
    assert!(hidden_until.is_some());
    settled(&h, [Settlement::retry(leased[0].lease, Duration::ZERO, "failed")]).await;
    let again = claim(&h, 1).await;
    assert_eq!((leased_ids(&again), again[0].event.not_before()), (vec![later.id()], hidden_until));
}

/// 7.1: of some types only; those of others are passed over, and hold up nobody.
pub async fn a_claim_takes_only_the_types_it_asks_for<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let of_type = |index: usize| {
        Event::new(["a.x", "b.x", "A.x", "a.x "][index % 4], json!(index))
            .expect("valid")
            .with_partition_key("k")
    };
    let all: Vec<Event> = (0..12).map(of_type).collect();
    save_all(&h, &all).await;
    let of = |wanted: &[&str]| -> Vec<EventId> {
        all.iter().filter(|event| wanted.contains(&event.event_type())).map(Event::id).collect()
    };
    let request = |types: &[&str]| Claim::new("a worker").with_types(types.iter().copied()).with_lease(LEASE);
    let take = async |types: &[&str]| {
        leased_ids(&settle_all_of(h.store(), &request(types), Settlement::delivered).await)
    };
    assert!(take(&["none"]).await.is_empty());
    assert_eq!(take(&["b.x"]).await, of(&["b.x"]));
    let leased = h.store().claim(&request(&["a.x", "A.x"]).with_limit(2)).await.expect("claim");
    assert_first_of(&leased, &of(&["a.x", "A.x"])[..2]);
    delivered(&h, &leased).await;
    assert!(take(&[""]).await.is_empty(), "no event has that type");
    let (mut upper, mut rest) = (of(&["A.x"]), of(&["a.x", "a.x "]));
    upper.retain(|id| !leased_ids(&leased).contains(id));
    assert_eq!(take(&["A.x"]).await, upper, "upper and lower case are different letters");
    rest.retain(|id| !leased_ids(&leased).contains(id));
    assert_eq!(drained(&h, 100).await, rest, "the rest, of whatever type");
}

/// 4.3 and 7.2: what is leased is neither pending nor claimed again.
pub async fn a_leased_event_is_neither_pending_nor_claimed<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = events(5);
    save_all(&h, &all).await;
    let leased = claim(&h, 2).await;
    assert_eq!(pending_ids(&h).await, ids(&all[2..]));
    assert_eq!(ids(&h.store().get_pending(2).await.expect("get_pending")), ids(&all[2..4]));
    assert_eq!(leased_ids(&claim(&h, 10).await), ids(&all[2..]));
    assert!(pending(&h).await.is_empty());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0, "a purge leaves what is leased");
    delivered(&h, &leased).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2));
}

/// 7.2: claims made at the same time are disjoint, and together have everything.
pub async fn claims_at_the_same_time_are_disjoint<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    claims_are_disjoint(h, Vec::new()).await;
}

/// The first workers have handles of their own.
pub(crate) async fn claims_are_disjoint<H: Harness>(h: Arc<H>, handles: Vec<H::Store>)
where
    H::Store: ClaimStore,
{
    let handles = Arc::new(handles);
    let mut all = events(400);
    for (index, event) in all.iter_mut().enumerate().filter(|(index, _)| index % 2 == 0) {
        *event = event.clone().with_partition_key(format!("key {}", index % 14));
    }
    save_all(&h, &all).await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..6 {
        let (h, handles) = (Arc::clone(&h), Arc::clone(&handles));
        workers.spawn(async move {
            let store = handles.get(worker).unwrap_or_else(|| h.store());
            let mut mine = Vec::new();
            let mut misses = 0;
            while misses < 20 {
                let leased = claim_by(store, 7).await;
                if leased.is_empty() {
                    misses += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                // They are settled, so that keys become free for others.
                delivered_by(store, &leased).await;
                mine.extend(leased_ids(&leased));
            }
            mine
        });
    }
    let claimed: Vec<EventId> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), all.len(), "each is claimed once");
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), ids(&all).into_iter().collect());
}

/// 7.3 and 7.6: events of one claim that are settled by many calls at the same time, with renewals of the others among
/// them, are leased no more, and those that were renewed are leased for as long as was asked for.
pub async fn calls_at_the_same_time_for_one_claim_undo_nothing_of_one_another<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for round in 0..5 {
        let batch: Vec<Event> = (0..16).map(|n| keyed(&format!("{round} {n}"), "event")).collect();
        save_all(&h, &batch).await;
        let leased = claim(&h, batch.len()).await;
        assert_eq!(leased_ids(&leased), ids(&batch));
        let mut calls = tokio::task::JoinSet::new();
        for (index, lease) in leased.iter().map(|leased| leased.lease).enumerate() {
            let h = Arc::clone(&h);
            calls.spawn(async move {
                match index % 4 {
                    0 => settled(&h, [Settlement::delivered(lease)]).await,
                    1 | 2 => settled(&h, [Settlement::released(lease)]).await,
                    _ => {
                        let renewed =
                            again_after_conflicts(|| h.store().renew(slice::from_ref(&lease), LEASE * 4))
                                .await;
                        renewed[0].as_ref().expect("it is held");
                    }
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        }
        let those = |wanted: &[usize]| -> Vec<EventId> {
            let all = batch.iter().enumerate().filter(|(index, _)| wanted.contains(&(index % 4)));
            all.map(|(_, event)| event.id()).collect()
        };
        let released = claim(&h, batch.len()).await;
        assert_eq!(leased_ids(&released), those(&[1, 2]), "what was given back is free, and nothing else");
        assert!(released.iter().all(|leased| leased.attempts == 1), "{released:?}");
        delivered(&h, &released).await;
        h.advance(LEASE * 2).await;
        assert!(claim(&h, batch.len()).await.is_empty(), "what was renewed is leased");
        let renewed = leased.iter().skip(3).step_by(4).cloned();
        delivered(&h, &renewed.collect::<Vec<_>>()).await;
        assert!(pending(&h).await.is_empty());
    }
}

/// 7.5: a lease that ran out settles and renews nothing, whoever holds it, before and after somebody else claimed
/// its event, and under the same worker's name.
pub async fn a_lease_that_ran_out_has_no_effect<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let one = keyed("key", "one");
    save(&h, &one).await;
    let old = claim(&h, 1).await[0].lease;
    h.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(pending_ids(&h).await, [one.id()], "it is pending again");
    let stale = async || {
        for settlement in [
            Settlement::delivered(old),
            Settlement::retry(old, Duration::ZERO, "late"),
            Settlement::dead_letter(old, "late"),
            Settlement::released(old),
        ] {
            assert_lost(&settle(&h, &[settlement]).await[0], &old);
        }
        assert_lost(&h.store().renew(&[old], LEASE).await.expect("renew")[0], &old);
    };
    stale().await;
    let again = claim(&h, 10).await;
    assert_eq!(leased_ids(&again), [one.id()], "it is claimable again");
    assert_ne!(again[0].lease.token(), old.token(), "under a new token");
    stale().await;
    assert!(claim(&h, 10).await.is_empty(), "the old lease has given away what the new one holds");
    delivered(&h, &again).await;
    stale().await;
    assert!(pending(&h).await.is_empty());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
}

/// 7.5: a lease lasts as long as it was asked for, by the store's clock.
pub async fn a_lease_lasts_as_long_as_it_was_asked_for<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    save_all(&h, &events(2)).await;
    let request = |seconds| Claim::new("a worker").with_limit(1).with_lease(Duration::from_secs(seconds));
    let short = h.store().claim(&request(60)).await.expect("claim");
    let long = h.store().claim(&request(600)).await.expect("claim");
    h.advance(Duration::from_secs(30)).await;
    assert!(claim(&h, 10).await.is_empty());
    h.advance(Duration::from_secs(60)).await;
    assert_eq!(pending_ids(&h).await, leased_ids(&short));
    delivered(&h, &long).await;
    assert_lost(&settle(&h, &[Settlement::delivered(short[0].lease)]).await[0], &short[0].lease);
    delivered(&h, &claim(&h, 10).await).await;
    // However long that is.
    save_all(&h, &events(1)).await;
    let for_ever = h.store().claim(&request(0).with_lease(Duration::MAX)).await.expect("claim");
    assert_eq!(for_ever.len(), 1);
    h.advance(Duration::from_hours(48)).await;
    assert!(claim(&h, 10).await.is_empty());
    delivered(&h, &for_ever).await;
}

/// 7.5: renewed for ever, it lasts for ever; one of no time is over soon, and nobody waits for it.
pub async fn a_lease_may_be_renewed_for_ever_or_be_of_no_time<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = [keyed("a", "a"), keyed("b", "b")];
    save_all(&h, &all).await;
    let leased = claim(&h, 1).await;
    let renewed = h.store().renew(&[leased[0].lease], Duration::MAX).await.expect("renew");
    renewed[0].as_ref().expect("it is held");
    let none = Claim::new("a worker").with_lease(Duration::ZERO);
    let brief = h.store().claim(&none).await.expect("claim");
    assert_eq!(leased_ids(&brief), [all[1].id()]);
    h.advance(Duration::from_secs(1)).await;
    assert_lost(&settle(&h, &[Settlement::delivered(brief[0].lease)]).await[0], &brief[0].lease);
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[1].id()]);
    h.advance(Duration::from_hours(48)).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[1].id()]);
    delivered(&h, &leased).await;
}

/// 7.5 and 7.6: leases and delays last as long as was asked for, and are not cut to whole seconds.
pub async fn fractions_of_a_second_count<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut told = [false; 3];
    for _ in 0..20 {
        let one = keyed("key", "one");
        save(&h, &one).await;
        let begun = Instant::now();
        let short = h.store().claim(&Claim::new("a worker").with_lease(FRACTION)).await.expect("claim");
        assert_eq!(leased_ids(&short), [one.id()]);
        let is_pending = async || !pending(&h).await.is_empty();
        h.advance(A_WHILE).await;
        let is_over = is_pending().await;
        if is_telling(begun) {
            assert!(!is_over, "a lease of {FRACTION:?} is over at once");
            told[0] = true;
        }
        h.advance(A_SECOND).await;
        assert!(is_pending().await, "a lease of {FRACTION:?} lasts for more than a second");

        let lease = claim(&h, 1).await[0].lease;
        let begun = Instant::now();
        let renewed = h.store().renew(&[lease], FRACTION).await.expect("renew");
        renewed[0].as_ref().expect("it is held");
        h.advance(A_WHILE).await;
        let is_over = is_pending().await;
        if is_telling(begun) {
            assert!(!is_over, "a renewal by {FRACTION:?} is over at once");
            told[1] = true;
        }
        h.advance(A_SECOND).await;

        let leased = claim(&h, 1).await;
        let begun = Instant::now();
        settled(&h, [Settlement::retry(leased[0].lease, FRACTION, "failed")]).await;
        h.advance(A_WHILE).await;
        let is_due = is_pending().await;
        if is_telling(begun) {
            assert!(!is_due, "a retry after {FRACTION:?} is due at once");
            told[2] = true;
        }
        h.advance(A_SECOND).await;
        delivered(&h, &claim(&h, 1).await).await;
        if told == [true; 3] {
            return;
        }
    }
    panic!("no answer came within {FRACTION:?}");
}

/// 7.5: when its time is over, a lease is over: neither later nor only when somebody claims again.
pub async fn a_lease_is_over_when_its_time_is<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let one = keyed("key", "one");
    save(&h, &one).await;
    let lease = claim(&h, 1).await[0].lease;
    h.advance(LEASE).await;
    assert_lost(&h.store().renew(&[lease], LEASE).await.expect("renew")[0], &lease);
    assert_lost(&settle(&h, &[Settlement::delivered(lease)]).await[0], &lease);
    assert_eq!(pending_ids(&h).await, [one.id()]);
}

/// 7.5: renewed, a lease lasts from then on; one that is lost is not had back.
pub async fn a_renewed_lease_lasts_from_then_on<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = [keyed("a", "a"), keyed("b", "b"), keyed("a", "a 2")];
    save_all(&h, &all).await;
    let leased = claim(&h, 2).await;
    h.advance(LEASE / 2).await;
    let leases: Vec<Lease> = leased.iter().map(|leased| leased.lease).collect();
    let unknown = Lease::new(leases[0].event(), Uuid::now_v7());
    let renewed = h.store().renew(&[leases[0], unknown, leases[1]], LEASE).await.expect("renew");
    assert!(renewed[0].is_ok() && renewed[2].is_ok(), "{renewed:?}");
    assert_lost(&renewed[1], &unknown);
    h.advance(LEASE / 4 * 3).await;
    assert!(claim(&h, 10).await.is_empty(), "the leases and their keys hold");
    delivered(&h, &leased).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[2].id()]);
}

/// 7.5: from then on it lasts as long as was asked for, also where that is less than before, and so does what it keeps of its
/// key.
pub async fn a_lease_that_was_renewed_for_less_is_over_sooner<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = [keyed("key", "first"), keyed("key", "second")];
    save_all(&h, &all).await;
    // A key that has waited, too, whose events a store may keep apart.
    let failed = claim(&h, 1).await[0].lease;
    settled(&h, [Settlement::retry(failed, LEASE, "failed")]).await;
    assert!(claim(&h, 10).await.is_empty(), "the key waits");
    h.advance(LEASE).await;
    let lease = claim(&h, 1).await[0].lease;
    for length in [LEASE * 8, LEASE / 2] {
        h.store().renew(&[lease], length).await.expect("renew")[0].as_ref().expect("it is held");
        assert!(claim(&h, 10).await.is_empty(), "the lease and its key hold");
    }
    h.advance(LEASE / 4 * 3).await;
    assert_lost(&settle(&h, &[Settlement::delivered(lease)]).await[0], &lease);
    assert_eq!(drained(&h, 10).await, ids(&all));
}

/// 7.6: the same lease twice, one of another token, and one that never was: each has its own answer.
pub async fn each_settlement_has_its_own_answer<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = events(4);
    save_all(&h, &all).await;
    let leased = claim(&h, 4).await;
    assert!(settle(&h, &[]).await.is_empty());
    let forged = Lease::new(all[1].id(), Uuid::now_v7());
    let elsewhere = Lease::new(EventId::new(), leased[0].lease.token());
    let answers = settle(
        &h,
        &[
            Settlement::delivered(leased[2].lease),
            Settlement::delivered(forged),
            Settlement::delivered(leased[0].lease),
            Settlement::retry(leased[0].lease, Duration::ZERO, "twice"),
            Settlement::delivered(elsewhere),
            Settlement::retry(leased[3].lease, LEASE, "first"),
            Settlement::delivered(leased[3].lease),
        ],
    )
    .await;
    assert!(answers[0].is_ok() && answers[2].is_ok() && answers[5].is_ok(), "{answers:?}");
    assert_lost(&answers[1], &forged);
    assert_lost(&answers[3], &leased[0].lease);
    assert_lost(&answers[4], &elsewhere);
    assert_lost(&answers[6], &leased[3].lease);
    assert!(pending(&h).await.is_empty(), "one is still leased, one waits, and the others are delivered");
    settled(&h, [Settlement::released(leased[1].lease)]).await;
    assert_eq!(pending_ids(&h).await, [all[1].id()]);
    h.advance(LEASE * 2).await;
    assert_eq!(drained(&h, 10).await, [all[1].id(), all[3].id()], "what failed comes again");
}

/// 5.3, 5.4 and 7.5: a batch of acknowledgements does what as many single ones do, whatever state its events are in: it ends leases,
/// frees the keys that wait for them and for retries, and leaves dead letters and what they hold alone.
pub async fn a_batch_of_acknowledgements_ends_leases_and_frees_keys<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let of = |name: &str| ["leased", "retried", "held"].map(|key| keyed(key, name));
    let ([leased, retried, held], behind) = (of("first"), of("second"));
    let done = event("done");
    save_all(&h, &[leased.clone(), retried.clone(), held.clone(), done.clone()]).await;
    let leases: Vec<Lease> = claim(&h, 10).await.iter().map(|one| one.lease).collect();
    settled(
        &h,
        [
            Settlement::retry(leases[1], LEASE * 100, "failed"),
            Settlement::dead_letter_holding_key(leases[2], "failed"),
            Settlement::delivered(leases[3]),
        ],
    )
    .await;
    save_all(&h, &behind).await;
    assert!(claim(&h, 10).await.is_empty(), "they wait");
    let hidden = event("hidden").with_not_before(h.now().await + TimeDelta::hours(1));
    save(&h, &hidden).await;

    let batch = [&behind[0], &leased, &done, &hidden, &held, &retried].map(Event::id);
    acknowledge_all(&h, &[&batch[1..], &[EventId::new()]].concat()).await;
    for late in [Settlement::retry(leases[0], Duration::ZERO, "late"), Settlement::released(leases[0])] {
        assert_lost(&settle(&h, &[late]).await[0], &leases[0]);
    }
    assert_lost(&h.store().renew(&leases[..1], LEASE).await.expect("renew")[0], &leases[0]);
    let next = claim(&h, 10).await;
    assert_eq!(
        leased_ids(&next),
        ids(&behind[..2]),
        "the first of their keys are delivered, and one is held"
    );
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 4));
    acknowledge_all(&h, &batch[..1]).await;
    delivered(&h, &next[1..]).await;
    h.advance(LEASE * 200).await;
    assert!(claim(&h, 10).await.is_empty(), "what was delivered comes again");
    let dead = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(dead.iter().map(|letter| letter.id).collect::<Vec<_>>(), [held.id()]);
    assert!(h.store().discard(held.id()).await.expect("discard"));
    assert_eq!(leased_ids(&claim(&h, 10).await), [behind[2].id()]);
}

/// 7.5: an acknowledgement ends the lease; a failure that is reported later does not resurrect the event.
pub async fn a_late_failure_does_not_resurrect_a_delivered_event<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = [keyed("k", "one"), keyed("k", "two")];
    save_all(&h, &all).await;
    let leased = claim(&h, 1).await;
    acknowledge(&h, all[0].id()).await;
    for late in [
        Settlement::retry(leased[0].lease, Duration::ZERO, "late"),
        Settlement::dead_letter(leased[0].lease, "late"),
        Settlement::released(leased[0].lease),
    ] {
        assert_lost(&settle(&h, &[late]).await[0], &leased[0].lease);
    }
    assert_eq!(pending_ids(&h).await, [all[1].id()]);
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
    h.advance(LEASE * 2).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[1].id()]);
}

/// 4.5: a row that cannot be decoded is never leased, blocks neither the claim nor its key, and is set aside by it.
pub async fn an_undecodable_row_is_never_leased<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let (before, after) = (event("before"), event("after"));
    save(&h, &before).await;
    for _ in 0..4 {
        h.insert_undecodable(EventId::new()).await;
    }
    save(&h, &after).await;
    assert_eq!(leased_ids(&claim(&h, 1).await), [before.id()]);
    let rest = claim(&h, 2).await;
    assert_eq!(leased_ids(&rest), [after.id()]);
    delivered(&h, &rest).await;
    h.advance(LEASE * 2).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [before.id()], "they are not leased again and again");
    let dead = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
    assert_eq!(dead.len(), 4, "the claims have set them aside");
    // One that is found beside others costs them nothing.
    let beside = events(2);
    save(&h, &beside[0]).await;
    h.insert_undecodable(EventId::new()).await;
    save(&h, &beside[1]).await;
    let leased = claim(&h, 3).await;
    assert_eq!(leased_ids(&leased), ids(&beside));
    delivered(&h, &leased).await;
}

//! Section 9.5 for claims: what is cut off of them.

use std::{slice, sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, Lease, Leased, OutboxStore,
    Result, Settlement, StatsStore,
};
use tokio::time::sleep;

use super::{
    claim::{
        LEASE, claim, claim_by, claim_soon, delivered, keyed, leased, leased_ids, of_a_worker, settle,
        settled,
    },
    outage::{Away, assert_cut_off, bounded, exchanged},
};
use crate::{
    OutageHarness,
    support::{acknowledge_all, ids, pending_ids, retried, save_all},
};

/// How long a failed event waits here.
const WAIT: Duration = Duration::from_secs(3600);

fn all_or_none(answers: &[Result<()>]) -> Option<bool> {
    let took = answers.first()?.is_ok();
    answers.iter().all(|answer| answer.is_ok() == took).then_some(took)
}

/// 9.5, 7.2 and 7.3: what was leased by a claim that was cut off is nobody's until the lease runs out, and comes then; none of a
/// key comes before.
pub async fn what_a_claim_that_was_cut_off_has_leased_comes_again_in_order<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let asked = Claim::new("a worker").with_limit(3).with_lease(LEASE);
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let there = Arc::clone(&away.h);
        let batch: Vec<Event> =
            ["one", "other", "one", "other"].map(|key| keyed(key, &away.at.to_string())).to_vec();
        save_all(&h, &batch).await;
        let answer = away.cut(there.store().claim(&asked)).await;
        let next = leased_ids(&retried(|| h.store().claim(&asked)).await);
        match answer {
            Ok(leased) => {
                assert_eq!(leased_ids(&leased), ids(&batch[..3]));
                assert!(next.is_empty(), "what one was told to have is another's: {next:?}");
            }
            Err(error) => assert_cut_off(&error),
        }
        assert!(next.is_empty() || next == ids(&batch[..3]), "a later event of a key came first: {next:?}");
        // The server may still be about what was cut off.
        let mut again = Vec::new();
        for _ in 0..50 {
            h.advance(LEASE * 2).await;
            again = claim(&h, 10).await;
            if again.len() == batch.len() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(leased_ids(&again), ids(&batch));
        delivered(&h, &again).await;
    }
}

/// 9.5: what a call has begun whose handle was cut off for good, as where its process has died, holds up the calls of others for
/// seconds, and is no error of theirs.
pub async fn what_nobody_goes_on_with_does_not_hold_up_others<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let there = Arc::clone(&away.h);
        let held = leased(&h, 2).await;
        let renewal = [held[0].lease];
        match away.cut_for_good(there.store().renew(&renewal, LEASE * 2)).await {
            Ok(answers) => assert_eq!(all_or_none(&answers), Some(true), "{answers:?}"),
            Err(error) => assert_cut_off(&error),
        }
        let other = keyed("another", "other");
        save_all(&h, slice::from_ref(&other)).await;
        // In turns: what is begun is open over several messages.
        if away.at.is_multiple_of(2) {
            let claimed = bounded(h.store().claim(&Claim::new("another"))).await.expect("claim");
            assert_eq!(leased_ids(&claimed), [other.id()]);
        } else {
            bounded(h.store().acknowledge(other.id())).await.expect("acknowledge");
        }
        for lease in [held[0].lease, held[1].lease] {
            settled(&h, [Settlement::delivered(lease)]).await;
        }
        acknowledge_all(&h, &[other.id()]).await;
    }
}

/// 9.5: what a call has begun that is dropped half-way, as by a time limit, is undone: nobody asks again and again until it is.
pub async fn what_a_dropped_call_has_begun_is_not_waited_for<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    // One that waits for some seconds, and asks meanwhile, asks more often.
    const FEW: usize = 100;
    let other = Away::open(&h).await;
    // Connected, and whatever is asked only once.
    assert!(claim_by(other.h.store(), 1).await.is_empty());
    let mut away = Away::open(&h).await;
    for what in ["renewal", "settlement", "acknowledgement"] {
        away.again();
        while away.goes_on().await {
            let (there, held) = (Arc::clone(&away.h), leased(&h, 2).await);
            let call = async {
                match what {
                    "renewal" => there.store().renew(&[held[0].lease], LEASE * 2).await.map(drop),
                    "settlement" => {
                        let failed = Settlement::retry(held[0].lease, WAIT, "later");
                        there.store().settle(&[failed]).await.map(drop)
                    }
                    _ => there.store().acknowledge(held[0].event.id()).await,
                }
            };
            away.give_up(call).await;
            let next = keyed("another", "next");
            save_all(&h, slice::from_ref(&next)).await;
            let asked = of_a_worker(10);
            let (claimed, trips) = exchanged(&other.proxy, claim_soon(other.h.store(), &asked)).await;
            assert_eq!(leased_ids(&claimed), [next.id()]);
            assert!(trips < FEW, "a claim takes {trips} round trips after a {what} was dropped");
            acknowledge_all(&h, &[held[0].event.id(), held[1].event.id(), next.id()]).await;
        }
    }
}

/// 9.5 and 7.6: a settlement that was cut off took as a whole or not at all; made again, what has not taken does, and what has
/// says that the lease is lost.
pub async fn a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let (there, leased) = (Arc::clone(&away.h), leased(&h, 4).await);
        let settlements = [
            Settlement::delivered(leased[0].lease),
            Settlement::retry(leased[1].lease, WAIT, "later"),
            Settlement::dead_letter(leased[2].lease, "never"),
            Settlement::released(leased[3].lease),
        ];
        let answer = away.cut(there.store().settle(&settlements)).await;
        let again = retried(|| h.store().settle(&settlements)).await;
        let took_again = all_or_none(&again);
        match answer {
            Ok(answers) => {
                assert_eq!(all_or_none(&answers), Some(true), "{answers:?}");
                assert_eq!(took_again, Some(false), "what was reported as settled was not: {again:?}");
            }
            Err(error) => {
                assert_cut_off(&error);
                assert!(took_again.is_some(), "a part of it took: {again:?}");
            }
        }
        for lost in again.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(lost.kind(), ErrorKind::LeaseLost, "{lost}");
        }
        let letters = h.store().dead_letters(&DeadLetterFilter::new()).await.expect("dead_letters").letters;
        assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [leased[2].event.id()]);
        assert_eq!(pending_ids(&h).await, [leased[3].event.id()], "what was released");
        h.advance(WAIT).await;
        let rest = claim(&h, 10).await;
        assert_eq!(leased_ids(&rest), [leased[1].event.id(), leased[3].event.id()]);
        assert_eq!((rest[0].failures, rest[1].failures, rest[1].attempts), (1, 0, 1));
        delivered(&h, &rest).await;
        assert!(h.store().discard(leased[2].event.id()).await.expect("discard"));
    }
}

/// 9.5: a renewal that was cut off leaves the lease as it is, or renewed, and who holds it settles by it; one that answered
/// was made.
pub async fn a_renewal_that_is_cut_off_costs_nobody_the_lease<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let (there, held) = (Arc::clone(&away.h), leased(&h, 2).await);
        let leases: Vec<Lease> = held.iter().map(|one| one.lease).collect();
        match away.cut(there.store().renew(&leases, LEASE * 3)).await {
            Ok(answers) => {
                assert_eq!(all_or_none(&answers), Some(true), "{answers:?}");
                // Beyond the end that it had before.
                h.advance(LEASE * 2).await;
            }
            Err(error) => assert_cut_off(&error),
        }
        assert!(claim(&h, 10).await.is_empty(), "it is leased");
        let settlements = held.iter().map(|one| Settlement::delivered(one.lease)).collect::<Vec<_>>();
        let answers = retried(|| h.store().settle(&settlements)).await;
        assert_eq!(all_or_none(&answers), Some(true), "{answers:?}");
    }
}

/// 9.5 and 8.3: dead letters that were requeued and discarded by calls that were cut off are so, once the call was made
/// again.
pub async fn what_is_done_to_dead_letters_is_done_though_it_was_cut_off<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let (mut away, all) = (Away::open(&h).await, DeadLetterFilter::new());
    for requeues in [true, false] {
        away.again();
        while away.goes_on().await {
            let (there, held) = (Arc::clone(&away.h), leased(&h, 2).await);
            settled(&h, held.iter().map(|one| Settlement::dead_letter_holding_key(one.lease, "why"))).await;
            let change = |h: Arc<H>| {
                let all = all.clone();
                async move {
                    if requeues {
                        h.store().requeue_all(&all).await
                    } else {
                        h.store().discard_all(&all).await
                    }
                }
            };
            let changed = match away.cut(change(there)).await {
                Ok(changed) => changed,
                Err(error) => {
                    assert_cut_off(&error);
                    retried(|| change(Arc::clone(&h))).await;
                    2
                }
            };
            assert_eq!(changed, 2);
            assert_eq!(retried(|| change(Arc::clone(&h))).await, 0, "nothing is left");
            let pending = pending_ids(&h).await;
            assert_eq!(pending, if requeues { leased_ids(&held) } else { Vec::new() });
            let free = [0, 1].map(|index| keyed(&format!("key {index}"), "behind"));
            save_all(&h, &free).await;
            let next = claim(&h, 10).await;
            assert_eq!(next.len(), pending.len() + 2, "nothing holds the keys any more");
            let is_fresh = |one: &Leased| (one.attempts, one.failures) == (1, 0);
            assert!(next.iter().all(is_fresh), "a part of it was done: {next:?}");
            acknowledge_all(&h, &[pending, ids(&free)].concat()).await;
        }
    }
}

/// 9.5 and 7.5: while the server is away each call is `Unavailable`; who has a lease keeps it, and settles when the server is
/// back.
pub async fn leases_outlive_an_outage<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let away = Away::open(&h).await;
    let there = away.h.store();
    let batch = [keyed("key", "first"), keyed("key", "second"), keyed("other", "third")];
    save_all(&h, &batch).await;
    let asked = Claim::new("a worker").with_limit(2).with_lease(LEASE);
    let held = retried(|| there.claim(&asked)).await;
    assert_eq!(leased_ids(&held), ids(&batch[..2]));
    let leases: Vec<Lease> = held.iter().map(|one| one.lease).collect();
    let settlements: Vec<Settlement> = leases.iter().copied().map(Settlement::delivered).collect();
    away.proxy.go_down();
    let errors = [
        bounded(there.claim(&asked)).await.map(drop).expect_err("claim"),
        bounded(there.renew(&leases, LEASE)).await.map(drop).expect_err("renew"),
        bounded(there.settle(&settlements)).await.map(drop).expect_err("settle"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_cut_off(&error);
    }
    away.proxy.come_back();
    let answers = retried(|| there.settle(&settlements)).await;
    assert_eq!(all_or_none(&answers), Some(true), "{answers:?}");
    assert_eq!(leased_ids(&there.claim(&asked).await.expect("claim")), [batch[2].id()]);
    assert!(h.store().get_pending(10).await.expect("get_pending").is_empty());
}

/// 7.6: however many leases one call is about, they are not exchanged one by one, also where each has failed in its own way; and
/// a call about none takes none.
pub async fn a_call_about_many_leases_takes_few_round_trips<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const MANY: usize = 300;
    let away = Away::open(&h).await;
    let there = away.h.store();
    let batch: Vec<Event> = (0..MANY).map(|index| keyed(&format!("key {index}"), "one")).collect();
    save_all(&h, &batch).await;
    let asked = Claim::new("a worker").with_limit(MANY).with_lease(LEASE);
    for round in 0..2 {
        let (held, claiming) = exchanged(&away.proxy, there.claim(&asked)).await;
        let held = held.expect("claim");
        assert_eq!(held.len(), MANY);
        let leases: Vec<Lease> = held.iter().map(|one| one.lease).collect();
        let (renewed, renewing) = exchanged(&away.proxy, there.renew(&leases, LEASE)).await;
        assert_eq!(all_or_none(&renewed.expect("renew")), Some(true));
        let failed = leases.iter().enumerate().map(|(index, lease)| {
            let error = format!("{index} in round {round}: {}", "it failed. ".repeat(45));
            Settlement::retry(*lease, Duration::ZERO, error)
        });
        let failed: Vec<Settlement> = failed.collect();
        let (settled, settling) = exchanged(&away.proxy, there.settle(&failed)).await;
        assert_eq!(all_or_none(&settled.expect("settle")), Some(true));
        for (what, trips) in [("a claim", claiming), ("a renewal", renewing), ("a settlement", settling)] {
            assert!(trips < MANY / 20, "{what} of {MANY} events takes {trips} round trips");
        }
    }
    let nothing = async {
        for _ in 0..MANY {
            assert!(there.claim(&asked.clone().with_limit(0)).await.expect("claim").is_empty());
            assert!(there.renew(&[], LEASE).await.expect("renew").is_empty());
            assert!(there.settle(&[]).await.expect("settle").is_empty());
        }
    };
    let ((), trips) = exchanged(&away.proxy, nothing).await;
    assert!(trips < MANY, "calls about nothing take {trips} round trips");
}

/// 7.9: a claim that finds nothing, as a worker that waits for work makes it again and again, takes no more than a fetch, and the
/// beginning and the end of a transaction.
pub async fn a_claim_in_vain_takes_few_round_trips<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const CALLS: usize = 40;
    let away = Away::open(&h).await;
    let there = away.h.store();
    let claims = async |calls: usize| {
        for _ in 0..calls {
            assert!(claim_by(there, 10).await.is_empty());
        }
    };
    let fetches = async || {
        for _ in 0..CALLS {
            assert_eq!(there.get_pending(10).await.expect("get_pending"), []);
        }
    };
    // Connected, and whatever is asked only once.
    claims(1).await;
    let ((), fetching) = exchanged(&away.proxy, fetches()).await;
    let ((), claiming) = exchanged(&away.proxy, claims(CALLS)).await;
    assert_few_trips("claims that find nothing", CALLS, 2, (claiming, fetching));
}

/// So many calls have taken at most so many round trips more each than fetches.
#[track_caller]
fn assert_few_trips(what: &str, calls: usize, more: usize, (trips, fetching): (usize, usize)) {
    // What is about something else may come in between.
    assert!(
        trips <= fetching + more * calls + calls / 2,
        "{calls} {what} take {trips} round trips, and as many fetches {fetching}"
    );
}

/// 5.3 and 7.6: an acknowledgement where nothing is leased or waits, and a settlement of what was all delivered, which is how it
/// nearly always is, take a few round trips more than a fetch.
pub async fn what_is_nearly_always_so_takes_few_round_trips<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const CALLS: usize = 20;
    let away = Away::open(&h).await;
    let there = away.h.store();
    let (mut fetching, mut acknowledging, mut settling) = (0, 0, 0);
    for round in 0..=CALLS {
        let batch: Vec<Event> = ["one", "two", "three"].map(|key| keyed(key, "event")).to_vec();
        save_all(&h, &batch).await;
        let (fetched, fetch) = exchanged(&away.proxy, there.get_pending(10)).await;
        assert_eq!(ids(&fetched.expect("get_pending")), ids(&batch));
        let (answer, acknowledgement) = exchanged(&away.proxy, there.acknowledge(batch[0].id())).await;
        answer.expect("acknowledge");
        let held = claim_by(there, 10).await;
        assert_eq!(leased_ids(&held), ids(&batch[1..]));
        let settlements: Vec<Settlement> = held.iter().map(|one| Settlement::delivered(one.lease)).collect();
        let (answers, settlement) = exchanged(&away.proxy, there.settle(&settlements)).await;
        assert_eq!(all_or_none(&answers.expect("settle")), Some(true));
        // Connected, and whatever is asked only once.
        if round > 0 {
            (fetching, acknowledging, settling) =
                (fetching + fetch, acknowledging + acknowledgement, settling + settlement);
        }
    }
    assert_few_trips("acknowledgements", CALLS, 2, (acknowledging, fetching));
    assert_few_trips("settlements", CALLS, 6, (settling, fetching));
}

/// 7.9: a claim of what nothing is in the way of takes no more than one beside what others have leased.
pub async fn a_claim_with_nothing_in_its_way_takes_no_more_round_trips<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const CALLS: usize = 20;
    let away = Away::open(&h).await;
    let there = away.h.store();
    let claims = async |calls: usize| {
        let mut all = 0;
        for _ in 0..calls {
            let one = keyed("key", "event");
            save_all(&h, slice::from_ref(&one)).await;
            let (held, trips) = exchanged(&away.proxy, claim_by(there, 10)).await;
            assert_eq!(leased_ids(&held), [one.id()]);
            delivered(&h, &held).await;
            all += trips;
        }
        all
    };
    save_all(&h, &[keyed("held", "event")]).await;
    let held = h.store().claim(&Claim::new("another").with_lease(WAIT)).await.expect("claim");
    assert_eq!(held.len(), 1);
    // Connected, with whatever is asked only once, and it has met the lease.
    claims(2).await;
    let beside = claims(CALLS).await;
    delivered(&h, &held).await;
    claims(1).await;
    let alone = claims(CALLS).await;
    assert!(
        alone <= beside + CALLS / 2,
        "{CALLS} claims with nothing in their way take {alone} round trips, and {beside} beside a lease"
    );
}

/// 9.5 and 7.5: what an acknowledgement has reached before it was cut off, no key waits for any more, whatever is said then of
/// the lease that was on it.
pub async fn no_key_waits_for_what_an_acknowledgement_reached_that_was_cut_off<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    let ends: [fn(Lease) -> Settlement; 4] = [
        |lease| Settlement::retry(lease, WAIT, "later"),
        Settlement::released,
        Settlement::delivered,
        |lease| Settlement::dead_letter_holding_key(lease, "never"),
    ];
    for end in ends {
        away.again();
        while away.goes_on().await {
            let there = Arc::clone(&away.h);
            let both = [keyed("key", "first"), keyed("key", "second")];
            save_all(&h, &both).await;
            let held = claim(&h, 1).await;
            assert_eq!(leased_ids(&held), [both[0].id()]);
            let answer = away.cut(there.store().acknowledge(both[0].id())).await;
            let is_held = settle(&h, &[end(held[0].lease)]).await[0].is_ok();
            match answer {
                Ok(()) => assert!(!is_held, "an acknowledgement ends the lease"),
                Err(error) => assert_cut_off(&error),
            }
            if is_held {
                // It was not reached: it is made again.
                retried(|| h.store().acknowledge(both[0].id())).await;
                retried(|| h.store().discard(both[0].id())).await;
            }
            let next = claim(&h, 10).await;
            assert_eq!(leased_ids(&next), [both[1].id()], "the first of the key is not waited for any more");
            delivered(&h, &next).await;
        }
    }
}

/// 9.5 and 7.5: nor where nobody makes it again, and who held the lease is gone, or the retry is an hour away.
pub async fn no_key_waits_for_an_acknowledgement_that_nobody_makes_again<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + StatsStore,
{
    let long = Claim::new("a worker").with_limit(1).with_lease(WAIT);
    let mut away = Away::open(&h).await;
    for fails in [false, true] {
        away.again();
        while away.goes_on().await {
            let there = Arc::clone(&away.h);
            let both = [keyed("key", "first"), keyed("key", "second")];
            save_all(&h, &both).await;
            let held = h.store().claim(&long).await.expect("claim");
            assert_eq!(leased_ids(&held), [both[0].id()]);
            if fails {
                settled(&h, [Settlement::retry(held[0].lease, WAIT, "later")]).await;
            }
            if let Err(error) = away.cut(there.store().acknowledge(both[0].id())).await {
                assert_cut_off(&error);
            }
            // What was sent may still be under way.
            sleep(Duration::from_millis(50)).await;
            let stats = bounded(h.store().stats()).await.expect("stats");
            if stats.pending + stats.leased > 1 {
                bounded(h.store().acknowledge(both[0].id())).await.expect("acknowledge");
            }
            let next = bounded(h.store().claim(&long)).await.expect("claim");
            assert_eq!(leased_ids(&next), [both[1].id()], "the first of the key is not waited for any more");
            delivered(&h, &next).await;
        }
    }
}

/// 9.5 and 7.3: nor for what had failed, and was to be tried again: one claim gets past it.
pub async fn a_claim_gets_past_what_an_acknowledgement_reached_that_was_cut_off<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let there = Arc::clone(&away.h);
        let both = [keyed("key", "first"), keyed("key", "second")];
        save_all(&h, &both).await;
        let held = claim(&h, 1).await;
        settled(&h, [Settlement::retry(held[0].lease, WAIT, "later")]).await;
        assert!(claim(&h, 10).await.is_empty(), "the key waits");
        h.advance(WAIT).await;
        if let Err(error) = away.cut(there.store().acknowledge(both[0].id())).await {
            assert_cut_off(&error);
        }
        let mut next = claim(&h, 1).await;
        if leased_ids(&next) == [both[0].id()] {
            retried(|| h.store().acknowledge(both[0].id())).await;
            next = claim(&h, 1).await;
        }
        assert_eq!(leased_ids(&next), [both[1].id()], "the first of the key is not waited for any more");
        delivered(&h, &next).await;
    }
}

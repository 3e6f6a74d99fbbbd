//! Costs of claims and settlements: what the engine reads for them does not grow with events that they are not about (7.9).
//! See [`cost`](super::cost) for how it is counted.

use std::{sync::Arc, time::Duration};

use outbox_traits::{Claim, ClaimStore, Event, EventId, Settlement};

use super::{
    claim::{
        KEYED, LEASE, claim, claim_as, claim_soon, delivered, keyed, of_a_worker, settle_all, settle_all_of,
        settled,
    },
    cost::{BATCH, Costs, LIMIT, MANY, counted, fetch, fill, put_aside},
};
use crate::{
    CostHarness,
    support::{events, save, save_all},
};

const CLAIMS: &[&str] = &["a claim", "a settlement"];
const IN_VAIN: &[&str] = &["a claim in vain"];
/// Claims in a row of which one at least is not to cost more.
const A_FEW: usize = 5;

/// Claims and settles a few events, which must be there, and counts both.
async fn claim_and_settle<H: CostHarness>(h: &Arc<H>) -> Vec<u64>
where
    H::Store: ClaimStore,
{
    claim_and_settle_of(h, &of_a_worker(LIMIT)).await
}

/// By such a claim.
async fn claim_and_settle_of<H: CostHarness>(h: &Arc<H>, asked: &Claim) -> Vec<u64>
where
    H::Store: ClaimStore,
{
    let (leased, claiming) = counted(h, claim_as(h.store(), asked)).await;
    assert_eq!(leased.len(), LIMIT, "events that nothing is in the way of");
    let ((), settling) = counted(h, delivered(h, &leased)).await;
    vec![claiming, settling]
}

/// Saves a few events of keys of their own, and then claims and settles as many.
async fn save_claim_and_settle<H: CostHarness>(h: &Arc<H>) -> Vec<u64>
where
    H::Store: ClaimStore,
{
    save_claim_and_settle_of(h, &of_a_worker(LIMIT)).await
}

/// By such a claim.
async fn save_claim_and_settle_of<H: CostHarness>(h: &Arc<H>, asked: &Claim) -> Vec<u64>
where
    H::Store: ClaimStore,
{
    let free: Vec<Event> = (0..LIMIT).map(|_| keyed(&EventId::new().to_string(), "free")).collect();
    save_all(h, &free).await;
    claim_and_settle_of(h, asked).await
}

/// Claims where nothing is due, and counts that.
async fn claim_in_vain<H: CostHarness>(h: &Arc<H>) -> Vec<u64>
where
    H::Store: ClaimStore,
{
    let (leased, reads) = counted(h, claim(h, LIMIT)).await;
    assert!(leased.is_empty(), "nothing is due");
    vec![reads]
}

/// 7.9: what a claim reads is bounded by its limit and by what is leased, and so is what a settlement reads: neither
/// grows with delivered, dead or hidden events, nor with the backlog. (Nor does a fetch, by 4.4.)
pub async fn a_claim_reads_no_more_amid_many_events<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let round = async |h: &Arc<H>| {
        let fetching = fetch(h).await;
        [claim_and_settle(h).await, vec![fetching]].concat()
    };
    save_all(&h, &events(2 * LIMIT)).await;
    let costs = Costs::of(&["a claim", "a settlement", "a fetch"], async || round(&h).await).await;
    fill(&h, &events(MANY / 4)).await;
    settle_all(&h, BATCH, |lease| Settlement::dead_letter(lease, "failed")).await;
    put_aside(&h).await;
    fill(&h, &events(MANY)).await;
    costs.are_kept(&h, async || round(&h).await).await;
}

/// Saves so many events of a key that is busy for long.
async fn fill_a_busy_key<H: CostHarness>(h: &Arc<H>, count: usize)
where
    H::Store: ClaimStore,
{
    save(h, &keyed("busy", "first")).await;
    let first = claim(h, 1).await;
    assert_eq!(first.len(), 1);
    let renewed = h.store().renew(&[first[0].lease], Duration::from_hours(1)).await.expect("renew");
    renewed[0].as_ref().expect("it is held");
    let behind: Vec<Event> = (0..count).map(|index| keyed("busy", &index.to_string())).collect();
    fill(h, &behind).await;
}

/// Claims once past them.
async fn claim_past_a_busy_key<H: CostHarness>(h: &Arc<H>)
where
    H::Store: ClaimStore,
{
    save(h, &keyed("other", "other")).await;
    let others = claim_soon(h.store(), &of_a_worker(LIMIT)).await;
    delivered(h, &others).await;
}

/// 7.9: nor with the events of one key that is busy, once claims have put them aside.
pub async fn a_claim_reads_no_more_behind_a_busy_key<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(CLAIMS, async || save_claim_and_settle(&h).await).await;
    fill_a_busy_key(&h, MANY).await;
    claim_past_a_busy_key(&h).await;
    costs.are_kept(&h, async || save_claim_and_settle(&h).await).await;
}

/// 7.9: where that takes many claims, it does not cost each of them: the others are not to wait for it.
pub async fn a_claim_gets_past_very_many_events_of_a_busy_key_at_once<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(CLAIMS, async || save_claim_and_settle(&h).await).await;
    fill_a_busy_key(&h, 5 * MANY).await;
    claim_past_a_busy_key(&h).await;
    costs.are_kept_within(A_FEW, &h, async || save_claim_and_settle(&h).await).await;
}

/// 7.9: nor does one that finds nothing behind them, whether or not there has been something.
pub async fn a_claim_in_vain_gets_past_very_many_events_of_a_busy_key_at_once<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(IN_VAIN, async || claim_in_vain(&h).await).await;
    fill_a_busy_key(&h, 5 * MANY).await;
    costs.are_kept_within(A_FEW, &h, async || claim_in_vain(&h).await).await;
    claim_past_a_busy_key(&h).await;
    costs.are_kept_within(A_FEW, &h, async || claim_in_vain(&h).await).await;
}

/// 7.9: nor with how many keys wait for a retry, whether the claim finds something or not.
pub async fn a_claim_reads_no_more_beside_many_keys_that_wait<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(CLAIMS, async || save_claim_and_settle(&h).await).await;
    let costs_in_vain = Costs::of(IN_VAIN, async || claim_in_vain(&h).await).await;
    let waiting: Vec<Event> = (0..MANY).map(|index| keyed(&format!("waiting {index}"), "event")).collect();
    fill(&h, &waiting).await;
    settle_all(&h, BATCH, |lease| Settlement::retry(lease, Duration::from_hours(1), "failed")).await;
    costs.are_kept(&h, async || save_claim_and_settle(&h).await).await;
    costs_in_vain.are_kept(&h, async || claim_in_vain(&h).await).await;
}

/// 7.9 and 8.1: nor with how many keys are held by a dead letter, and what waits behind it.
pub async fn a_claim_reads_no_more_beside_many_held_keys<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(CLAIMS, async || save_claim_and_settle(&h).await).await;
    let keys: Vec<String> = (0..MANY / 2).map(|index| format!("held {index}")).collect();
    fill(&h, &keys.iter().map(|key| keyed(key, "first")).collect::<Vec<_>>()).await;
    settle_all(&h, BATCH, |lease| Settlement::dead_letter_holding_key(lease, "failed")).await;
    fill(&h, &keys.iter().map(|key| keyed(key, "second")).collect::<Vec<_>>()).await;
    costs.are_kept(&h, async || save_claim_and_settle(&h).await).await;
}

/// 7.9: nor after many keys have waited, once nothing does.
pub async fn a_claim_reads_no_more_after_many_keys_have_waited<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    reads_no_more_after_many_keys_have_waited(&h, of_a_worker).await;
}

/// 7.9: nor where all claims are of some types.
pub async fn a_claim_of_some_types_reads_no_more_after_many_keys_have_waited<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let of_types = |limit| of_a_worker(limit).with_types([KEYED, "suite.other"]);
    reads_no_more_after_many_keys_have_waited(&h, of_types).await;
}

/// By claims of so many events.
async fn reads_no_more_after_many_keys_have_waited<H: CostHarness>(h: &Arc<H>, of: impl Fn(usize) -> Claim)
where
    H::Store: ClaimStore,
{
    let costs = Costs::of(CLAIMS, async || save_claim_and_settle_of(h, &of(LIMIT)).await).await;
    for what in ["first", "second"] {
        let of_each: Vec<Event> = (0..MANY / 4).map(|index| keyed(&format!("key {index}"), what)).collect();
        fill(h, &of_each).await;
    }
    settle_all_of(h.store(), &of(BATCH), |lease| Settlement::retry(lease, LEASE, "failed")).await;
    h.advance(LEASE * 2).await;
    let all = settle_all_of(h.store(), &of(BATCH), Settlement::delivered).await;
    assert_eq!(all.len(), MANY / 2, "everything was due");
    costs.are_kept(h, async || save_claim_and_settle_of(h, &of(LIMIT)).await).await;
}

/// 7.9: nor with the backlog, where keys in front of it are busy.
pub async fn a_claim_reads_no_more_of_a_backlog_beside_a_busy_key<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let busy: Vec<Event> = (0..4).map(|index| keyed("busy", &index.to_string())).collect();
    save_all(&h, &busy).await;
    let first = claim(&h, 1).await;
    let renewed = h.store().renew(&[first[0].lease], Duration::from_hours(1)).await.expect("renew");
    renewed[0].as_ref().expect("it is held");
    fill(&h, &events(20 * LIMIT)).await;
    let costs = Costs::of(CLAIMS, async || claim_and_settle(&h).await).await;
    fill(&h, &events(MANY)).await;
    costs.are_kept(&h, async || claim_and_settle(&h).await).await;
}

/// 7.9: nor with how many events each of the keys has that have waited and are due.
pub async fn a_claim_reads_no_more_of_keys_that_have_more_than_it_takes<H: CostHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const KEYS: usize = 100;
    let of_each = |count: usize| -> Vec<Event> {
        (0..count * KEYS).map(|index| keyed(&format!("key {}", index % KEYS), "event")).collect()
    };
    // While each of them waits for its first, and claims put aside what comes behind.
    let grow = async |count: usize| {
        let leased = claim(&h, KEYS).await;
        assert_eq!(leased.len(), KEYS);
        settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, LEASE, "failed"))).await;
        fill(&h, &of_each(count)).await;
        assert!(claim(&h, KEYS).await.is_empty(), "all keys wait");
        h.advance(LEASE * 2).await;
    };
    save_all(&h, &of_each(1)).await;
    grow(9).await;
    let round = async || {
        let (leased, reads) = counted(&h, claim(&h, KEYS)).await;
        assert_eq!(leased.len(), KEYS);
        settled(&h, leased.iter().map(|one| Settlement::released(one.lease))).await;
        vec![reads]
    };
    let costs = Costs::of(&["a claim"], round).await;
    grow(50).await;
    costs.are_kept(&h, round).await;
}

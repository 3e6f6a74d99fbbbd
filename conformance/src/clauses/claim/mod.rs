//! Section 7: claim, renew, settle, and what of section 8 comes of settlements.

mod filter;
mod held;
mod history;
mod keys;
mod lease;
mod order;
mod settle;
mod types;
mod waited;

use std::{sync::Arc, time::Duration};

use outbox_traits::{Claim, ClaimStore, ErrorKind, Event, EventId, Lease, Leased, Result, Settlement};
use serde_json::json;

use crate::{
    Harness,
    support::{again_after_conflicts, ids, save_all},
};

pub use self::{filter::*, held::*, history::*, keys::*, lease::*, order::*, settle::*, types::*, waited::*};

/// How long leases last here, unless a clause says otherwise.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// The type of [`keyed`] events.
pub(crate) const KEYED: &str = "suite.happened";

pub(crate) fn keyed(key: &str, name: &str) -> Event {
    Event::new(KEYED, json!({ "name": name })).expect("valid").with_partition_key(key)
}

/// Events of one key, numbered.
fn of_key(key: &str, count: usize) -> Vec<Event> {
    (0..count).map(|index| keyed(key, &format!("{key} {index}"))).collect()
}

pub(crate) async fn claim<H: Harness>(h: &Arc<H>, limit: usize) -> Vec<Leased>
where
    H::Store: ClaimStore,
{
    claim_by(h.store(), limit).await
}

/// By any handle.
pub(crate) async fn claim_by<S: ClaimStore>(store: &S, limit: usize) -> Vec<Leased> {
    claim_as(store, &of_a_worker(limit)).await
}

pub(crate) fn of_a_worker(limit: usize) -> Claim {
    Claim::new("a worker").with_limit(limit).with_lease(LEASE)
}

pub(crate) async fn claim_as<S: ClaimStore>(store: &S, request: &Claim) -> Vec<Leased> {
    again_after_conflicts(|| store.claim(request)).await
}

/// What comes after the key of a lease that has only just begun may be left to later claims: claims until there is something, or
/// for two seconds.
pub(crate) async fn claim_soon<S: ClaimStore>(store: &S, request: &Claim) -> Vec<Leased> {
    for _ in 0..40 {
        let leased = claim_as(store, request).await;
        if !leased.is_empty() {
            return leased;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Vec::new()
}

/// Events of as many keys, saved and leased.
pub(crate) async fn leased<H: Harness>(h: &Arc<H>, count: usize) -> Vec<Leased>
where
    H::Store: ClaimStore,
{
    let batch: Vec<Event> = (0..count).map(|index| keyed(&format!("key {index}"), "leased")).collect();
    save_all(h, &batch).await;
    let leased = claim(h, count).await;
    assert_eq!(leased_ids(&leased), ids(&batch), "nothing else can be claimed");
    leased
}

pub(crate) async fn settle<H: Harness>(h: &Arc<H>, settlements: &[Settlement]) -> Vec<Result<()>>
where
    H::Store: ClaimStore,
{
    settle_by(h.store(), settlements).await
}

/// By any handle.
pub(crate) async fn settle_by<S: ClaimStore>(store: &S, settlements: &[Settlement]) -> Vec<Result<()>> {
    let answers = again_after_conflicts(|| store.settle(settlements)).await;
    assert_eq!(answers.len(), settlements.len(), "an answer for each");
    answers
}

/// Settles, and expects that all of it takes.
pub(crate) async fn settled<H: Harness>(h: &Arc<H>, settlements: impl IntoIterator<Item = Settlement>)
where
    H::Store: ClaimStore,
{
    settled_by(h.store(), settlements).await;
}

/// By any handle.
async fn settled_by<S: ClaimStore>(store: &S, settlements: impl IntoIterator<Item = Settlement>) {
    let settlements: Vec<Settlement> = settlements.into_iter().collect();
    for (answer, settlement) in settle_by(store, &settlements).await.into_iter().zip(&settlements) {
        answer.unwrap_or_else(|error| panic!("{settlement:?} did not take: {error}"));
    }
}

pub(crate) async fn delivered<H: Harness>(h: &Arc<H>, leased: &[Leased])
where
    H::Store: ClaimStore,
{
    delivered_by(h.store(), leased).await;
}

/// By any handle.
pub(crate) async fn delivered_by<S: ClaimStore>(store: &S, leased: &[Leased]) {
    settled_by(store, leased.iter().map(|leased| Settlement::delivered(leased.lease))).await;
}

/// Claims and settles, so many at a time, until nothing is left to claim. Returns the events as they came.
pub(crate) async fn settle_all<H: Harness>(
    h: &Arc<H>,
    at_a_time: usize,
    settlement: impl Fn(Lease) -> Settlement,
) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    leased_ids(&settle_all_by(h.store(), at_a_time, settlement).await)
}

/// By any handle. Returns them as they were leased.
pub(crate) async fn settle_all_by<S: ClaimStore>(
    store: &S,
    at_a_time: usize,
    settlement: impl Fn(Lease) -> Settlement,
) -> Vec<Leased> {
    settle_all_of(store, &of_a_worker(at_a_time), settlement).await
}

/// All that such claims lease.
pub(crate) async fn settle_all_of<S: ClaimStore>(
    store: &S,
    request: &Claim,
    settlement: impl Fn(Lease) -> Settlement,
) -> Vec<Leased> {
    let mut all = Vec::new();
    loop {
        let leased = claim_as(store, request).await;
        if leased.is_empty() {
            return all;
        }
        settled_by(store, leased.iter().map(|leased| settlement(leased.lease))).await;
        all.extend(leased);
    }
}

/// Claims and delivers, so many at a time, until nothing is left to claim.
pub(crate) async fn drained<H: Harness>(h: &Arc<H>, at_a_time: usize) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    settle_all(h, at_a_time, Settlement::delivered).await
}

/// One claim may take several events of a key, and need not (7.3): these are the first of those, and one at least.
#[track_caller]
pub(crate) fn assert_first_of(leased: &[Leased], all: &[EventId]) {
    let leased = leased_ids(leased);
    assert!(
        !leased.is_empty() && all.starts_with(&leased),
        "{leased:?} are leased, and not the first of {all:?}"
    );
}

/// Claims these events of one key, which are the first that are due, all at once. `None` where the store takes one at a time, as it
/// may (7.3), so that several of a key are never leased: those it took are given back.
async fn several<H: Harness>(h: &Arc<H>, all: &[Event]) -> Option<Vec<Leased>>
where
    H::Store: ClaimStore,
{
    let leased = claim(h, all.len()).await;
    assert_first_of(&leased, &ids(all));
    if leased.len() < all.len() {
        settled(h, leased.iter().map(|leased| Settlement::released(leased.lease))).await;
        return None;
    }
    Some(leased)
}

/// That each of these keys has all of its events among those that came, in order.
#[track_caller]
fn assert_in_order(came: &[EventId], keys: &[&[Event]]) {
    for key in keys.iter().map(|key| ids(key)) {
        let of_key: Vec<EventId> = came.iter().copied().filter(|id| key.contains(id)).collect();
        assert_eq!(of_key, key, "the order of a key is lost");
    }
    assert_eq!(came.len(), keys.iter().map(|key| key.len()).sum::<usize>(), "each comes once");
}

pub(crate) fn leased_ids(leased: &[Leased]) -> Vec<EventId> {
    leased.iter().map(|leased| leased.event.id()).collect()
}

#[track_caller]
pub(crate) fn assert_lost(answer: &Result<()>, lease: &Lease) {
    let Err(error) = answer else { panic!("a lease that is lost was taken: {lease:?}") };
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert_eq!(error.event(), Some(lease.event()), "the error names the event");
}

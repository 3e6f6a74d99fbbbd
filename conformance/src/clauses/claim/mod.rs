//! Section 7: claim, renew, settle, and what of section 8 comes of settlements.

mod filter;
mod held;
mod history;
mod keys;
mod lease;
mod order;
mod settle;
mod types;

use std::{sync::Arc, time::Duration};

use outbox_traits::{Claim, ClaimStore, ErrorKind, Event, EventId, Lease, Leased, Result, Settlement};
use serde_json::json;

use crate::{
    Harness,
    support::{again_after_conflicts, ids, save_all},
};

pub use self::{filter::*, held::*, history::*, keys::*, lease::*, order::*, settle::*, types::*};

/// How long leases last here, unless a clause says otherwise.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn keyed(key: &str, name: &str) -> Event {
    Event::new("suite.happened", json!({ "name": name })).expect("valid").with_partition_key(key)
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
    let claim = Claim::new("a worker").with_limit(limit).with_lease(LEASE);
    again_after_conflicts(|| store.claim(&claim)).await
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
    let mut all = Vec::new();
    loop {
        let leased = claim(h, at_a_time).await;
        if leased.is_empty() {
            return all;
        }
        settled(h, leased.iter().map(|leased| settlement(leased.lease))).await;
        all.extend(leased_ids(&leased));
    }
}

/// Claims and delivers, so many at a time, until nothing is left to claim.
async fn drained<H: Harness>(h: &Arc<H>, at_a_time: usize) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    settle_all(h, at_a_time, Settlement::delivered).await
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

//! Costs: what the engine reads for a call does not grow with events that the call is not about (4.4, 6.3).
//!
//! The engine counts; no time is taken. Each call is counted in an outbox that has little else, and again where there is
//! much that is none of its business.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{Event, EventId, OutboxStore};

use crate::{
    CostHarness,
    support::{acknowledge_all, events, ids, kept, save_all},
};

/// Of events that a call is not about. What is read for one in twenty of them is noticed.
pub(super) const MANY: usize = 4000;
/// What a call asks for.
pub(super) const LIMIT: usize = 10;
/// Events that one call saves, claims or acknowledges here, so that none is too large for an engine.
pub(super) const BATCH: usize = 500;
/// How often a call is counted where it reads too much, because the engine may still be busy with what was before.
const TRIES: usize = 40;

/// What the engine reads for a call.
pub(super) async fn counted<H: CostHarness, T>(h: &Arc<H>, call: impl Future<Output = T>) -> (T, u64) {
    let before = h.reads().await;
    let result = call.await;
    (result, h.reads().await.saturating_sub(before))
}

/// Counts rounds, each of the calls of `what`, with little and later with much in the outbox.
pub(super) struct Costs {
    what: &'static [&'static str],
    little: Vec<u64>,
}

impl Costs {
    /// With little in the outbox. The first round may have more to do than those that follow.
    pub(super) async fn of<F: Future<Output = Vec<u64>>>(
        what: &'static [&'static str],
        mut round: impl FnMut() -> F,
    ) -> Self {
        let (first, second) = (round().await, round().await);
        Self { what, little: first.into_iter().zip(second).map(|(one, other)| one.max(other)).collect() }
    }

    /// With much. What one round puts aside, or the engine cleans up, is not there in the next.
    pub(super) async fn are_kept<H: CostHarness, F: Future<Output = Vec<u64>>>(
        &self,
        h: &Arc<H>,
        round: impl FnMut() -> F,
    ) {
        self.are_kept_within(TRIES, h, round).await;
    }

    /// With much, in one of so many rounds.
    pub(super) async fn are_kept_within<H: CostHarness, F: Future<Output = Vec<u64>>>(
        &self,
        tries: usize,
        h: &Arc<H>,
        mut round: impl FnMut() -> F,
    ) {
        let allowed = |little: &u64| 3 * little + (MANY / 20) as u64;
        let mut much = Vec::new();
        for _ in 0..tries {
            h.rest().await;
            much = round().await;
            if much.iter().zip(&self.little).all(|(much, little)| *much <= allowed(little)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        for ((what, much), little) in self.what.iter().zip(&much).zip(&self.little) {
            assert!(
                *much <= allowed(little),
                "{what} reads {much} where there are {MANY} events or more that it is not about, and {little} where there are none"
            );
        }
    }
}

/// Saves events in batches.
pub(super) async fn fill<H: CostHarness>(h: &Arc<H>, all: &[Event]) {
    for batch in all.chunks(BATCH) {
        save_all(h, batch).await;
    }
}

/// Puts events into the outbox that come before others and are none of their business: delivered and hidden ones.
pub(super) async fn put_aside<H: CostHarness>(h: &Arc<H>) {
    let done = events(MANY);
    fill(h, &done).await;
    for batch in ids(&done).chunks(BATCH) {
        acknowledge_all(h, batch).await;
    }
    let later = h.now().await + TimeDelta::hours(1);
    let hidden: Vec<Event> = events(MANY).into_iter().map(|event| event.with_not_before(later)).collect();
    fill(h, &hidden).await;
}

/// Fetches a few events, which must be there, and counts that.
pub(super) async fn fetch<H: CostHarness>(h: &Arc<H>) -> u64 {
    let (fetched, reads) = counted(h, h.store().get_pending(LIMIT)).await;
    assert_eq!(fetched.expect("get_pending").len(), LIMIT);
    reads
}

/// 4.4: what a fetch reads does not grow with delivered or hidden events, nor with the backlog.
pub async fn a_fetch_reads_no_more_amid_many_events<H: CostHarness>(h: Arc<H>) {
    let round = async || vec![fetch(&h).await];
    let few = events(LIMIT);
    save_all(&h, &few).await;
    let costs = Costs::of(&["a fetch"], round).await;
    acknowledge_all(&h, &ids(&few)).await;
    put_aside(&h).await;
    fill(&h, &events(MANY)).await;
    costs.are_kept(&h, round).await;
}

/// 4.4: what a save and an acknowledgement read does not grow with what else the outbox has.
pub async fn a_save_and_an_acknowledgement_read_no_more_amid_many_events<H: CostHarness>(h: Arc<H>) {
    let round = async || {
        let new = |event: Event| event.with_idempotency_key(EventId::new().to_string());
        let few: Vec<Event> = events(LIMIT).into_iter().map(new).collect();
        let ((), saving) = counted(&h, save_all(&h, &few)).await;
        let ids = ids(&few);
        let ((), acknowledging) = counted(&h, acknowledge_all(&h, &ids)).await;
        vec![saving, acknowledging]
    };
    let costs = Costs::of(&["a save", "an acknowledgement"], round).await;
    put_aside(&h).await;
    fill(&h, &events(MANY)).await;
    costs.are_kept(&h, round).await;
}

/// 6.3: what a purge reads does not grow with what is too young for it, or not delivered.
pub async fn a_purge_reads_no_more_than_it_deletes<H: CostHarness>(h: Arc<H>) {
    let age = Duration::from_hours(2);
    let round = async || {
        let (purged, reads) = counted(&h, h.store().purge(age)).await;
        (purged.expect("purge"), reads)
    };
    let few = events(LIMIT);
    save_all(&h, &few).await;
    acknowledge_all(&h, &ids(&few)).await;
    h.advance(age).await;
    let (purged, little) = round().await;
    assert_eq!(purged, kept(&h, LIMIT as u64));
    let costs = Costs { what: &["a purge"], little: vec![little] };
    put_aside(&h).await;
    fill(&h, &events(MANY)).await;
    costs
        .are_kept(&h, async || {
            let (purged, reads) = round().await;
            assert_eq!(purged, 0);
            vec![reads]
        })
        .await;
}

//! The one who purges, counts, looks, and deals with what is dead.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use anyhow::{Context as _, Result};
use outbox_traits::{DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, StatsStore};

use crate::{
    engine::Engine,
    history::{Answer, Call},
    shared::Part,
};

/// So many pending events are enough.
const FULL: usize = 600;
/// More than any stress leaves.
const ALL: usize = 1_000_000;

impl<E: Engine> Part<E> {
    pub(crate) async fn keep(mut self) {
        while !self.shared.is_stopped() {
            self.pause(20, 250).await;
            match self.rng.u32(0..6) {
                0 => self.purge().await,
                1 => self.one_dead().await,
                2 => self.all_dead().await,
                3 => {
                    let op = self.shared.record.begin(Call::Stats);
                    let stats = self.engine.store().stats().await;
                    self.shared.record.end_of(op, stats, |_| Answer::Done);
                }
                _ => {
                    let pending = self.pending().await;
                    self.shared.is_full.store(pending.len() >= FULL, Relaxed);
                }
            }
        }
    }

    async fn purge(&mut self) {
        let age = if self.rng.bool() { Duration::ZERO } else { self.millis(0, 2000) };
        let op = self.shared.record.begin(Call::Purge);
        let purged = self.engine.store().purge(age).await;
        self.shared.record.end_of(op, purged, |count| Answer::Changed(*count));
    }

    async fn one_dead(&mut self) {
        let dead = self.dead().await.unwrap_or_default();
        if dead.is_empty() {
            return;
        }
        let event = dead[self.rng.usize(..dead.len())];
        let (op, changed) = if self.rng.bool() {
            let op = self.shared.record.begin(Call::Requeue { event: Some(event) });
            (op, self.engine.store().requeue(event).await)
        } else {
            let op = self.shared.record.begin(Call::Discard { event });
            (op, self.engine.store().discard(event).await)
        };
        self.shared.record.end_of(op, changed, |changed| Answer::Changed(u64::from(*changed)));
    }

    async fn all_dead(&mut self) {
        let op = self.shared.record.begin(Call::Requeue { event: None });
        let changed = self.engine.store().requeue_all(&DeadLetterFilter::new()).await;
        self.shared.record.end_of(op, changed, |count| Answer::Changed(*count));
    }

    /// Lets go on what waits for dead letters, where nobody else does any more.
    pub(crate) async fn requeue_what_holds(&mut self) {
        for letter in self.letters().await.unwrap_or_default() {
            if letter.holds_key {
                let op = self.shared.record.begin(Call::Requeue { event: Some(letter.id) });
                let changed = self.engine.store().requeue(letter.id).await;
                self.shared.record.end_of(op, changed, |changed| Answer::Changed(u64::from(*changed)));
            }
        }
    }

    pub(crate) async fn pending(&mut self) -> Vec<EventId> {
        let op = self.shared.record.begin(Call::Pending);
        let pending = self.engine.store().get_pending(FULL).await;
        let ids = |events: &Vec<Event>| events.iter().map(Event::id).collect::<Vec<_>>();
        let events = self.shared.record.end_of(op, pending, |events| Answer::Pending(ids(events)));
        events.as_ref().map(ids).unwrap_or_default()
    }

    async fn dead(&mut self) -> outbox_traits::Result<Vec<EventId>> {
        Ok(self.letters().await?.iter().map(|letter| letter.id).collect())
    }

    /// All of them.
    async fn letters(&mut self) -> outbox_traits::Result<Vec<DeadLetter>> {
        let (mut filter, mut all) = (DeadLetterFilter::new(), Vec::new());
        loop {
            let page = self.engine.store().dead_letters(&filter).await?;
            all.extend(page.letters);
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Writes down the state in the end, when nobody does anything any more.
    pub(crate) async fn look(&mut self) -> Result<()> {
        let op = self.shared.record.begin(Call::Look);
        let rows = self.engine.rows().await.context("cannot read the rows")?;
        let dead = self.dead().await.context("cannot read the dead letters")?;
        let pending = self.engine.store().get_pending(ALL).await?;
        let pending = pending.iter().map(Event::id).collect();
        self.shared.record.end(op, Answer::State { rows, dead, pending });
        Ok(())
    }
}

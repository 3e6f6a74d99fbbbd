//! The loop of a relay.

use std::{collections::HashSet, mem};

use outbox_traits::{Event, EventId, PublishErrorKind, Result};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Relay, Report,
    lanes::{Lane, Lanes},
    publish::{Answers, publish},
    retry::Backoff,
};

/// A fetch grows by what waits in front of the rest, up to so many batches.
const MAX_FETCHED_BATCHES: usize = 10;

pub(crate) struct Worker<'a> {
    relay: &'a Relay,
    pub(crate) report: Report,
    lanes: Lanes,
    transport_backoff: Backoff,
    store_backoff: Backoff,
    /// Accepted, and the store does not know it yet: it is told before anything else is published.
    unacknowledged: Vec<EventId>,
    /// How many events of waiting lanes the last fetch met.
    waiting: usize,
}

/// What a pass came to.
enum Pass {
    /// Something was published or tried.
    Worked,
    /// Nothing is pending but what waits.
    Idle,
    /// The transport is down.
    Unavailable,
}

impl<'a> Worker<'a> {
    /// A worker that tries again what failed.
    pub(crate) fn new(relay: &'a Relay) -> Self {
        Self {
            relay,
            report: Report::default(),
            lanes: Lanes::new(Some(relay.retry)),
            transport_backoff: relay.retry.start(),
            store_backoff: relay.retry.start(),
            unacknowledged: Vec::new(),
            waiting: 0,
        }
    }

    /// A worker that tries everything once.
    pub(crate) fn once(relay: &'a Relay) -> Self {
        Self { lanes: Lanes::new(None), ..Self::new(relay) }
    }

    pub(crate) async fn run(&mut self, shutdown: &CancellationToken) -> Result<()> {
        while !(shutdown.is_cancelled() && self.unacknowledged.is_empty()) {
            let until = match self.pass(shutdown).await {
                Ok(Pass::Worked) => None,
                Ok(Pass::Idle) => {
                    let now = Instant::now();
                    let next_poll = now + self.relay.poll_interval;
                    Some(self.lanes.next_retry(now).map_or(next_poll, |retry| retry.min(next_poll)))
                }
                Ok(Pass::Unavailable) => Some(Instant::now() + self.transport_backoff.next()),
                Err(error) if error.is_retryable() => {
                    self.report.store_failed(&error);
                    Some(Instant::now() + self.store_backoff.next())
                }
                Err(error) => return Err(error),
            };
            match until {
                // With a store and a transport that never wait, others would never have a turn.
                None => tokio::task::yield_now().await,
                // The grace period is there to acknowledge what was accepted, and not to do so in a busy loop.
                Some(until) if !self.unacknowledged.is_empty() => sleep_until(until).await,
                Some(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn drain(&mut self) -> Result<()> {
        let never = CancellationToken::new();
        while matches!(self.pass(&never).await?, Pass::Worked) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Fetches a batch, publishes it and acknowledges what was accepted.
    async fn pass(&mut self, shutdown: &CancellationToken) -> Result<Pass> {
        if !self.unacknowledged.is_empty() {
            self.acknowledge().await?;
            return Ok(Pass::Worked);
        }
        let events = self.fetch().await?;
        if events.is_empty() {
            return Ok(Pass::Idle);
        }
        for batch in self.split(events) {
            if shutdown.is_cancelled() {
                break;
            }
            let answers = publish(&*self.relay.transport, &batch).await;
            let is_unavailable = self.settle(&batch, answers);
            self.acknowledge().await?;
            if is_unavailable {
                return Ok(Pass::Unavailable);
            }
        }
        Ok(Pass::Worked)
    }

    /// At most one batch of events that do not wait.
    async fn fetch(&mut self) -> Result<Vec<Event>> {
        let batch_size = self.relay.batch_size;
        let most = batch_size.saturating_mul(MAX_FETCHED_BATCHES);
        loop {
            let limit = batch_size.saturating_add(self.waiting).min(most);
            let mut events = self.relay.store.get_pending(limit).await?;
            self.store_backoff.reset();
            let fetched = events.len();
            if fetched < limit {
                self.lanes.keep_only(&events);
            }
            let now = Instant::now();
            events.retain(|event| !self.lanes.is_waiting(&Lane::of(event), now));
            self.waiting = fetched - events.len();
            if !events.is_empty() || fetched < limit || limit == most {
                events.truncate(batch_size);
                return Ok(events);
            }
        }
    }

    /// One batch, and the first event of each suspect lane by itself.
    fn split(&self, events: Vec<Event>) -> Vec<Vec<Event>> {
        let mut together = Vec::new();
        let mut alone = Vec::new();
        let mut suspects = HashSet::new();
        for event in events {
            let lane = Lane::of(&event);
            if !self.lanes.is_suspect(&lane) {
                together.push(event);
            } else if suspects.insert(lane) {
                alone.push(vec![event]);
            }
        }
        if !together.is_empty() {
            alone.insert(0, together);
        }
        alone
    }

    /// Takes note of the answers; true if the transport as a whole is down.
    fn settle(&mut self, events: &[Event], answers: Answers) -> bool {
        let now = Instant::now();
        let mut failures = Vec::new();
        for (event, result) in events.iter().zip(answers.results) {
            match result {
                Ok(()) => {
                    self.report.published += 1;
                    self.unacknowledged.push(event.id());
                    self.lanes.accepted(&Lane::of(event));
                }
                Err(error) => failures.push((event, error)),
            }
        }
        if !self.unacknowledged.is_empty() {
            self.transport_backoff.reset();
        }
        let attempted =
            || failures.iter().filter(|(_, error)| error.kind() != PublishErrorKind::NotAttempted);
        self.report.failed += attempted().count() as u64;
        if let Some((event, error)) = attempted().next().or(failures.first()) {
            let (id, failed, all) = (event.id(), failures.len(), events.len());
            tracing::warn!(%error, event = %id, "{failed} of {all} events were not accepted");
            self.report.last_error = Some(format!("{error} (event {id})"));
        }
        let is_unavailable = failures.iter().any(|(_, error)| error.kind() == PublishErrorKind::Unavailable);
        let mut lanes = HashSet::new();
        for (event, error) in &failures {
            // Where the transport is down, what was not tried is not to blame.
            let is_to_blame = match error.kind() {
                PublishErrorKind::Unavailable => false,
                PublishErrorKind::NotAttempted => !is_unavailable,
                _ => true,
            };
            let lane = Lane::of(event);
            // One failure a batch: what came behind it in its lane is no second one.
            if (is_to_blame || answers.has_panicked) && lanes.insert(lane.clone()) {
                self.lanes.failed(lane, now, answers.has_panicked);
            }
        }
        is_unavailable
    }

    async fn acknowledge(&mut self) -> Result<()> {
        if !self.unacknowledged.is_empty() {
            self.relay.store.acknowledge_all(&self.unacknowledged).await?;
            self.store_backoff.reset();
            mem::take(&mut self.unacknowledged);
        }
        Ok(())
    }
}

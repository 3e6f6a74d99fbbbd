//! The loop of a relay that is the only one on its store.

use std::{collections::HashSet, mem, time::Duration};

use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Result};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Relay, SingleWorker,
    blame::Blame,
    guard::{self, in_time},
    health::Question,
    lanes::{Lane, Lanes},
    publish::{Answers, Ending, asks_for, publish},
    record::Record,
    retry::Backoff,
    wake::Idle,
};

/// A fetch grows by what waits in front of the rest, up to so many batches.
const MAX_FETCHED_BATCHES: usize = 10;

/// A call of the store that takes longer counts as failed: its connection may be half open.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Worker<'a> {
    relay: &'a Relay<SingleWorker>,
    record: &'a Record,
    lanes: Lanes,
    blame: Blame,
    /// The transport was down, and has accepted nothing since.
    is_in_doubt: bool,
    idle: Idle,
    transport_backoff: Backoff,
    store_backoff: Backoff,
    /// Accepted, and the store does not know it yet: it is told before anything else is published.
    unacknowledged: Vec<EventId>,
    /// How many events of waiting lanes the last fetch met.
    waiting: usize,
    /// The transport asked to be left alone for so long, and is so when what was accepted is acknowledged.
    unavailable: Option<Duration>,
}

/// What a pass came to.
enum Pass {
    /// Something was published or tried.
    Worked,
    /// Nothing is pending but what waits.
    Idle,
    /// The transport is down, and asks to be left alone for so long.
    Unavailable(Duration),
    /// Something failed that is not to fail.
    Stopped,
}

impl<'a> Worker<'a> {
    /// A worker that tries again what failed.
    pub(crate) fn new(relay: &'a Relay<SingleWorker>, record: &'a Record) -> Self {
        let retry = relay.way.retry;
        Self {
            relay,
            record,
            lanes: Lanes::new(Some(retry)),
            blame: Blame::default(),
            is_in_doubt: false,
            idle: Idle::of(&relay.common, relay.way.longest_poll),
            transport_backoff: retry.start(),
            store_backoff: retry.start(),
            unacknowledged: Vec::new(),
            waiting: 0,
            unavailable: None,
        }
    }

    /// A worker that tries everything once.
    pub(crate) fn once(relay: &'a Relay<SingleWorker>, record: &'a Record) -> Self {
        Self { lanes: Lanes::new(None), ..Self::new(relay, record) }
    }

    pub(crate) async fn run(&mut self, shutdown: &CancellationToken, woken: &Notify) -> Result<()> {
        let mut is_stopping = false;
        while !(shutdown.is_cancelled() && self.unacknowledged.is_empty()) {
            if shutdown.is_cancelled() && !is_stopping {
                is_stopping = true;
                // There may be less time than the store was to be left alone for.
                self.store_backoff.reset();
            }
            let mut can_be_woken = false;
            let until = match self.pass(shutdown).await {
                Ok(Pass::Worked) => {
                    self.idle.reset();
                    None
                }
                Ok(Pass::Stopped) => return Ok(()),
                Ok(Pass::Idle) => {
                    can_be_woken = true;
                    let now = Instant::now();
                    let next_poll = now + self.idle.next();
                    Some(self.lanes.next_retry(now).map_or(next_poll, |retry| retry.min(next_poll)))
                }
                Ok(Pass::Unavailable(asked_for)) => {
                    let until = Instant::now() + self.transport_backoff.next().max(asked_for);
                    self.record.paused(until);
                    Some(until)
                }
                Err(error) if error.is_retryable() => {
                    self.record.store_failed(error);
                    Some(Instant::now() + self.store_backoff.next())
                }
                Err(error) => return Err(error),
            };
            self.record.asks_store_at(until);
            match until {
                // With a store and a transport that never wait, others would never have a turn.
                None => tokio::task::yield_now().await,
                Some(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = woken.notified(), if can_be_woken => {}
                        // The grace period is there to acknowledge what was accepted, and not to do so in a busy loop.
                        () = shutdown.cancelled(), if !is_stopping || self.unacknowledged.is_empty() => {}
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
            return Ok(self.unavailable.take().map_or(Pass::Worked, Pass::Unavailable));
        }
        let events = self.fetch().await?;
        if events.is_empty() {
            return Ok(Pass::Idle);
        }
        for batch in self.split(events) {
            if shutdown.is_cancelled() {
                break;
            }
            let common = &self.relay.common;
            // Nobody cuts it off: there is no lease that ends, and the end of the grace period drops the whole loop.
            let never = CancellationToken::new();
            let answers = publish(common, self.record, &batch, shutdown, &never).await;
            let has_failed = answers.results.iter().any(Result::is_err);
            self.unavailable = self.settle(&batch, answers);
            self.acknowledge().await?;
            if has_failed && common.is_strict {
                self.record.stopped_at(batch[0].id());
                return Ok(Pass::Stopped);
            }
            if let Some(asked_for) = self.unavailable.take() {
                return Ok(Pass::Unavailable(asked_for));
            }
        }
        Ok(Pass::Worked)
    }

    /// At most one batch of events that do not wait.
    async fn fetch(&mut self) -> Result<Vec<Event>> {
        let batch_size = self.relay.common.batch_size;
        let most = batch_size.saturating_mul(MAX_FETCHED_BATCHES);
        loop {
            let limit = batch_size.saturating_add(self.waiting).min(most);
            self.record.asks_store(Question::Events);
            let mut events =
                in_time(STORE_TIMEOUT, async { self.relay.way.store.get_pending(limit).await }).await?;
            self.store_backoff.reset();
            let fetched = events.len();
            self.record.store_answered(Question::Events);
            if fetched < limit {
                self.lanes.keep_only(&events);
            }
            let now = Instant::now();
            events.retain(|event| !self.lanes.is_waiting(&Lane::of(event), now));
            let accused = self.leave_out(&mut events);
            self.waiting = fetched - events.len();
            if !events.is_empty() || fetched < limit || limit == most {
                // Where there is nothing else, they have to do.
                let mut events = if events.is_empty() { accused } else { events };
                events.truncate(batch_size);
                return Ok(events);
            }
        }
    }

    /// Takes the lanes out of which one may be to blame, while it is in doubt whether the transport works.
    fn leave_out(&self, events: &mut Vec<Event>) -> Vec<Event> {
        if !self.is_in_doubt {
            return Vec::new();
        }
        let lanes = self.accused_lanes(events);
        events.extract_if(.., |event| lanes.contains(&Lane::of(event))).collect()
    }

    fn accused_lanes(&self, events: &[Event]) -> HashSet<Lane> {
        events.iter().filter(|event| self.blame.is_accused(event.id())).map(Lane::of).collect()
    }

    /// One batch, and the first event of each lane that failed or is accused by itself.
    fn split(&self, events: Vec<Event>) -> Vec<Vec<Event>> {
        if self.relay.common.is_strict {
            return events.into_iter().map(|event| vec![event]).collect();
        }
        let mut together = Vec::new();
        let mut alone = Vec::new();
        let mut heads = HashSet::new();
        let accused = self.accused_lanes(&events);
        for event in events {
            let lane = Lane::of(&event);
            if !self.lanes.has_failed(&lane) && !accused.contains(&lane) {
                together.push(event);
            } else if heads.insert(lane) {
                alone.push(vec![event]);
            }
        }
        alone.sort_by_key(|batch| self.blame.calls(batch[0].id()));
        if !together.is_empty() {
            alone.insert(0, together);
        }
        alone
    }

    /// Takes note of the answers; if the transport as a whole is down, for how long it asks to be left alone.
    fn settle(&mut self, events: &[Event], mut answers: Answers) -> Option<Duration> {
        let now = Instant::now();
        self.blame.answered(events, &mut answers.results);
        let is_broken = answers.ending == Ending::Broken;
        let mut failures = Vec::new();
        for (event, result) in events.iter().zip(answers.results) {
            match result {
                Ok(()) => {
                    self.unacknowledged.push(event.id());
                    self.lanes.accepted(&Lane::of(event));
                }
                Err(error) => failures.push((event, error)),
            }
        }
        if !self.unacknowledged.is_empty() {
            self.transport_backoff.reset();
            self.is_in_doubt = false;
        }
        let unavailable = failures.iter().filter(|(_, error)| error.kind() == PublishErrorKind::Unavailable);
        let unavailable = unavailable.map(|(_, error)| asks_for(error)).max();
        self.is_in_doubt |= unavailable.is_some();
        let was_tried = |(_, error): &(&Event, PublishError)| error.kind() != PublishErrorKind::NotAttempted;
        // Where something was tried, or the transport is down, what was not tried is not to blame.
        let was_anything_tried = failures.len() < events.len() || failures.iter().any(was_tried);
        let (mut lanes, mut is_again, mut longest_delay) = (HashSet::new(), false, Duration::ZERO);
        for (event, error) in &failures {
            let is_to_blame = match error.kind() {
                PublishErrorKind::Unavailable => false,
                PublishErrorKind::NotAttempted => !was_anything_tried,
                _ => true,
            };
            let lane = Lane::of(event);
            // One failure a batch: what came behind it in its lane is no second one.
            if (is_to_blame || is_broken) && lanes.insert(lane.clone()) {
                let (has_failed, delay) = self.lanes.failed(lane, now, asks_for(error));
                is_again |= has_failed;
                longest_delay = longest_delay.max(delay);
            }
        }
        let next = (self.relay.common.time_of_next(answers.ending), longest_delay);
        self.record.answered(events.len(), &failures, is_again, next);
        guard::discard(failures);
        unavailable
    }

    async fn acknowledge(&mut self) -> Result<()> {
        if !self.unacknowledged.is_empty() {
            let (store, ids) = (&self.relay.way.store, &self.unacknowledged);
            self.record.asks_store(Question::Settlement);
            in_time(STORE_TIMEOUT, async { store.acknowledge_all(ids).await }).await?;
            self.store_backoff.reset();
            self.record.store_answered(Question::Settlement);
            mem::take(&mut self.unacknowledged);
        }
        Ok(())
    }
}

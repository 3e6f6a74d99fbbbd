//! Wake-ups and stats of a broken store.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use outbox_memory::MemoryOutbox;
use outbox_traits::{
    DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, Result, Stats, StatsStore, WakeStore,
    Wakeups, async_trait,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    fault::Fault,
    store::{Broken, Shared},
};

/// What tells those who listen, where it is not the memory store's own.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    pub(crate) saves: watch::Sender<()>,
    one: Arc<Notify>,
    /// What the first runtime hears.
    first: OnceLock<watch::Sender<()>>,
}

impl Bell {
    /// A save was made, whether or not it is committed.
    pub(crate) fn ring(&self) {
        self.saves.send_replace(());
        self.one.notify_one();
    }

    /// What is heard in a task of whoever listens first.
    fn first(&self, mut inner: Box<dyn Wakeups>) -> watch::Receiver<()> {
        let sender = self.first.get_or_init(|| {
            let sender = watch::Sender::new(());
            let heard = sender.clone();
            tokio::spawn(async move {
                loop {
                    inner.wait().await;
                    heard.send_replace(());
                }
            });
            sender
        });
        sender.subscribe()
    }
}

#[async_trait]
impl WakeStore for Broken {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        Ok(Box::new(BrokenWakeups {
            fault: self.fault,
            store: self.inner.clone(),
            inner: self.inner.wakeups().await?,
            saves: self.bell.saves.subscribe(),
            one: Arc::clone(&self.bell.one),
            is_cut: self.is_cut.subscribe(),
            has_woken: false,
            first: match self.fault {
                Fault::TheFirstRuntimeHearsForAll => Some(self.bell.first(self.inner.wakeups().await?)),
                _ => None,
            },
            newest: None,
            shared: Arc::clone(&self.shared),
        }))
    }
}

#[derive(Debug)]
struct BrokenWakeups {
    fault: Fault,
    store: MemoryOutbox,
    inner: Box<dyn Wakeups>,
    saves: watch::Receiver<()>,
    one: Arc<Notify>,
    is_cut: watch::Receiver<bool>,
    has_woken: bool,
    first: Option<watch::Receiver<()>>,
    newest: Option<EventId>,
    shared: Arc<Shared>,
}

async fn pending(store: &MemoryOutbox) -> Vec<EventId> {
    let pending = store.get_pending(usize::MAX).await.expect("get_pending");
    pending.iter().map(Event::id).collect()
}

impl BrokenWakeups {
    /// Wakes, again and again, as long as what was saved last is not committed.
    async fn wait_or_wake_for_an_open_session(&mut self) {
        let last = *self.shared.last_saved.lock().unwrap();
        let pending = pending(&self.store).await;
        if last.is_some_and(|last| !pending.contains(&last)) {
            sleep(Duration::from_millis(20)).await;
        } else {
            self.inner.wait().await;
        }
    }

    async fn wait_or_wake_for_a_delivery(&mut self) {
        let before = pending(&self.store).await.len();
        while pending(&self.store).await.len() >= before {
            let waited = timeout(Duration::from_millis(5), self.inner.wait()).await;
            if waited.is_ok() {
                return;
            }
        }
    }

    async fn wait_for_one_that_is_newer(&mut self) {
        loop {
            self.inner.wait().await;
            let newest = pending(&self.store).await.into_iter().max();
            if newest > self.newest {
                self.newest = newest;
                return;
            }
        }
    }

    async fn wait_as_long_as_the_first_saver_is_there(&mut self) {
        loop {
            self.inner.wait().await;
            let Some(saver) = self.shared.first_saver.get() else { return };
            if saver.spawn(async {}).await.is_ok() {
                return;
            }
        }
    }

    async fn wait_for_what_no_other_has_requeued(&mut self) {
        loop {
            self.inner.wait().await;
            if !self.shared.is_unheard.swap(false, Relaxed) {
                return;
            }
        }
    }

    async fn wait_for_what_was_saved_one_by_one(&mut self) {
        loop {
            self.inner.wait().await;
            let last = *self.shared.last_saved.lock().unwrap();
            if last.is_none_or(|last| !self.shared.in_batches.lock().unwrap().contains(&last)) {
                return;
            }
        }
    }

    async fn wait_for_what_was_saved_last(&mut self) {
        loop {
            self.inner.wait().await;
            let last = *self.shared.last_saved.lock().unwrap();
            let pending = pending(&self.store).await;
            if last.is_none_or(|last| pending.contains(&last)) {
                return;
            }
        }
    }
}

#[async_trait]
impl Wakeups for BrokenWakeups {
    async fn wait(&mut self) {
        let is_cut = self.fault == Fault::AListenerDiesWithItsConnection && *self.is_cut.borrow();
        let is_mute = self.fault == Fault::OnlyTheFirstCommitWakes && self.has_woken;
        if is_cut || is_mute || self.fault == Fault::WakeupsNeverCome {
            return std::future::pending().await;
        }
        match self.fault {
            Fault::WakeupsComeBeforeTheCommit
            | Fault::CommitsOfOthersAreNotHeard
            | Fault::ARequeueDoesNotWake => {
                self.saves.changed().await.expect("the store is there");
            }
            Fault::OthersAreHeardOnTheFirstConnectionOnly if *self.is_cut.borrow() => {
                self.saves.changed().await.expect("the store is there");
            }
            Fault::ARequeueOfNothingWakes => {
                let told = self.saves.changed();
                tokio::select! {
                    () = self.inner.wait() => {}
                    told = told => told.expect("the store is there"),
                }
            }
            Fault::OneListenerIsWoken => self.one.notified().await,
            Fault::CommitsBeforeTheWaitAreMissed => {
                self.inner = self.store.wakeups().await.expect("wakeups");
                self.inner.wait().await;
            }
            Fault::ADroppedWaitLosesTheWakeup => {
                self.inner.wait().await;
                sleep(Duration::from_millis(20)).await;
            }
            Fault::ACommitWakesAgainAndAgain if self.has_woken => {
                timeout(Duration::from_millis(20), self.inner.wait()).await.ok();
            }
            Fault::AnOpenSessionWakesAllTheTime => self.wait_or_wake_for_an_open_session().await,
            Fault::DeliveriesWake => self.wait_or_wake_for_a_delivery().await,
            Fault::ARequeueOfAnotherProcessWakesNobody => self.wait_for_what_no_other_has_requeued().await,
            Fault::OnlyTheNewestWakes => self.wait_for_one_that_is_newer().await,
            Fault::ABatchInASessionWakesNobody => self.wait_for_what_was_saved_one_by_one().await,
            Fault::OnlyTheLastOfSeveralSessionsWakes => self.wait_for_what_was_saved_last().await,
            Fault::TheFirstRuntimeTellsForAll => self.wait_as_long_as_the_first_saver_is_there().await,
            Fault::OnlyAnIdleProcessWakes => {
                self.inner.wait().await;
                // Far longer than a thread may have to wait for its turn on a machine that is loaded.
                let is_idle = |asked: Instant| asked.elapsed() > Duration::from_millis(500);
                while !self.shared.last_asked.lock().unwrap().is_none_or(is_idle) {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            Fault::TheFirstRuntimeHearsForAll => {
                let first = self.first.as_mut().expect("it was made so");
                first.changed().await.expect("the store is there");
            }
            Fault::WakeupsComeAllTheTime => sleep(Duration::from_millis(1)).await,
            _ => self.inner.wait().await,
        }
        self.has_woken = true;
    }
}

#[async_trait]
impl StatsStore for Broken {
    async fn stats(&self) -> Result<Stats> {
        let mut stats = self.inner.stats().await?;
        match self.fault {
            Fault::LeasedEventsAreCountedAsPending => {
                stats.pending += std::mem::take(&mut stats.leased);
            }
            Fault::OpenSessionsAreCounted => stats.pending = self.memory().saved.len() as u64,
            Fault::HiddenEventsAreNotCounted => {
                stats.pending = self.inner.get_pending(usize::MAX).await?.len() as u64;
            }
            Fault::TheOldestIsThatOfTheEventsOwnTime => {
                let pending = self.inner.get_pending(usize::MAX).await?;
                let oldest = pending.iter().map(|event| event.meta().timestamp()).min();
                stats.oldest_pending = oldest.and_then(|time| (self.clock.now() - time).to_std().ok());
            }
            Fault::TheOldestMayBeNeitherHiddenNorWaiting => {
                let pending = self.inner.get_pending(usize::MAX).await?;
                stats.oldest_pending =
                    stats.oldest_pending.map(|age| if pending.is_empty() { age } else { Duration::ZERO });
            }
            Fault::TheOldestMayBeDelivered if stats.delivered > 0 => {
                stats.oldest_pending.get_or_insert(Duration::from_secs(100));
            }
            Fault::TheOldestDueMayBeHidden => stats.oldest_due = stats.oldest_pending,
            Fault::WhatIsRequeuedIsDueSinceThen => {
                let since =
                    self.memory().requeued_at.and_then(|time| (self.clock.now() - time).to_std().ok());
                stats.oldest_due = stats.oldest_due.min(since.or(stats.oldest_due));
            }
            Fault::WhatIsWrittenElsewhereHasNoAge
                if stats.pending + stats.leased <= self.memory().elsewhere.len() as u64 =>
            {
                (stats.oldest_pending, stats.oldest_due) = (None, None);
            }
            Fault::UndecodableRowsAreNotCounted => {
                let all = DeadLetterFilter::new().with_limit(usize::MAX);
                let letters = self.inner.dead_letters(&all).await?.letters;
                stats.dead = letters.iter().filter(|letter| letter.content.is_ok()).count() as u64;
            }
            Fault::WhatIsLeasedIsNotDue if stats.leased > 0 => stats.oldest_due = None,
            // It sees none that waits, and takes the one behind it for free.
            Fault::WhatIsBehindARetryIsDue if stats.pending > 1 => stats.oldest_due = stats.oldest_pending,
            _ => {}
        }
        Ok(stats)
    }
}

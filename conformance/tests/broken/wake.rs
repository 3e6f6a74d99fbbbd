//! Wake-ups and stats of a broken store.

use std::{sync::Arc, time::Duration};

use outbox_memory::MemoryOutbox;
use outbox_traits::{OutboxStore, Result, Stats, StatsStore, WakeStore, Wakeups, async_trait};
use tokio::sync::{Notify, watch};

use crate::{fault::Fault, store::Broken};

/// What tells those who listen, where it is not the memory store's own.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    pub(crate) saves: watch::Sender<()>,
    one: Arc<Notify>,
}

impl Bell {
    /// A save was made, whether or not it is committed.
    pub(crate) fn ring(&self) {
        self.saves.send_replace(());
        self.one.notify_one();
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
            Fault::WakeupsComeBeforeTheCommit | Fault::CommitsOfOthersAreNotHeard => {
                self.saves.changed().await.expect("the store is there");
            }
            Fault::OthersAreHeardOnTheFirstConnectionOnly if *self.is_cut.borrow() => {
                self.saves.changed().await.expect("the store is there");
            }
            Fault::OneListenerIsWoken => self.one.notified().await,
            Fault::CommitsBeforeTheWaitAreMissed => {
                self.inner = self.store.wakeups().await.expect("wakeups");
                self.inner.wait().await;
            }
            Fault::ADroppedWaitLosesTheWakeup => {
                self.inner.wait().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Fault::WakeupsComeAllTheTime => tokio::time::sleep(Duration::from_millis(1)).await,
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
            Fault::WhatIsLeasedIsNotDue if stats.leased > 0 => stats.oldest_due = None,
            // It sees none that waits, and takes the one behind it for free.
            Fault::WhatIsBehindARetryIsDue if stats.pending > 1 => stats.oldest_due = stats.oldest_pending,
            _ => {}
        }
        Ok(stats)
    }
}

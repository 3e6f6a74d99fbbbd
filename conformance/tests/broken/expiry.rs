//! What the engine deletes by itself.

use std::{sync::Arc, time::Duration};

use outbox_memory::MemoryInbox;
use outbox_traits::{
    DeadLetterFilter, DeadLetterStore, Error, ErrorKind, Event, EventId, InboxStore, OutboxStore, Result,
    Retention,
};

use crate::{
    fault::Fault,
    inbox::BrokenInbox,
    names::{INBOX, OUTBOX, Parts},
    schema::Schema,
    store::Broken,
};

/// After how long the engine deletes delivered events, and marks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: Option<Duration>,
    pub(crate) marks: Option<Duration>,
}

impl Told {
    fn of(&mut self, parts: &Parts) -> &mut Option<Duration> {
        if parts == INBOX { &mut self.marks } else { &mut self.events }
    }
}

impl Schema {
    fn expiring(&self, parts: &'static Parts, time_to_live: Option<Duration>) -> Self {
        Self { database: Arc::clone(&self.database), name: None, parts, time_to_live }
    }

    /// As the engine counts it: in whole seconds, up to the most that it has room for.
    fn wanted(&self, fault: Fault) -> Option<Duration> {
        const MOST: u64 = 1 << 31;
        let exactly = self.time_to_live?;
        let (seconds, rest) = (exactly.as_secs(), u64::from(exactly.subsec_nanos() > 0));
        Some(Duration::from_secs(match fault {
            Fault::FractionsOfSecondsAreCutOff => seconds.min(MOST),
            Fault::ALongTimeToLiveOverflows => seconds.wrapping_add(rest),
            _ => seconds.saturating_add(rest).min(MOST),
        }))
    }

    pub(crate) fn tell(&self, fault: Fault) {
        let wanted = self.wanted(fault);
        self.with_told(|told| match fault {
            Fault::WhatWasToldFirstStays if told.of(self.parts).is_some() => {}
            Fault::NoTimeToLiveIsNotTold if wanted.is_none() => {}
            Fault::OutboxAndInboxAreToldTheSame => *told = Told { events: wanted, marks: wanted },
            _ => *told.of(self.parts) = wanted,
        });
    }

    pub(crate) fn is_told(&self, fault: Fault) -> bool {
        self.with_told(|told| *told.of(self.parts)) == self.wanted(fault)
    }

    /// What verify says of it.
    pub(crate) fn report_of_told(&self, fault: Fault) -> Vec<String> {
        let is_well = match fault {
            Fault::VerifyDoesNotAskWhatWasTold => true,
            Fault::VerifyForgetsWhatIsNoLongerWanted if self.time_to_live.is_none() => true,
            Fault::VerifyDoesNotRound if self.time_to_live != self.wanted(fault) => false,
            _ => self.is_told(fault),
        };
        if fault == Fault::VerifyPutsBackWhatIsMissing {
            self.tell(fault);
        }
        if is_well {
            Vec::new()
        } else {
            vec!["the engine was told another time to live: run migrate".to_owned()]
        }
    }

    pub(crate) fn must_be_told(&self, fault: Fault) -> Result<()> {
        if fault == Fault::AnotherTimeToLiveStopsTheStore && !self.is_told(fault) {
            return Err(Error::new(
                ErrorKind::Schema,
                "the engine was told another time to live: run migrate",
            ));
        }
        Ok(())
    }
}

impl Broken {
    /// The same outbox and its inbox, with a time to live.
    pub(crate) fn expiring(&self, time_to_live: Option<Duration>) -> (Self, BrokenInbox) {
        let (mut store, mut inbox) = (self.peer(), BrokenInbox::new(self.fault, &self.inner));
        store.schema = self.schema.expiring(OUTBOX, time_to_live);
        inbox.schema = self.schema.expiring(INBOX, time_to_live);
        if self.fault == Fault::ATimeToLiveIsToldWithoutAMigration {
            store.schema.tell(self.fault);
            inbox.schema.tell(self.fault);
        }
        (store, inbox)
    }

    pub(crate) fn told(&self) -> Told {
        *self.schema.database.told.lock().unwrap()
    }

    /// What the engine does from time to time.
    pub(crate) async fn expire(&self) -> Result<()> {
        let told = self.told();
        let marks = match self.fault {
            Fault::MarksNeverExpire => None,
            Fault::AllMarksExpire => told.marks.map(|_| Duration::ZERO),
            Fault::MarksExpireAsEventsDo => told.events,
            _ => told.marks,
        };
        if let Some(after) = marks {
            MemoryInbox::new(&self.inner).purge(after).await?;
        }
        let Some(after) = told.events else { return Ok(()) };
        let (now, saved) = (self.clock.now(), self.memory().saved.clone());
        match self.fault {
            Fault::PendingEventsExpire => {
                let pending = self.inner.get_pending(usize::MAX).await?;
                self.delete(pending.iter().map(Event::id)).await?;
            }
            Fault::HiddenEventsExpire => {
                let is_hidden = |event: &&Event| event.not_before().is_some_and(|time| time > now);
                self.delete(saved.iter().filter(is_hidden).map(Event::id)).await?;
            }
            Fault::LeasedEventsExpire => {
                let leased: Vec<EventId> = self.memory().last_leases.keys().copied().collect();
                self.delete(leased.into_iter()).await?;
            }
            Fault::DeadLettersExpire => drop(self.inner.discard_all(&DeadLetterFilter::new()).await?),
            _ => {}
        }
        let after = match self.fault {
            Fault::DeliveredEventsNeverExpire => return Ok(()),
            Fault::ExpiryIgnoresTheAge => Duration::ZERO,
            Fault::ExpiryGoesByTheEventsOwnTime
                if saved.iter().any(|event| event.meta().timestamp() <= now - after) =>
            {
                Duration::ZERO
            }
            _ => after,
        };
        self.inner.purge(after).await?;
        Ok(())
    }

    /// Whatever state they are in.
    async fn delete(&self, ids: impl Iterator<Item = EventId>) -> Result<()> {
        let deleting = self.inner.clone().with_retention(Retention::DeleteOnDelivery);
        deleting.acknowledge_all(&ids.collect::<Vec<_>>()).await
    }
}

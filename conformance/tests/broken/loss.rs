//! What is kept beside the events, and was lost.

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, SchemaReport};

use crate::{fault::Fault, store::Broken};

/// What is wrong then, and what to do.
const LOST: &str = "the table `outbox_lease` is missing: run migrate";

impl Broken {
    fn has_lost(&self) -> bool {
        !self.schema.has_name() && self.shared.is_lost.load(Relaxed)
    }

    pub(crate) fn must_be_whole(&self) -> Result<()> {
        if self.has_lost() && self.fault != Fault::ALossIsOverlooked {
            return Err(Error::new(ErrorKind::Schema, LOST));
        }
        Ok(())
    }

    pub(crate) fn with_losses(&self, report: SchemaReport) -> SchemaReport {
        if !self.has_lost() || self.fault == Fault::ALossIsNotTold {
            return report;
        }
        let said = match self.fault {
            Fault::ALossHasNoName => "a table is missing: run migrate",
            Fault::ALossDoesNotSayWhatToDo => "the table `outbox_lease` is missing",
            _ => LOST,
        };
        SchemaReport::new(report.problems().iter().cloned().chain([said.to_owned()]).collect())
    }

    pub(crate) async fn put_back(&self) -> Result<()> {
        if !self.has_lost() {
            return Ok(());
        }
        match self.fault {
            Fault::PuttingBackForgetsWhatIsHeld => self.let_go(|_| true).await?,
            Fault::ALossIsNotPutBack => return Ok(()),
            Fault::PuttingBackForgetsWhatWaits => self.forget_what_waits().await?,
            _ => {}
        }
        self.shared.is_lost.store(false, Relaxed);
        Ok(())
    }

    /// As if it had been delivered.
    async fn forget_what_waits(&self) -> Result<()> {
        let pending: HashSet<EventId> =
            self.inner.get_pending(usize::MAX).await?.iter().map(Event::id).collect();
        let saved: Vec<EventId> = self.memory().saved.iter().map(Event::id).collect();
        for id in saved.into_iter().filter(|id| !pending.contains(id)) {
            self.inner.acknowledge(id).await?;
        }
        Ok(())
    }
}

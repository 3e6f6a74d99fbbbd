//! The inbox beside a broken store.

use std::time::Duration;

use outbox_memory::{MemoryInbox, MemoryOutbox};
use outbox_traits::{
    ErrorKind, EventId, InboxStore, Receipt, Result, SchemaReport, SchemaStore, async_trait,
};

use crate::{fault::Fault, schema::Schema, session::BrokenSession};

#[derive(Debug)]
pub(crate) struct BrokenInbox {
    fault: Fault,
    inner: MemoryInbox,
    outbox: MemoryOutbox,
    pub(crate) schema: Schema,
}

impl BrokenInbox {
    pub(crate) fn new(fault: Fault, outbox: &MemoryOutbox) -> Self {
        let (inner, outbox) = (MemoryInbox::new(outbox), outbox.clone());
        Self { fault, inner, outbox, schema: Schema::default() }
    }

    /// Marks an event in a session of the inbox's own, which commits with that of the caller.
    async fn process_beside(
        &self,
        session: &mut BrokenSession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        let mut own = self.outbox.begin();
        let receipt = self.inner.process_once(&mut own, consumer, event).await;
        session.inner().on_commit(move || own.commit());
        receipt
    }
}

#[async_trait]
impl InboxStore for BrokenInbox {
    type Session = BrokenSession;

    async fn process_once(
        &self,
        session: &mut BrokenSession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        self.schema.must_be_migrated(self.fault).map_err(|error| error.with_event(event))?;
        let folded = consumer.to_lowercase();
        let cut: String = consumer.chars().take(20).collect();
        let consumer = match self.fault {
            Fault::ConsumersShareTheirMarks => "all",
            Fault::ConsumersFoldCase => &folded,
            Fault::ConsumersAreTrimmed => consumer.trim_end(),
            Fault::ConsumersAreCutOff => &cut,
            Fault::AnyConsumerIsTaken if consumer.trim().is_empty() => "nobody",
            _ => consumer,
        };
        if self.fault == Fault::MarksIgnoreTheirSession {
            let mut own = self.outbox.begin();
            let receipt = self.inner.process_once(&mut own, consumer, event).await;
            own.commit();
            return receipt;
        }
        let receipt = match self.fault {
            Fault::AllNamesAreOneInbox => self.inner.process_once(session.inner(), consumer, event).await,
            _ if self.schema.has_name() => return self.process_beside(session, consumer, event).await,
            _ => self.inner.process_once(session.inner(), consumer, event).await,
        };
        match (&receipt, self.fault) {
            (Ok(Receipt::Duplicate), Fault::EveryDeliveryIsNew) => Ok(Receipt::New),
            (Ok(Receipt::Duplicate), Fault::ARepeatedDeliveryPoisonsTheSession) => {
                session.is_poisoned = true;
                receipt
            }
            (Err(error), Fault::TwoAreToldThatItIsNew) if error.kind() == ErrorKind::Conflict => {
                Ok(Receipt::New)
            }
            (Err(error), Fault::AnOpenSessionCountsAsProcessed) if error.kind() == ErrorKind::Conflict => {
                Ok(Receipt::Duplicate)
            }
            _ => receipt,
        }
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        match self.fault {
            Fault::TheInboxPurgesAll => self.inner.purge(Duration::ZERO).await,
            Fault::TheInboxNeverPurges if older_than < Duration::MAX => Ok(0),
            Fault::TheInboxMiscounts => Ok(self.inner.purge(older_than).await?.min(1000)),
            _ => self.inner.purge(older_than).await,
        }
    }
}

#[async_trait]
impl SchemaStore for BrokenInbox {
    async fn migrate(&self) -> Result<()> {
        let is_emptied = match self.fault {
            Fault::MigratingAgainForgetsTheMarks => self.schema.is_migrated(),
            Fault::PuttingBackLosesTheRest => !self.schema.is_migrated(),
            _ => false,
        };
        if is_emptied {
            self.inner.purge(Duration::ZERO).await?;
        }
        self.schema.migrate(self.fault)
    }

    async fn verify(&self) -> Result<SchemaReport> {
        self.schema.verify(self.fault)
    }
}

//! Claims in memory: there is nothing to write by hand for it, so only its own speed is measured.

use std::sync::Arc;

use anyhow::Result;
use outbox_memory::MemoryOutbox;
use outbox_traits::{ClaimStore, OutboxStore as _, OutboxStoreExt as _, Retention, async_trait};

use super::{
    Amounts,
    measure::{self, Condition, Measured, Subject, Tables},
    queue::{Queue, Table, Way, all_new, empty_store, events, fill_store},
};
use crate::{job::Order, place::unless_interrupted};

/// There is no version or setting to tell.
pub(crate) const DESCRIPTION: &str = "in memory";

/// An event takes one to two kilobytes: the other engines' backlog would not fit everywhere.
const MOST: u32 = 100_000;

/// Measures.
pub(super) async fn measure(amounts: Amounts) -> Result<Measured> {
    let amounts = Amounts { backlog: amounts.backlog.min(MOST), ..amounts };
    let tables = Condition::ALL.into_iter().map(|condition| {
        let store = MemoryOutbox::new();
        let handle = |retention| Arc::new(store.clone().with_retention(retention)) as Arc<dyn ClaimStore>;
        let handles = vec![
            (Way::KEPT, handle(Retention::UntilPurged)),
            (Way::DELETED, handle(Retention::DeleteOnDelivery)),
        ];
        Tables { condition, outbox: Queue::outbox(Outbox(store), handles), by_hand: None }
    });
    let description = DESCRIPTION.to_owned();
    let subject = Subject { title: "memory", description, has_saves: true, tables: tables.collect() };
    unless_interrupted(measure::run(subject, amounts)).await
}

/// The outbox.
pub(crate) struct Outbox(pub(crate) MemoryOutbox);

#[async_trait(?Send)]
impl Table for Outbox {
    async fn save_one(&self, order: &Order) -> Result<()> {
        let mut session = self.0.begin();
        let saved = self.0.enqueue(order.event()?, &mut session).await?;
        session.commit();
        all_new(&[saved])
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let events = events(orders)?;
        all_new(&self.0.save_all(&events).await?)
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        fill_store(&self.0, delivered).await
    }

    async fn clear(&self) -> Result<()> {
        empty_store(&self.0).await
    }

    async fn tidy(&self) -> Result<()> {
        Ok(())
    }
}

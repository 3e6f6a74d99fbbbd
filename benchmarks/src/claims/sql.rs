//! Claims on the SQL engines.

use std::sync::Arc;

use anyhow::Result;
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{ClaimStore, Retention, async_trait};

use super::{
    Amounts,
    measure::{self, Condition, Measured, Subject, Tables},
    queue::{Queue, Table, Way},
};
use crate::{compare::CONNECTIONS, hand_written::HandWritten, job::Order, place::Place, side::Side};

#[async_trait(?Send)]
impl<DB: HandWritten> Table for Side<DB> {
    async fn save_one(&self, order: &Order) -> Result<()> {
        self.save_one(order).await
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        self.save_batch(orders).await
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        self.fill(delivered).await
    }

    async fn clear(&self) -> Result<()> {
        self.clear().await
    }

    async fn tidy(&self) -> Result<()> {
        DB::run(self.pool(), DB::TIDY).await
    }
}

/// Measures on one engine.
pub(super) async fn measure<DB: HandWritten>(place: &Place, amounts: Amounts) -> Result<Measured> {
    let outboxes = Condition::ALL.map(|condition| format!("outbox_{}", condition.name()));
    let by_hand = Condition::ALL.map(|condition| format!("hand_{}", condition.name()));
    let names: Vec<_> = outboxes.iter().chain(&by_hand).map(String::as_str).collect();
    let work = async |pools: &[sqlx::Pool<DB>]| {
        let mut tables = Vec::new();
        for (index, condition) in Condition::ALL.into_iter().enumerate() {
            let pool = pools[index].clone();
            let outbox = Side::library(pool.clone()).await?;
            let handle = |retention| {
                let handle = SqlxOutbox::<DB>::new(pool.clone()).with_retention(retention);
                Arc::new(handle) as Arc<dyn ClaimStore>
            };
            let handles = vec![
                (Way::KEPT, handle(Retention::UntilPurged)),
                (Way::DELETED, handle(Retention::DeleteOnDelivery)),
            ];
            let pool = pools[Condition::ALL.len() + index].clone();
            let by_hand = if condition.has_by_hand() {
                let ways = DB::takers(&pool);
                Some(Queue::by_hand(Side::hand_written(pool).await?, ways))
            } else {
                None
            };
            tables.push(Tables { condition, outbox: Queue::outbox(outbox, handles), by_hand });
        }
        let subject = Subject {
            title: DB::TITLE,
            description: DB::describe(&pools[0]).await?,
            // The comparison measures the saves of all SQL engines.
            has_saves: false,
            tables,
        };
        measure::run(subject, amounts).await
    };
    place.with::<DB, _>(&names, CONNECTIONS, work).await
}

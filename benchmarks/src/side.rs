//! The two sides, and how each does the jobs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{Event, EventId, OutboxStore, OutboxStoreExt as _, Saved, SchemaStore as _};
use sqlx::Pool;

use crate::{
    engine::LIBRARY_COLUMNS,
    hand_written::{self, HandWritten},
    job::{BATCH, BATCHES, Job, Order, SINGLES},
};

/// One side of a comparison, on tables of its own.
#[derive(Debug)]
pub(crate) enum Side<DB: HandWritten> {
    /// The outbox of this workspace.
    Library(SqlxOutbox<DB>),
    /// What a team writes for itself.
    HandWritten(Pool<DB>),
}

impl<DB: HandWritten> Side<DB> {
    pub(crate) async fn library(pool: Pool<DB>) -> Result<Self> {
        DB::run(&pool, DB::BUSINESS).await?;
        let outbox = SqlxOutbox::new(pool);
        outbox.migrate().await?;
        Ok(Self::Library(outbox))
    }

    pub(crate) async fn hand_written(pool: Pool<DB>) -> Result<Self> {
        DB::run(&pool, DB::BUSINESS).await?;
        DB::run(&pool, DB::SCHEMA).await?;
        Ok(Self::HandWritten(pool))
    }

    pub(crate) fn pool(&self) -> &Pool<DB> {
        match self {
            Self::Library(outbox) => outbox.pool(),
            Self::HandWritten(pool) => pool,
        }
    }

    /// Puts so many delivered events into it.
    pub(crate) async fn fill(&self, delivered: u32) -> Result<()> {
        self.save_batch(&[Order::new(0)]).await?;
        self.drain(1).await?;
        let columns = match self {
            Self::Library(_) => LIBRARY_COLUMNS,
            Self::HandWritten(_) => "",
        };
        DB::multiply(self.pool(), columns, delivered - 1).await?;
        DB::run(self.pool(), DB::SETTLE).await
    }

    /// Empties it.
    pub(crate) async fn clear(&self) -> Result<()> {
        if let Self::Library(outbox) = self {
            DB::run(outbox.pool(), DB::CLEAR_CLAIMS).await?;
        }
        DB::run(self.pool(), DB::CLEAR).await
    }

    /// Does every job and says how long each took.
    pub(crate) async fn round(&self, number: &mut i64) -> Result<[Duration; Job::ALL.len()]> {
        let mut orders = |count: usize| {
            let first = *number;
            *number += i64::try_from(count).unwrap_or(0);
            (first..*number).map(Order::new).collect::<Vec<_>>()
        };
        let singles = orders(SINGLES);
        let batches: Vec<_> = (0..BATCHES).map(|_| orders(BATCH)).collect();

        let start = Instant::now();
        for order in &singles {
            self.save_one(order).await?;
        }
        let saved_singles = Instant::now();
        for batch in &batches {
            self.save_batch(batch).await?;
        }
        let saved_batches = Instant::now();
        self.drain(SINGLES + BATCHES * BATCH).await?;
        let end = Instant::now();
        Ok([saved_singles - start, saved_batches - saved_singles, end - saved_batches])
    }

    pub(crate) async fn save_one(&self, order: &Order) -> Result<()> {
        let mut transaction = self.pool().begin_with(DB::BEGIN).await?;
        DB::place_order(&mut transaction, order).await?;
        let is_new = match self {
            Self::Library(outbox) => outbox.enqueue(order.event()?, &mut transaction).await? == Saved::Stored,
            Self::HandWritten(_) => DB::save_one(&mut transaction, &hand_written::Event::of(order)?).await?,
        };
        transaction.commit().await?;
        ensure!(is_new, "an event was taken for a duplicate");
        Ok(())
    }

    pub(crate) async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let mut transaction = self.pool().begin_with(DB::BEGIN).await?;
        let new = match self {
            Self::Library(outbox) => {
                let events = orders.iter().map(Order::event).collect::<outbox_traits::Result<Vec<_>>>()?;
                let saved = outbox.save_all_in_session(&events, &mut transaction).await?;
                saved.into_iter().filter(|saved| *saved == Saved::Stored).count()
            }
            Self::HandWritten(_) => {
                let events = orders.iter().map(hand_written::Event::of).collect::<Result<Vec<_>>>()?;
                usize::try_from(DB::save_batch(&mut transaction, &events).await?)?
            }
        };
        transaction.commit().await?;
        ensure!(new == orders.len(), "events were taken for duplicates");
        Ok(())
    }

    /// Fetches and acknowledges the pending events, of which there are this many.
    async fn drain(&self, pending: usize) -> Result<()> {
        let mut left = pending;
        while left > 0 {
            let fetched = match self {
                Self::Library(outbox) => {
                    let events = outbox.get_pending(BATCH).await?;
                    let ids: Vec<EventId> = events.iter().map(Event::id).collect();
                    outbox.acknowledge_all(&ids).await?;
                    events.len()
                }
                Self::HandWritten(pool) => {
                    let events = DB::fetch(pool, i64::try_from(BATCH)?).await?;
                    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
                    DB::mark_delivered(pool, &ids).await?;
                    events.len()
                }
            };
            ensure!(fetched == left.min(BATCH), "{fetched} events were fetched, and {left} are pending");
            left -= fetched;
        }
        Ok(())
    }
}

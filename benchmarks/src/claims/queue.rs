//! What is measured: an outbox or a table by hand, and those who take events from it.

use std::{fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use outbox_traits::{Claim, ClaimStore, Event, Saved, Settlement, async_trait};

use super::orders::Orders;
use crate::job::Order;

/// How many events are saved at once where it is not measured.
pub(super) const FILL: u32 = 1000;
/// Longer than any worker takes for what it claims, also on a busy machine.
const LEASE: Duration = Duration::from_secs(600);
/// Longer than any run, for a lease or a wait.
const LONG_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// How events are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Way {
    pub(crate) title: &'static str,
    /// Whether it is the outbox's.
    pub(crate) is_outbox: bool,
    /// Whether it changes one event at a time: then fewer are measured, and by one worker, because it has
    /// nothing that would keep two of them apart.
    pub(crate) is_one_by_one: bool,
    /// How many times as fast the outbox should be.
    pub(crate) aim: Option<f64>,
}

impl Way {
    /// By the outbox, which keeps what was delivered until it is purged.
    pub(crate) const KEPT: Self = Self { title: "kept", is_outbox: true, is_one_by_one: false, aim: None };

    /// By the outbox, which deletes what was delivered.
    pub(super) const DELETED: Self = Self { title: "deleted", ..Self::KEPT };

    /// By code by hand.
    pub(crate) const BY_HAND: Self =
        Self { title: "by hand", is_outbox: false, is_one_by_one: false, aim: None };

    /// As the outbox began in `TypeScript`: what is pending is found, and each event updated by itself.
    pub(crate) const ONE_BY_ONE: Self =
        Self { title: "find, and update one by one", is_one_by_one: true, ..Self::BY_HAND };
}

/// Who takes events.
#[async_trait]
pub(crate) trait Taker: Debug + Send + Sync {
    /// Takes at most so many pending events, settles all as delivered, and says how many there were.
    async fn take(&self, limit: usize) -> Result<usize>;
}

/// Where they are taken from.
#[async_trait(?Send)]
pub(crate) trait Table {
    /// `BEGIN`, a business row, one event, `COMMIT`.
    async fn save_one(&self, order: &Order) -> Result<()>;

    /// `BEGIN`, these events at once, `COMMIT`.
    async fn save_batch(&self, orders: &[Order]) -> Result<()>;

    /// Puts so many delivered events into it, while it is empty.
    async fn fill(&self, delivered: u32) -> Result<()>;

    /// Empties it.
    async fn clear(&self) -> Result<()>;

    /// Does at once what the engine would do in its own time.
    async fn tidy(&self) -> Result<()>;
}

/// A table and the ways in which events are taken from it.
pub(crate) struct Queue {
    pub(crate) table: Box<dyn Table>,
    pub(crate) ways: Vec<(Way, Arc<dyn Taker>)>,
    /// Of the outbox.
    pub(crate) store: Option<Arc<dyn ClaimStore>>,
}

impl Queue {
    /// The outbox, by a handle for each retention that is measured.
    pub(crate) fn outbox(table: impl Table + 'static, handles: Vec<(Way, Arc<dyn ClaimStore>)>) -> Self {
        let store = handles.first().map(|(_, store)| Arc::clone(store));
        let ways = handles.into_iter().map(|(way, store)| (way, Arc::new(Claims(store)) as Arc<dyn Taker>));
        Self { table: Box::new(table), ways: ways.collect(), store }
    }

    /// Code by hand.
    pub(super) fn by_hand(table: impl Table + 'static, ways: Vec<(Way, Arc<dyn Taker>)>) -> Self {
        Self { table: Box::new(table), ways, store: None }
    }

    /// Leases the first event for longer than the run lasts.
    pub(super) async fn block_first(&self) -> Result<()> {
        let store = self.store.as_ref().context("only the outbox has leases")?;
        let claim = Claim::new("blocker").with_limit(1).with_lease(LONG_LEASE);
        ensure!(store.claim(&claim).await?.len() == 1, "there is no event to lease");
        Ok(())
    }

    /// Saves events, each of a key of its own, and settles them to be tried again when the run is over.
    pub(super) async fn fail(&self, orders: &Orders, count: u32) -> Result<()> {
        let store = self.store.as_ref().context("only the outbox has retries")?;
        orders.save_alone(self, count).await?;
        let claim = Claim::new("failing").with_limit(FILL as usize).with_lease(LEASE);
        let mut failed = 0;
        while failed < count {
            let leased = store.claim(&claim).await?;
            ensure!(!leased.is_empty(), "{} events cannot be claimed", count - failed);
            let settlements: Vec<_> = leased
                .iter()
                .map(|leased| Settlement::retry(leased.lease, LONG_LEASE, "it failed"))
                .collect();
            for settled in store.settle(&settlements).await? {
                settled?;
            }
            failed += u32::try_from(leased.len())?;
        }
        self.table.tidy().await
    }
}

/// Claims, and settles all as delivered.
#[derive(Debug)]
struct Claims(Arc<dyn ClaimStore>);

#[async_trait]
impl Taker for Claims {
    async fn take(&self, limit: usize) -> Result<usize> {
        let leased = self.0.claim(&Claim::new("bench").with_limit(limit).with_lease(LEASE)).await?;
        if leased.is_empty() {
            return Ok(0);
        }
        let settlements: Vec<_> = leased.iter().map(|leased| Settlement::delivered(leased.lease)).collect();
        for settled in self.0.settle(&settlements).await? {
            settled?;
        }
        Ok(leased.len())
    }
}

/// Fills an outbox with delivered events through its own methods.
pub(super) async fn fill_store(store: &dyn ClaimStore, delivered: u32) -> Result<()> {
    for orders in orders_by_fill(delivered) {
        let events = events(&orders)?;
        all_new(&store.save_all(&events).await?)?;
        let ids: Vec<_> = events.iter().map(Event::id).collect();
        store.acknowledge_all(&ids).await?;
    }
    Ok(())
}

/// Empties an outbox through its own methods, where nothing is leased.
pub(super) async fn empty_store(store: &dyn ClaimStore) -> Result<()> {
    loop {
        let pending = store.get_pending(FILL as usize).await?;
        if pending.is_empty() {
            break;
        }
        let ids: Vec<_> = pending.iter().map(Event::id).collect();
        store.acknowledge_all(&ids).await?;
    }
    store.purge(Duration::ZERO).await?;
    Ok(())
}

/// Orders to fill a table with, some at a time.
pub(super) fn orders_by_fill(count: u32) -> impl Iterator<Item = Vec<Order>> {
    let starts = (0..count).step_by(FILL as usize);
    starts
        .map(move |start| (start..count.min(start + FILL)).map(|number| Order::new(number.into())).collect())
}

/// The events of orders.
pub(super) fn events(orders: &[Order]) -> Result<Vec<Event>> {
    Ok(orders.iter().map(Order::event).collect::<outbox_traits::Result<_>>()?)
}

/// That every event was new.
pub(super) fn all_new(saved: &[Saved]) -> Result<()> {
    ensure!(saved.iter().all(|saved| *saved == Saved::Stored), "an event was taken for a duplicate");
    Ok(())
}

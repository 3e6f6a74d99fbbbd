//! The orders that the events tell of.

use std::cell::Cell;

use anyhow::Result;

use super::queue::{FILL, Queue};
use crate::job::Order;

/// How many partition keys they have by default: far more than workers hold at a time, as where the key is that of
/// an order or a customer.
pub(crate) const KEYS: u32 = 10_000;

/// Orders, each with a number of its own.
#[derive(Debug)]
pub(crate) struct Orders {
    next: Cell<u32>,
    keys: u32,
}

impl Default for Orders {
    fn default() -> Self {
        Self::of_keys(KEYS)
    }
}

impl Orders {
    /// Of so many keys.
    pub(super) fn of_keys(keys: u32) -> Self {
        Self { next: Cell::new(0), keys }
    }

    /// So many of them, of all keys.
    pub(crate) fn next(&self, count: u32) -> Vec<Order> {
        let number = |_| self.next.replace(self.next.get() + 1);
        let order = |number: u32| {
            Order::new(number.into()).with_key(format!("key-{}", spread(number) % u64::from(self.keys)))
        };
        (0..count).map(number).map(order).collect()
    }

    /// Saves so many, and returns their number.
    pub(crate) async fn save(&self, queue: &Queue, count: u32) -> Result<u64> {
        self.save_as(queue, count, |order| order).await
    }

    /// The same, of one key.
    pub(super) async fn save_hot(&self, queue: &Queue, count: u32) -> Result<u64> {
        self.save_as(queue, count, |order| order.with_key("hot".to_owned())).await
    }

    /// The same, each of a key of its own.
    pub(super) async fn save_alone(&self, queue: &Queue, count: u32) -> Result<u64> {
        self.save_as(queue, count, Order::with_own_key).await
    }

    async fn save_as(&self, queue: &Queue, count: u32, change: fn(Order) -> Order) -> Result<u64> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(FILL);
            left -= batch;
            let orders: Vec<_> = self.next(batch).into_iter().map(change).collect();
            queue.table.save_batch(&orders).await?;
        }
        Ok(count.into())
    }
}

/// Spreads numbers, so that neighbours have keys without a pattern (the last step of `SplitMix64`).
fn spread(number: u32) -> u64 {
    let mut spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread = (spread ^ (spread >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    spread = (spread ^ (spread >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    spread ^ (spread >> 31)
}

//! Hints that something was committed.

use std::fmt;

use async_trait::async_trait;

use crate::{OutboxStore, Result};

/// A store that says when something was committed, so that nobody has to ask it all the time.
///
/// It is a hint. Whoever listens also looks now and then by itself: to lose every wake-up costs latency and
/// nothing else, and time alone, which makes hidden and failed events due, wakes nobody.
#[async_trait]
pub trait WakeStore: OutboxStore {
    /// Begins to listen, for what is committed from now on.
    ///
    /// # Errors
    /// If it cannot begin. Once it has, a lost connection is noticed and made anew behind the scenes.
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>>;
}

/// One who listens.
#[async_trait]
pub trait Wakeups: fmt::Debug + Send + Sync {
    /// Waits until something may have been committed since the last wake-up or, the first time, since the listening
    /// began. Many commits may be one wake-up, and one may be for nothing. Dropped while it waits, it loses none.
    async fn wait(&mut self);
}

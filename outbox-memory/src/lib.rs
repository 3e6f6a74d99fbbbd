//! The in-memory reference store of the transactional outbox.
//!
//! It keeps the whole contract of [`OutboxStore`](outbox_traits::OutboxStore), so that the tests of an
//! application run without a server, and in simulated time with a [`ManualClock`]. It keeps nothing beyond the
//! process, and so it is for tests.
//!
//! ```
//! use outbox_memory::MemoryOutbox;
//! use outbox_traits::{Event, OutboxStore, OutboxStoreExt};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let outbox = MemoryOutbox::new();
//! let mut session = outbox.begin();
//! outbox.enqueue(Event::new("order.placed", json!({ "total": 4200 }))?, &mut session).await?;
//! assert!(outbox.get_pending(10).await?.is_empty());
//!
//! session.commit();
//! assert_eq!(outbox.get_pending(10).await?.len(), 1);
//! # Ok::<(), outbox_traits::Error>(())
//! # }).unwrap();
//! ```

mod claim;
mod clock;
mod dead_letter;
mod inbox;
mod keys;
mod session;
mod state;
mod stats;
mod store;
mod wake;

pub use crate::{clock::ManualClock, inbox::MemoryInbox, session::MemorySession, store::MemoryOutbox};

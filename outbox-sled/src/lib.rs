//! The transactional outbox in [sled], an embedded data base.
//!
//! [`SledOutbox`] keeps the whole contract of [`OutboxStore`](outbox_traits::OutboxStore) in trees of the
//! application's own data base. Events are saved in a [`SledSession`], a unit of work over any trees and the outbox.
//!
//! ```
//! use outbox_sled::SledOutbox;
//! use outbox_traits::{Event, OutboxStore, OutboxStoreExt};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let db = sled::open(path)?;
//! let orders = db.open_tree("orders")?;
//! let outbox = SledOutbox::open(&db)?;
//!
//! let mut session = outbox.begin();
//! session.insert(&orders, "o-17", "4200")?;
//! outbox.enqueue(Event::new("order.placed", json!({ "total": 4200 }))?, &mut session).await?;
//! assert!(outbox.get_pending(10).await?.is_empty());
//!
//! session.commit().await?;
//! assert_eq!(outbox.get_pending(10).await?.len(), 1);
//! assert!(orders.contains_key("o-17")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # One process
//!
//! A data base of sled belongs to one process at a time: the relay runs in the process that writes. Within it, any
//! number of sessions may be open at once. The number of an event is taken inside the one transaction that writes it,
//! so that events are in the order of their commits.
//!
//! A consumer in the same process asks [`SledInbox`], in its own session, whether an event is new to it. Who listens for
//! [wake-ups](outbox_traits::WakeStore) hears of every commit of the process.
//!
//! Workers of that process deliver at once by [claims](outbox_traits::ClaimStore). A lease outlives the process that
//! held it, and runs out when its time has come, as a started attempt.
//!
//! # What survives
//!
//! A commit, an acknowledgement, a claim, a settlement and a purge return only after a flush; those that wait at the same time share one. A
//! fetch returns no event that is not flushed, so that nothing is delivered that a crash takes back.
//!
//! - **The process dies**, even by `kill -9`: nothing is lost of what has returned, and a unit of work is there as a
//!   whole or not at all. (Sled on its own flushes every 500 ms, and loses what it has not.)
//! - **The machine dies**: on Linux a flush of sled 0.34 is a `sync_file_range`, not an `fsync`. It waits until the
//!   pages are handed to the drive, but neither makes the drive empty its cache nor writes the file's new length. An
//!   `fsync` follows from sled's own thread, by default within 500 ms. Writes of more than about 128 KiB go to files
//!   of their own, which sled 0.34 never syncs, on any system. So the last moments before a power cut can be lost,
//!   and the other stores promise more.
//! - A data base that was opened as [`temporary`](sled::Config::temporary) waits for no disk at all.
//!
//! # Nothing waits on the runtime's threads
//!
//! A transaction of sled holds a lock of the whole process, and a flush waits for the disk. Changes are made by a
//! thread of the outbox's own, and reads, and the purge of an inbox, by the blocking threads of tokio.

mod claim;
mod clock;
mod dead_letter;
mod error;
mod inbox;
mod keys;
mod lost;
mod peers;
mod reservations;
mod row;
mod session;
mod stats;
mod store;
mod transaction;
mod trees;
mod view;
mod wake;
mod writer;

pub use sled;

pub use crate::{
    inbox::{SledInbox, SledInboxTransaction},
    session::SledSession,
    store::SledOutbox,
    transaction::SledTransaction,
};

//! The contract of the transactional outbox as a test suite for any store, and for any [transport].
//!
//! Write a [`Harness`] of some sixty lines for your store and name it in a test file:
//!
//! ```
//! # mod example {
//! use std::sync::Arc;
//! use chrono::{DateTime, Utc};
//! use outbox_conformance::{Harness, SessionOf, Skip};
//! use outbox_memory::{ManualClock, MemoryOutbox, MemorySession};
//! # use std::{sync::Mutex, time::Duration};
//! # use outbox_traits::{async_trait, EventId};
//!
//! struct Memory {
//!     store: MemoryOutbox,
//!     clock: ManualClock,
//!     rows: Arc<Mutex<Vec<String>>>,
//! }
//!
//! #[async_trait]
//! impl Harness for Memory {
//!     type Store = MemoryOutbox;
//!     type Transaction = MemorySession;
//!
//!     async fn open() -> Result<Self, Skip> {
//!         let clock = ManualClock::new();
//!         Ok(Self { store: MemoryOutbox::with_clock(&clock), clock, rows: Arc::default() })
//!     }
//!     fn store(&self) -> &MemoryOutbox {
//!         &self.store
//!     }
//!     // …
//! #    async fn begin(&self) -> MemorySession { self.store.begin() }
//! #    fn session<'a>(&self, transaction: &'a mut MemorySession) -> &'a mut MemorySession { transaction }
//! #    async fn commit(&self, transaction: MemorySession) { transaction.commit(); }
//! #    async fn rollback(&self, transaction: MemorySession) { transaction.rollback(); }
//! #    async fn write_row(&self, key: &str, session: &mut MemorySession) {
//! #        let (rows, key) = (Arc::clone(&self.rows), key.to_owned());
//! #        session.on_commit(move || rows.lock().unwrap().push(key));
//! #    }
//! #    async fn rows(&self) -> Vec<String> { self.rows.lock().unwrap().clone() }
//! #    async fn insert_undecodable(&self, id: EventId) { self.store.insert_undecodable(id, "broken", "{"); }
//! #    async fn now(&self) -> DateTime<Utc> { self.clock.now() }
//! #    async fn advance(&self, by: Duration) { self.clock.advance(by); }
//! }
//!
//! // One named test for each clause, in a module for each group.
//! outbox_conformance::suite!(Memory; store, concurrent, dead_letter, resource);
//! // Random histories, each against a plain list.
//! outbox_conformance::model!(Memory, 64);
//! # }
//! ```
//!
//! # Groups
//!
//! | group | what it needs | what it checks |
//! |---|---|---|
//! | `store` | [`Harness`] | events, save, order, `get_pending`, acknowledge, purge |
//! | `concurrent` | [`Harness`] | what takes two open sessions that write at once; an engine with one writer leaves it out |
//! | `durable` | [`DurableHarness`] | closing and reopening, and `kill -9` |
//! | `schema` | [`SchemaHarness`] | `migrate`, `verify`, errors of the driver |
//! | `names` | [`NamesHarness`] | names that the user chooses, what is in the way of them, and what is missing |
//! | `claim_names` | [`NamesHarness`], a [`SchemaStore`](outbox_traits::SchemaStore) that is a [`ClaimStore`](outbox_traits::ClaimStore), a [`DeadLetterStore`](outbox_traits::DeadLetterStore) and a [`StatsStore`](outbox_traits::StatsStore) | claims under such names |
//! | `inbox_names` | [`InboxNamesHarness`], a [`SchemaStore`](outbox_traits::SchemaStore) | the same of inboxes |
//! | `migration` | [`MigrationHarness`] | a schema that is made by hand |
//! | `inbox_migration` | [`InboxMigrationHarness`] | the same of inboxes |
//! | `expiry` | [`ExpiryHarness`], a [`SchemaStore`](outbox_traits::SchemaStore) that is a [`ClaimStore`](outbox_traits::ClaimStore) and a [`DeadLetterStore`](outbox_traits::DeadLetterStore), with an inbox that is a [`SchemaStore`](outbox_traits::SchemaStore) | what the engine deletes by itself, by age; one that cannot leaves it out |
//! | `elsewhere` | [`ElsewhereHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) and a [`StatsStore`](outbox_traits::StatsStore) | what programs write and read that do without this library |
//! | `loss` | [`LossHarness`], a [`SchemaStore`](outbox_traits::SchemaStore) that is a [`ClaimStore`](outbox_traits::ClaimStore), a [`DeadLetterStore`](outbox_traits::DeadLetterStore) and a [`StatsStore`](outbox_traits::StatsStore) | what somebody has dropped beside the events |
//! | `refusal` | [`RefusalHarness`] | what the engine refuses for reasons that are not the outbox's |
//! | `fault` | [`FaultHarness`] | what the engine answers at times, such as a deadlock: its kind, what is tried again, and that nothing is half done |
//! | `claim_fault` | [`FaultHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | the same of claims, settlements and dead letters |
//! | `inbox_fault` | [`FaultHarness`], [`InboxHarness`] | the same of the inbox |
//! | `dead_letter` | a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | what is set aside, requeue, discard |
//! | `claim` | a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | leases, fences, retries, the order of each key |
//! | `claim_concurrent` | a [`ClaimStore`](outbox_traits::ClaimStore) | claims while other sessions are open; left out as `concurrent` is |
//! | `claim_peer` | [`WakeHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) | claims of several processes on one outbox |
//! | `claim_durable` | [`DurableHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | what claims and settlements have written, after closing and reopening, and `kill -9` |
//! | `claim_schema` | [`SchemaHarness`], a [`SchemaStore`](outbox_traits::SchemaStore) that is a [`ClaimStore`](outbox_traits::ClaimStore) and a [`StatsStore`](outbox_traits::StatsStore) | claims where a database has several outboxes |
//! | `stats` | a [`StatsStore`](outbox_traits::StatsStore) with claims and dead letters | counts by state, and the age of the oldest |
//! | `cost` | [`CostHarness`] | that a call reads no more where there is much that it is not about; an engine that counts nothing leaves it out |
//! | `claim_cost` | [`CostHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) | the same of claims and settlements |
//! | `outage` | [`OutageHarness`] | calls that are cut off at each message, and a server that is away for a while |
//! | `claim_outage` | [`OutageHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) and a [`StatsStore`](outbox_traits::StatsStore) | the same of claims and settlements |
//! | `claim_meeting` | [`OutageHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | calls that another process comes in between, at each message |
//! | `stats_outage` | [`OutageHarness`], a [`ClaimStore`](outbox_traits::ClaimStore) that is a [`StatsStore`](outbox_traits::StatsStore) | what is counted after a call that was cut off |
//! | `wake_outage` | [`OutageHarness`], a [`WakeStore`](outbox_traits::WakeStore) | the same of those who listen |
//! | `wake` | a [`WakeStore`](outbox_traits::WakeStore), [`WakeHarness`] | wake-ups after a commit |
//! | `wake_concurrent` | the same | of several sessions that are open at once; left out as `concurrent` is |
//! | `claim_wake` | the same, a [`ClaimStore`](outbox_traits::ClaimStore), a [`DeadLetterStore`](outbox_traits::DeadLetterStore) | wake-ups for what can be claimed again |
//! | `inbox` | [`InboxHarness`] | what a consumer has processed, once |
//! | `resource` | [`Harness`] | resource events |
//!
//! A group whose capability the store lacks does not compile.
//!
//! # Both retentions
//!
//! A store that can delete on delivery is run a second time, with a harness whose
//! [`retention`](Harness::retention) says so; the clauses then expect what that promises.
//!
//! # When a server is missing
//!
//! [`Harness::open`] returns [`Skip`]. The test then says so on standard error, in a line that begins with
//! `SKIPPED`, and passes; with `OUTBOX_TEST_REQUIRE=1` in the environment it fails instead.

pub mod clauses;
mod harness;
mod model;
mod patience;
mod proxy;
mod run;
mod support;
pub mod transport;

pub use crate::{
    harness::{
        CostHarness, DurableHarness, ElsewhereHarness, ExpiryHarness, Fault, FaultHarness, Filled, Harness,
        InboxHarness, InboxMigrationHarness, InboxNamesHarness, Loss, LossHarness, MigrationHarness,
        NamesHarness, OutageHarness, RefusalHarness, SchemaHarness, SessionOf, Skip, WakeHarness,
        WrittenDead,
    },
    proxy::Proxy,
    run::{Clause, require},
};

#[doc(hidden)]
pub mod __private {
    pub use crate::{
        model::{check_claim_model, check_model},
        patience::expect_faults,
        run::{clause, durable_clause, run, run_claim_durable, run_durable, run_transport, transport_clause},
    };
}

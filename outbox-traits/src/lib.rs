//! The core of the transactional outbox: what an event is, what a store promises, where events go.
//!
//! A service changes its database and must tell others. This crate is the small, slow-changing
//! part that every other crate of the workspace agrees on:
//!
//! - [`DomainEvent`] is a fact of your domain, [`Event`] the envelope in which a store keeps it;
//! - [`OutboxStore`] is the contract of a store. [`OutboxStoreExt::enqueue`] is what applications call;
//! - [`SchemaStore`], [`ClaimStore`], [`DeadLetterStore`], [`StatsStore`] and [`WakeStore`] are capabilities of their
//!   own, so that a store which lacks one does not compile where it is needed;
//! - [`InboxStore`] is the other end: what a consumer has processed already;
//! - [`Transport`] is where a relay publishes events;
//! - [`resource`] turns the creates, updates and deletes of a repository into events.
//!
//! It names no database and no runtime.
//!
//! ```
//! use outbox_traits::Event;
//! use serde_json::json;
//!
//! let event = Event::new("order.placed", json!({ "total": 4200 }))?
//!     .with_resource("order", "o-17")
//!     .with_header("tenant", "acme");
//! assert_eq!(event.partition_key(), Some("o-17"));
//! # Ok::<(), outbox_traits::Error>(())
//! ```
//!
//! # Features
//!
//! - `derive`: `#[derive(DomainEvent)]`. Off by default.

mod call_time;
mod claim;
mod dead_letter;
mod domain_event;
mod encoded;
mod error;
mod event;
mod event_id;
mod inbox;
mod meta;
pub mod resource;
mod retention;
mod schema;
mod stats;
mod store;
mod store_ext;
mod transport;
mod wake;

pub use async_trait::async_trait;
#[cfg(feature = "derive")]
pub use outbox_derive::DomainEvent;

pub use crate::{
    call_time::{is_call_to_end, limit_call},
    claim::{Claim, ClaimStore, Lease, Leased, Outcome, Settlement},
    dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterStore, MAX_REASON_CHARS},
    domain_event::{DomainEvent, IntoEvent},
    encoded::{EncodedEvent, MAX_ENCODED_BYTES},
    error::{Error, ErrorKind, Result},
    event::{Event, MAX_NESTING, MAX_TYPE_CHARS},
    event_id::EventId,
    inbox::{InboxStore, MAX_CONSUMER_CHARS, Receipt, check_consumer},
    meta::Meta,
    retention::Retention,
    schema::{SchemaReport, SchemaStore},
    stats::{Stats, StatsStore},
    store::{OutboxStore, Saved},
    store_ext::OutboxStoreExt,
    transport::{PublishError, PublishErrorKind, Published, Transport, publish_in_order},
    wake::{WakeStore, Wakeups},
};

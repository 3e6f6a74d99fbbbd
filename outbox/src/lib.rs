//! The transactional outbox: events that are committed with your data and delivered at least once, in order.
//!
//! A service that changes its database and then tells others can crash in between. It writes the event into a
//! table beside the data instead, in the same transaction, and a relay publishes from there: what was rolled
//! back is never told, and what was committed is never lost.
//!
#![cfg_attr(all(feature = "sqlite", feature = "json-lines", feature = "derive"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "sqlite", feature = "json-lines", feature = "derive")), doc = "```ignore")]
//! use outbox::{
//!     DomainEvent, OutboxStoreExt, SchemaStore, SqliteOutbox, sqlx,
//!     relay::{CancellationToken, Relay},
//!     transport::JsonLines,
//! };
//! use serde::Serialize;
//!
//! #[derive(Serialize, DomainEvent)]
//! #[domain_event(type = "order.placed", resource = "order")]
//! struct OrderPlaced {
//!     #[domain_event(resource_id)]
//!     order_id: String,
//!     total: u64,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
//! let outbox = SqliteOutbox::new(pool.clone());
//! outbox.migrate().await?;
//!
//! sqlx::query("CREATE TABLE IF NOT EXISTS orders (id TEXT, total INTEGER)").execute(&pool).await?;
//!
//! // Everything that was committed is appended to a file, and so is what will be.
//! let shutdown = CancellationToken::new();
//! let relay = Relay::new(outbox.clone(), JsonLines::append("events.jsonl").await?);
//! let stop = shutdown.clone();
//! let publishing = tokio::spawn(async move { relay.run(stop).await });
//!
//! // The order and its event, or neither.
//! let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
//! sqlx::query("INSERT INTO orders (id, total) VALUES ('o-17', 4200)").execute(&mut *transaction).await?;
//! let event = OrderPlaced { order_id: "o-17".into(), total: 4200 };
//! outbox.enqueue(&event, &mut transaction).await?;
//! transaction.commit().await?;
//!
//! shutdown.cancel();
//! println!("{}", publishing.await??);
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! - Events and their rules: [`Event`], [`Meta`], [`DomainEvent`].
//! - What an application calls: [`OutboxStoreExt::enqueue`].
//! - What a store promises: [`OutboxStore`]; what some stores can do besides: [`SchemaStore`],
//!   [`ClaimStore`], [`DeadLetterStore`], [`StatsStore`], [`WakeStore`].
//! - What a consumer asks, so that it processes an event once: [`InboxStore`].
//! - Events for the writes of a repository: [`resource`].
//! - Where events go: [`Transport`].
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `derive` | `#[derive(DomainEvent)]`; on by default |
//! | `memory` | `memory::MemoryOutbox`, a store for tests, with a manual clock |
//! | `sqlite` | `SqliteOutbox` and `SqliteInbox`, with SQLite itself built in |
//! | `postgres` | `PgOutbox` and `PgInbox` |
//! | `mysql` | `MySqlOutbox` and `MySqlInbox`, for MySQL and MariaDB |
//! | `mongodb` | `MongoOutbox` and `MongoInbox`, with the official driver |
//! | `sled` | `SledOutbox` and `SledInbox`, embedded |
//! | `relay` | `relay::Relay` |
//! | `metrics` | `relay`, which counts and measures by the facade of the crate `metrics` |
//! | `opentelemetry` | `relay`, whose publishes go on in the trace of the event's producer, and `EventTrace`, by which it gets there |
//! | `in-process` | `relay`, and `transport::InProcess`: functions of the same program |
//! | `json-lines` | `relay`, and `transport::JsonLines`: lines of JSON, to a file or any writer |
//! | `nats` | `relay`, and `transport::Nats`: NATS JetStream |
//! | `http` | `relay`, and `transport::Http`: webhooks, signed |
//! | `kafka` | `relay`, and `transport::Kafka`; it compiles librdkafka, which wants compilers of C and C++, and make |
//! | `rabbitmq` | `relay`, and `transport::RabbitMq` |
//! | `redis` | `relay`, and `transport::RedisStreams` |
//! | `message` | `relay`, and `transport::message`: events as CloudEvents, for a transport of one's own |
//!
//! With one of the three SQL stores there is also `sqlx`, whose types are their sessions, and with the others
//! `mongodb` and `sled`.
//!
//! This crate has no code of its own. A library that defines a store or a transport depends on the smaller
//! `outbox-traits`, whose items these are.

pub use outbox_traits::*;

#[cfg(feature = "memory")]
#[doc(inline)]
pub use outbox_memory as memory;

#[cfg(feature = "mongodb")]
#[doc(inline)]
pub use outbox_mongo::{MongoInbox, MongoOutbox, driver_error, mongodb};

#[cfg(feature = "sled")]
#[doc(inline)]
pub use outbox_sled::{SledInbox, SledOutbox, SledSession, sled};

#[cfg(feature = "mysql")]
pub use outbox_sqlx::{MySqlInbox, MySqlOutbox};
#[cfg(feature = "postgres")]
pub use outbox_sqlx::{PgInbox, PgOutbox};
#[cfg(feature = "sqlite")]
pub use outbox_sqlx::{SqliteInbox, SqliteOutbox};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use outbox_sqlx::{SqlxInbox, SqlxOutbox, sqlx};

/// The relay, which moves pending events to a transport.
#[cfg(feature = "relay")]
pub mod relay {
    #[cfg(feature = "metrics")]
    pub use outbox_delivery::report_stats;
    pub use outbox_delivery::{
        CancellationToken, Claims, Decision, ExponentialRetry, Failed, Health, IntoStore, Relay, Report,
        RetryPolicy, SingleWorker, Unhealthy,
    };
}

#[cfg(feature = "opentelemetry")]
pub use outbox_delivery::EventTrace;

#[cfg(feature = "relay")]
#[doc(inline)]
pub use outbox_delivery::transport;

/// The examples of the README, compiled.
#[cfg(all(
    doctest,
    feature = "derive",
    feature = "json-lines",
    feature = "memory",
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "sled",
    feature = "sqlite"
))]
#[doc = include_str!("../../README.md")]
struct Readme;

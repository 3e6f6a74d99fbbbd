//! The transactional outbox on PostgreSQL, MySQL, MariaDB and SQLite, through [`sqlx`].
//!
//! [`SqlxOutbox`] keeps events in a table beside your own, so that an event is written in the very
//! transaction of the change that it tells of. The session is sqlx's connection: a transaction, a savepoint, a
//! pooled and a plain connection all serve.
//!
#![cfg_attr(feature = "sqlite", doc = "```no_run")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use outbox_sqlx::{SqliteOutbox, sqlx};
//! use outbox_traits::{Event, OutboxStoreExt, SchemaStore};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
//! let outbox = SqliteOutbox::new(pool.clone());
//! outbox.migrate().await?;
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("INSERT INTO orders (id) VALUES (?)").bind(17).execute(&mut *transaction).await?;
//! let event = Event::new("order.placed", json!({ "total": 4200 }))?.with_resource("order", "17");
//! outbox.enqueue(event, &mut transaction).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # sqlx
//! Its types are part of this API, so its version is too: it is re-exported as [`sqlx`]. Its features are
//! yours to choose: a dependency `sqlx = { version = "0.9", features = ["tls-rustls"] }` beside this one gives
//! connections TLS. MySQL 8.0 and later let a password through by TLS, or by the feature `mysql-rsa`. The runtime is
//! Tokio.
//!
//! # The table
//! [`migrate`](outbox_traits::SchemaStore::migrate) creates it; the directory `migrations` has the same as plain
//! SQL files, and [`SqlxOutbox::migration_sql`] as text for names of your choice. An event is a row from its
//! save until it is purged or discarded, or delivered where that is to delete it, and its column `status` says which state it is in. Beside it stand
//! `outbox_version`, and what claims need: `outbox_lease`, with a row for each claim that is not settled, and
//! `outbox_key` and `outbox_parked`, with rows for partition keys and events that wait. PostgreSQL 14,
//! MySQL 8.0, MariaDB 10.6 and SQLite 3.35 are the oldest versions.
//!
//! # Wake-ups
//! Who listens ([`WakeStore`](outbox_traits::WakeStore)) hears of commits of this process and of others, the
//! caller's own transactions included: on PostgreSQL by `NOTIFY` after the commit, on MySQL, MariaDB and SQLite by
//! looking, often after a save and seldom when nothing happens. The commit of a transaction is looked out for as
//! long as the store is there: keep one and clone it, rather than make one for each transaction.
//!
//! # The inbox
//! [`SqlxInbox`] is for the other side: a table beside a consumer's own, which says in its transaction whether it has
//! processed an event already.
//!
//! # Features
//! - `postgres`: [`sqlx::Postgres`].
//! - `mysql`: [`sqlx::MySql`], for MySQL and MariaDB.
//! - `sqlite`: [`sqlx::Sqlite`], with SQLite itself built in.
//!
//! None is on by default.

#![cfg_attr(
    not(all(feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports, reason = "each engine uses a part of what they share")
)]

mod claims;
mod dead_letter;
mod dialect;
mod error;
mod inbox;
#[cfg(feature = "mysql")]
mod mysql;
mod names;
#[cfg(all(test, feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod plans;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stats;
mod store;
mod wake;

pub use sqlx;

#[cfg(feature = "mysql")]
pub use crate::inbox::MySqlInbox;
#[cfg(feature = "postgres")]
pub use crate::inbox::PgInbox;
#[cfg(feature = "sqlite")]
pub use crate::inbox::SqliteInbox;
#[cfg(feature = "mysql")]
pub use crate::mysql::MySqlOutbox;
#[cfg(feature = "postgres")]
pub use crate::postgres::PgOutbox;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::SqliteOutbox;
pub use crate::{dialect::Dialect, inbox::SqlxInbox, store::SqlxOutbox};

//! The transactional outbox on MongoDB, through the official driver.
//!
//! [`MongoOutbox`] keeps events in a collection beside your own, so that an event is written in the very transaction
//! of the change that it tells of. The session is the driver's [`ClientSession`](mongodb::ClientSession), with an
//! open transaction.
//!
//! ```no_run
//! use mongodb::{Client, bson::{Document, doc}};
//! use outbox_mongo::{MongoOutbox, mongodb};
//! use outbox_traits::{Event, OutboxStoreExt, SchemaStore};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::with_uri_str("mongodb://localhost/?replicaSet=rs0").await?;
//! let shop = client.database("shop");
//! let outbox = MongoOutbox::new(&shop);
//! outbox.migrate().await?;
//!
//! let mut session = client.start_session().await?;
//! session.start_transaction().await?;
//! shop.collection::<Document>("orders").insert_one(doc! { "_id": 17 }).session(&mut session).await?;
//! let event = Event::new("order.placed", json!({ "total": 4200 }))?.with_resource("order", "17");
//! outbox.enqueue(event, &mut session).await?;
//! session.commit_transaction().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A transaction may meet another and have to be run again. The driver has a helper for that, and [`driver_error`]
//! shows how to use it with an outbox.
//!
//! # The server
//! MongoDB 5.0 or later (it is tested on 6.0), as a replica set, which may be of one member: a server on its own has no transactions.
//! Behind `mongos` the collection must not be sharded, because its order is that of one clock; those of the business
//! may be.
//!
//! # The documents
//! [`migrate`](outbox_traits::SchemaStore::migrate) creates the collection and its indexes. An event is a document
//! from its save until it is purged or discarded, in the shape that the TypeScript outbox gave it, so that what was
//! written for that one reads, writes and delivers here too:
//!
//! | field | what it holds |
//! |---|---|
//! | `eventId`, `type` | texts |
//! | `payload`, `meta` | the values themselves, as sub-documents; `meta.timestamp` is a text as in JSON, and a date is read as well |
//! | `status` | `pending`, `delivered`, `dead_letter`, or `scheduled`: hidden until `notBefore` has come, and then pending; or `parked`: pending, and out of the order of all, because its key is busy or it waits for a retry |
//! | `createdAt` | by the application's clock, for people only: an insert knows no other |
//! | `deliveredAt`, `deadAt` | by the server's clock |
//! | `seq` | the order of the outbox: the server's own, ever-growing timestamp of the insert |
//! | `notBefore`, `idempotencyKey` | where the event has them |
//! | `payloadJson`, `metaJson` | the value as text, and then it counts: only where BSON cannot hold it exactly |
//! | `retryAt` | of what is parked: no earlier than this, if it failed |
//! | `partitionHash` | of the partition key or, where there is none, of the id, for workers that share the outbox |
//! | `attempts`, `failures`, `firstFailedAt`, `lastFailedAt`, `lastError` | of deliveries that were started, and that failed |
//! | `holdsKey` | of a dead letter whose key waits for it |
//! | `standInId` | an id for a dead document that has none of its own |
//!
//! BSON cannot hold whole numbers beyond 64 signed bits, a NUL in a name, and documents beyond 16 MiB, which JSON of
//! half the size can become. Beside the text the value is then the nearest that BSON has or, if it is too large,
//! `null`.
//!
//! # Claims
//! Beside the collection, here called `outbox`, are two more. `outbox.leases` has a document for each claim whose
//! leases are held, with its events in a list, so that a claim writes one document and not one for each event; and
//! two more: the lock of claims, renewals, failures, and acknowledgements of what is leased or parked, and a list of the
//! sessions that take it. They are transactions that write it, of which one at a time goes on; writers of events never
//! wait for them, and neither do settlements of what was delivered. One whose process dies in the middle of it holds up
//! the others for some seconds: then they end it, if they have the same user. Else the server gives it up by itself, by
//! default after a minute. `outbox.keys` has a document for each key of parked events, which says when they are ready,
//! and by which dead letters it is held, if it is: then they are never ready. All that these documents say can be told from
//! the events, too: where they were lost, [`migrate`](outbox_traits::SchemaStore::migrate) makes them anew.
//!
//! A leased event is `pending` or `parked` in its own document. So a reader of the TypeScript shape must not deliver
//! from a collection from which others claim, and neither should [`get_pending`](outbox_traits::OutboxStore::get_pending)
//! be delivered from beside them. An event without a `partitionHash`, which was written elsewhere, is claimed as one
//! without a key.
//!
//! # Wake-ups
//! [`wakeups`](outbox_traits::WakeStore::wakeups) opens a change stream on the collection, and so hears of every commit,
//! in whatever process and whatever language, as soon as a majority has it. There is no other notice within a process,
//! which would be no sooner.
//!
//! # The inbox
//! A consumer that keeps its own data in MongoDB asks [`MongoInbox`], in the transaction of its work, whether an event is
//! new to it.
//!
//! # The driver
//! Its types are part of this API, so its version is too: it is re-exported as [`mongodb`], and its `bson` is the
//! one of version 3, here and wherever else it is used in the same program. It is built with `rustls-tls` and without
//! DNS; a dependency `mongodb = { version = "3.9", features = ["dns-resolver"] }` beside this one adds addresses that
//! begin with `mongodb+srv`, and its other features as well.

mod claims;
mod collection;
mod dead_letter;
mod document;
mod error;
mod inbox;
mod indexes;
mod json;
mod pending;
mod purge;
mod schema;
mod session;
mod stats;
mod store;
mod wake;

pub use mongodb;

pub use crate::{error::driver_error, inbox::MongoInbox, store::MongoOutbox};

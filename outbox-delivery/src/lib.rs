//! The relay of the transactional outbox, and transports for it.
//!
//! A [`Relay`] takes the pending events of a store, publishes them through a
//! [`Transport`](outbox_traits::Transport) and marks as delivered what the transport accepted.
//!
//! ```
//! # #[cfg(feature = "in-process")]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use outbox_delivery::{Relay, transport::InProcess};
//! use outbox_memory::MemoryOutbox;
//! use outbox_traits::{Event, OutboxStore, PublishError};
//! use serde_json::json;
//!
//! let outbox = MemoryOutbox::new();
//! outbox.save(&Event::new("order.placed", json!({ "total": 4200 }))?).await?;
//!
//! let transport = InProcess::new().subscribe("order.*", |event| async move {
//!     println!("{}: {}", event.event_type(), event.payload());
//!     Ok::<_, PublishError>(())
//! });
//! let report = Relay::new(outbox, transport).publish_pending().await?;
//! assert_eq!(report.published, 1);
//! # Ok::<(), outbox_traits::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//!
//! The relay is always there; each transport is a feature, and none is on by default.
//!
//! - `metrics`: the relay counts and measures, by the facade of the crate `metrics`.
//! - `opentelemetry`: the trace of an event's producer goes on in its publish, and `EventTrace` puts it there.
//! - `in-process`: `transport::InProcess`, functions of the same program.
//! - `json-lines`: `transport::JsonLines`, one line of JSON for each event.
//! - `nats`: `transport::Nats`, NATS JetStream.
//! - `http`: `transport::Http`, signed webhooks.
//! - `kafka`: `transport::Kafka`. It compiles librdkafka, which wants compilers of C and C++, and make.
//! - `rabbitmq`: `transport::RabbitMq`.
//! - `redis`: `transport::RedisStreams`.
//! - `message`: `transport::message`, events as CloudEvents, for a transport of one's own; every transport to a
//!   broker brings it.

mod blame;
mod call_time;
mod claims;
#[cfg(feature = "metrics")]
mod gauges;
mod guard;
mod header;
mod health;
mod housekeeping;
mod into_store;
mod lanes;
mod meter;
mod policy;
mod publish;
mod record;
mod relay;
mod report;
mod retry;
mod single_worker;
mod spans;
#[cfg(feature = "opentelemetry")]
mod trace_context;
pub mod transport;
mod wake;

pub use tokio_util::sync::CancellationToken;

#[cfg(feature = "metrics")]
pub use crate::gauges::report_stats;
#[cfg(feature = "opentelemetry")]
pub use crate::trace_context::EventTrace;
pub use crate::{
    health::{Health, Unhealthy},
    into_store::IntoStore,
    policy::{Decision, ExponentialRetry, Failed, RetryPolicy},
    relay::{Claims, Relay, SingleWorker},
    report::Report,
};

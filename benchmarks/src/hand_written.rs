//! What a team writes for itself with sqlx: an event, and a few functions for each engine.
//!
//! It keeps an event with its id, type, payload and meta; a duplicate id is skipped without an error; a
//! fetch is first in, first out and walks along a partial index; an acknowledgement is idempotent. It has
//! none of the rest: no idempotency keys, no delayed events, no order of keys, no dead letters, no answer for each event
//! of a batch, no check of what it is given.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Pool;
use uuid::Uuid;

use crate::{
    claims::{Taker, Way},
    engine::Engine,
    job::Order,
};

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) payload: Value,
    pub(crate) meta: Meta,
}

/// What is known about it beside its payload.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    timestamp: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

impl Event {
    /// That an order was placed.
    pub(crate) fn of(order: &Order) -> Result<Self> {
        Ok(Self {
            id: Uuid::now_v7(),
            kind: Order::EVENT.to_owned(),
            payload: serde_json::to_value(order)?,
            meta: Meta {
                timestamp: Utc::now(),
                resource: Some("order".to_owned()),
                resource_id: Some(order.number.to_string()),
                user_id: Some(order.customer().to_owned()),
                source: Some("shop".to_owned()),
                headers: BTreeMap::from([("traceparent".to_owned(), order.trace())]),
                ..Meta::default()
            },
        })
    }
}

/// The functions, and the tables that they and the business of both sides need.
pub(crate) trait HandWritten: Engine {
    /// How a transaction that writes begins.
    const BEGIN: &'static str;

    /// The business table, which both sides have.
    const BUSINESS: &'static str;

    /// The table of events and its index.
    const SCHEMA: &'static str;

    /// Empties all tables of a side.
    const CLEAR: &'static str;

    /// Empties the tables that the outbox has beside its events.
    const CLEAR_CLAIMS: &'static str;

    /// Does at once what the engine would do in its own time after a table was filled.
    const SETTLE: &'static str;

    /// The same after a few thousand events were added or taken.
    const TIDY: &'static str;

    /// The business row, on both sides.
    async fn place_order(connection: &mut Self::Connection, order: &Order) -> sqlx::Result<()>;

    /// Saves one event and says whether it was new.
    async fn save_one(connection: &mut Self::Connection, event: &Event) -> Result<bool>;

    /// Saves events in their order and says how many were new.
    async fn save_batch(connection: &mut Self::Connection, events: &[Event]) -> Result<u64>;

    /// The first pending events.
    async fn fetch(pool: &Pool<Self>, limit: i64) -> Result<Vec<Event>>;

    /// Marks events as delivered, where they are pending.
    async fn mark_delivered(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()>;

    /// How workers take events from the table.
    fn takers(pool: &Pool<Self>) -> Vec<(Way, Arc<dyn Taker>)>;
}

//! What the suite must be told about a transport.

use std::{collections::BTreeMap, time::Duration};

use outbox_traits::{Event, EventId, Transport, async_trait};
use serde_json::Value;

use crate::Skip;

/// A fresh transport for one test, and the consumer at its other end.
///
/// All but [`open`](Self::open) are free to panic: that fails the test.
#[async_trait]
pub trait TransportHarness: Sized + Send + Sync + 'static {
    /// The transport under test.
    type Transport: Transport;

    /// A fresh transport to a place of its own, where nothing has arrived yet: a stream, a queue, a file.
    async fn open() -> Result<Self, Skip>;

    /// The transport.
    fn transport(&self) -> &Self::Transport;

    /// All that has arrived since [`open`](Self::open), in the order in which a consumer sees it: what was accepted
    /// before the call is in it. Read it as a consumer does, and not by the code that wrote it. What is in a place that
    /// the suite has taken away need not be in it.
    async fn received(&self) -> Vec<Received>;

    /// Removes what [`open`](Self::open) made on a server. Called when the test passed.
    async fn close(&self) {}
}

/// A transport that does not take everything.
#[async_trait]
pub trait RefusingHarness: TransportHarness {
    /// An event that is larger than the transport or its broker takes, without a partition key.
    fn too_large(&self) -> Event;
}

/// A transport whose broker, or other end, the suite may stop and start.
#[async_trait]
pub trait OutageHarness: TransportHarness {
    /// Stops the broker as `kill -9` does: connections break, and new ones are refused.
    async fn stop(&self);

    /// Starts it again at the same address, with the data that it kept, and returns when it takes connections.
    async fn start(&self);

    /// How long a call may take at most while the broker is down, and how soon after its return the transport must
    /// work again. It only bounds a failing test: one minute, unless told otherwise.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A transport that brings events to several places, one of which the suite may take away: a queue, a stream, a topic or
/// the broker that has it.
#[async_trait]
pub trait PartHarness: TransportHarness {
    /// Has the place of the events of the type [`PART`](super::part::PART) take none, while all other places do. To it
    /// goes nothing else.
    async fn take_away(&self);

    /// Has it take events again, with what had arrived there.
    async fn bring_back(&self);

    /// How long a call may take at most meanwhile, and how soon after its return the place must be used again. It only
    /// bounds a failing test: one minute, unless told otherwise.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// What a consumer makes of one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The id of the event.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its payload.
    pub payload: Value,
    /// Its partition key, or the resource id that serves as one.
    pub partition_key: Option<String>,
    /// Its headers, the names in lower case; those that the transport adds may be among them.
    pub headers: BTreeMap<String, String>,
}

impl From<&Event> for Received {
    fn from(event: &Event) -> Self {
        let headers = event.meta().headers.iter();
        Self {
            id: event.id(),
            event_type: event.event_type().to_owned(),
            payload: event.payload().clone(),
            partition_key: event.partition_key().map(str::to_owned),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        }
    }
}

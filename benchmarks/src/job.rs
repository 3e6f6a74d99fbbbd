//! The jobs, and the business that they are about.

use outbox_traits::Event;
use serde::Serialize;

/// How many events a batch has.
pub(crate) const BATCH: usize = 100;
/// How many transactions with one event a round has.
pub(crate) const SINGLES: usize = 50;
/// How many batches a round saves.
pub(crate) const BATCHES: usize = 10;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// `BEGIN`, a business row, one event, `COMMIT`.
    SaveOne,
    /// `BEGIN`, 100 events at once, `COMMIT`.
    SaveBatch,
    /// 100 events fetched and acknowledged, until none is left.
    Drain,
}

impl Job {
    /// In the order in which a round does them: what it saves it drains.
    pub(crate) const ALL: [Self; 3] = [Self::SaveOne, Self::SaveBatch, Self::Drain];

    /// What it is.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SaveOne => "save one per transaction",
            Self::SaveBatch => "save 100 at once",
            Self::Drain => "fetch and acknowledge 100",
        }
    }

    /// How often a round does it.
    pub(crate) fn times(self) -> u32 {
        let times = match self {
            Self::SaveOne => SINGLES,
            Self::SaveBatch => BATCHES,
            Self::Drain => (SINGLES + BATCHES * BATCH).div_ceil(BATCH),
        };
        u32::try_from(times).unwrap_or(u32::MAX)
    }

    /// What share of the speed of the hand-written code it should reach.
    pub(crate) fn aim(self) -> f64 {
        match self {
            Self::SaveOne => 0.95,
            Self::SaveBatch | Self::Drain => 0.9,
        }
    }
}

/// An order, as a shop may have it, and the payload of the event that tells of it: about 250 bytes of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Order {
    /// Its number.
    pub(crate) number: i64,
    customer: String,
    currency: &'static str,
    total: i64,
    lines: Vec<Line>,
    note: Option<String>,
    #[serde(skip)]
    key: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    article: String,
    quantity: u32,
    price: i64,
}

impl Order {
    pub(crate) const EVENT: &'static str = "order.placed";

    /// The order of this number.
    pub(crate) fn new(number: i64) -> Self {
        let line = |line| Line {
            article: format!("article-{}", (number * 7 + line) % 1000),
            quantity: 2,
            price: 1000 + line * 50,
        };
        Self {
            number,
            customer: format!("customer-{}", number % 977),
            currency: "EUR",
            total: 6300,
            lines: (0..3).map(line).collect(),
            note: None,
            key: None,
        }
    }

    /// The same, with another partition key for its event than its own number.
    pub(crate) fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same, with its own number as the partition key.
    pub(crate) fn with_own_key(self) -> Self {
        Self { key: None, ..self }
    }

    pub(crate) fn total(&self) -> i64 {
        self.total
    }

    pub(crate) fn customer(&self) -> &str {
        &self.customer
    }

    /// The trace that its request is part of.
    pub(crate) fn trace(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.number, self.number)
    }

    /// The event, as an application makes it with the library.
    pub(crate) fn event(&self) -> outbox_traits::Result<Event> {
        let event = Event::new(Self::EVENT, self)?
            .with_resource("order", self.number.to_string())
            .with_user_id(self.customer.clone())
            .with_source("shop")
            .with_header("traceparent", self.trace());
        Ok(match &self.key {
            Some(key) => event.with_partition_key(key.as_str()),
            None => event,
        })
    }
}

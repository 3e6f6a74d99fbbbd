//! The statements that the library runs, as sqlx reports them.

use std::{
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes down every statement from now on.
pub(crate) fn listen() -> Result<()> {
    Ok(tracing::subscriber::set_global_default(Listener)?)
}

/// The statements since the last time.
pub(crate) fn take() -> Vec<String> {
    std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Hears what sqlx reports about each statement, and nothing else.
#[derive(Debug)]
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(statement.text());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A statement stands in the summary where it is short, and else in full beside it.
#[derive(Default)]
struct Statement {
    summary: String,
    full: String,
}

impl Statement {
    fn text(self) -> String {
        let text = if self.full.trim().is_empty() { self.summary } else { self.full };
        text.trim().to_owned()
    }
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.full),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

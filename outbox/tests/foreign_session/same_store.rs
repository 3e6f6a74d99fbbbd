//! The repository writes to SQLite, and so does the outbox.

mod repository;

use outbox::{
    SqliteOutbox,
    resource::{Outboxed, ResourceEvents},
};

fn wire(outbox: SqliteOutbox) -> Outboxed<repository::Orders, SqliteOutbox> {
    Outboxed::new(repository::Orders, ResourceEvents::new(outbox, "order"))
}

fn main() {
    let _ = wire;
}

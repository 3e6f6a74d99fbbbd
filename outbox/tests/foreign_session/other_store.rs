//! The repository writes to SQLite; the outbox is in memory, where no transaction of SQLite reaches.

mod repository;

use outbox::{
    memory::MemoryOutbox,
    resource::{Outboxed, ResourceEvents},
};

fn wire(outbox: MemoryOutbox) {
    Outboxed::new(repository::Orders, ResourceEvents::new(outbox, "order"));
}

fn main() {
    let _ = wire;
}

//! The contract, kept by the in-memory store.

mod harness;

use harness::Memory;

outbox_conformance::suite!(Memory; store, concurrent, dead_letter, claim, resource);
outbox_conformance::model!(Memory, 256);

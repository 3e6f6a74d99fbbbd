//! The contract, kept by the in-memory store.

mod harness;

use harness::Memory;

outbox_conformance::suite!(Memory; store, concurrent, dead_letter, claim, stats, resource);
outbox_conformance::model!(Memory, 256);
outbox_conformance::claim_model!(Memory, 256);

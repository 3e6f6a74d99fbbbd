//! The contract, kept by the store on sled.

mod harness;

use harness::Sled;

outbox_conformance::suite!(Sled; store, concurrent, durable, dead_letter, claim, stats, resource);
outbox_conformance::model!(Sled, 64);
outbox_conformance::claim_model!(Sled, 64);

//! The contract, kept on MongoDB.

mod harness;

use harness::Mongo;

outbox_conformance::suite!(Mongo; store, concurrent, durable, schema, dead_letter, claim, stats, resource);
outbox_conformance::model!(Mongo, 24);
outbox_conformance::claim_model!(Mongo, 24);

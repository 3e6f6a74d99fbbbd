//! The contract, kept on MongoDB.

mod harness;

use harness::Mongo;

outbox_conformance::suite!(Mongo; store, concurrent, durable, schema, dead_letter, resource);
outbox_conformance::model!(Mongo, 24);

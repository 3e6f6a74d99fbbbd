//! The contract, kept on MongoDB.

mod harness;

use harness::Mongo;

outbox_conformance::suite!(
    Mongo; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, expiry, elsewhere, loss, refusal, dead_letter, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource, outage, claim_outage, claim_meeting, stats_outage, wake_outage
);
outbox_conformance::model!(Mongo, 24);
outbox_conformance::claim_model!(Mongo, 24);

mod delete_on_delivery {
    use super::harness::DeletingMongo;

    outbox_conformance::suite!(
        DeletingMongo; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, expiry, elsewhere, loss, refusal, dead_letter, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource, outage, claim_outage, claim_meeting, stats_outage, wake_outage
    );
    outbox_conformance::model!(DeletingMongo, 24);
    outbox_conformance::claim_model!(DeletingMongo, 24);
}

/// By a way on which the server has faults.
mod with_faults {
    use super::harness::FaultyMongo;

    outbox_conformance::suite!(FaultyMongo; fault, claim_fault, inbox_fault);
}

mod with_faults_and_delete_on_delivery {
    use super::harness::FaultyDeletingMongo;

    outbox_conformance::suite!(FaultyDeletingMongo; fault, claim_fault, inbox_fault);
}

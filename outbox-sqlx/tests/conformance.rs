//! The contract, kept by each engine.

mod harness;

mod postgres {
    use crate::harness::postgres::Pg;

    outbox_conformance::suite!(Pg; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, outage, claim_outage, claim_meeting, stats_outage, wake_outage);
    outbox_conformance::model!(Pg, 24);
    outbox_conformance::claim_model!(Pg, 24);

    mod delete_on_delivery {
        use crate::harness::postgres::PgDeletes;

        outbox_conformance::suite!(PgDeletes; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, outage, claim_outage, claim_meeting, stats_outage, wake_outage);
        outbox_conformance::model!(PgDeletes, 24);
        outbox_conformance::claim_model!(PgDeletes, 24);
    }
}

mod mysql {
    use crate::harness::mysql::My;

    outbox_conformance::suite!(My; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, outage, claim_outage, claim_meeting, stats_outage, wake_outage);
    outbox_conformance::model!(My, 24);
    outbox_conformance::claim_model!(My, 24);

    mod delete_on_delivery {
        use crate::harness::mysql::MyDeletes;

        outbox_conformance::suite!(MyDeletes; store, concurrent, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_concurrent, claim_durable, claim_schema, stats, cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, outage, claim_outage, claim_meeting, stats_outage, wake_outage);
        outbox_conformance::model!(MyDeletes, 24);
        outbox_conformance::claim_model!(MyDeletes, 24);
    }
}

mod sqlite {
    use crate::harness::sqlite::Lite;

    // It has one writer, so that the group `concurrent` has nothing to ask.
    outbox_conformance::suite!(Lite; store, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_durable, claim_schema, stats, cost, claim_cost, wake, claim_peer, claim_wake, inbox);
    outbox_conformance::model!(Lite, 24);
    outbox_conformance::claim_model!(Lite, 24);

    mod delete_on_delivery {
        use crate::harness::sqlite::LiteDeletes;

        outbox_conformance::suite!(LiteDeletes; store, durable, schema, names, claim_names, inbox_names, migration, inbox_migration, loss, refusal, fault, claim_fault, inbox_fault, dead_letter, resource, claim, claim_durable, claim_schema, stats, cost, claim_cost, wake, claim_peer, claim_wake, inbox);
        outbox_conformance::model!(LiteDeletes, 24);
        outbox_conformance::claim_model!(LiteDeletes, 24);
    }

    // Nobody else can commit there, and so it is another way by which one hears.
    mod in_memory {
        use crate::harness::sqlite::InMemory;

        outbox_conformance::suite!(InMemory; wake, claim_wake);
    }
}

//! The contract, kept by the store on sled.

mod harness;

use harness::Sled;

outbox_conformance::suite!(Sled<false>; store, concurrent, durable, dead_letter, claim, claim_concurrent, claim_durable, stats, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource);
outbox_conformance::model!(Sled<false>, 64);
outbox_conformance::claim_model!(Sled<false>, 64);

mod delete_on_delivery {
    use super::Sled;

    outbox_conformance::suite!(Sled<true>; store, concurrent, durable, dead_letter, claim, claim_concurrent, claim_durable, stats, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource);
    outbox_conformance::model!(Sled<true>, 64);
    outbox_conformance::claim_model!(Sled<true>, 64);
}

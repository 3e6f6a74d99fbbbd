//! The contract, kept by the in-memory store.

mod harness;

use harness::Memory;

outbox_conformance::suite!(Memory<false>; store, concurrent, dead_letter, claim, claim_concurrent, stats, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource);
outbox_conformance::model!(Memory<false>, 256);
outbox_conformance::claim_model!(Memory<false>, 256);

mod delete_on_delivery {
    use super::Memory;

    outbox_conformance::suite!(Memory<true>; store, concurrent, dead_letter, claim, claim_concurrent, stats, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource);
    outbox_conformance::model!(Memory<true>, 256);
    outbox_conformance::claim_model!(Memory<true>, 256);
}

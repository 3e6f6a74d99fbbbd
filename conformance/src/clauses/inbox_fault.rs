//! Section 9.6 for the inbox: what the engine answers at times.

use std::{sync::Arc, time::Duration};

use outbox_traits::{EventId, InboxStore, Receipt};

use super::{
    fault::{FEW, WITHOUT_END, assert_is, conflicts, heal, of_each_kind},
    outage::bounded,
};
use crate::{FaultHarness, InboxHarness};

const CONSUMER: &str = "billing";

async fn mark<H: InboxHarness>(h: &Arc<H>, event: EventId) -> Receipt {
    let mut transaction = h.begin().await;
    let receipt = h.inbox().process_once(h.session(&mut transaction), CONSUMER, event).await;
    h.commit(transaction).await;
    receipt.expect("process_once")
}

/// 9.6 and 12.1: a mark that met a fault is an error of its kind, and when that is over the event is new.
pub async fn a_mark_that_meets_a_fault_is_none<H: FaultHarness + InboxHarness>(h: Arc<H>) {
    for fault in h.faults().iter().filter(|fault| fault.is_of_sessions()) {
        heal(&h, fault).await;
        let event = EventId::new();
        let mut transaction = h.begin().await;
        h.fail(fault, 1).await;
        let marked = h.inbox().process_once(h.session(&mut transaction), CONSUMER, event).await;
        assert_is(&marked.expect_err("the engine has a fault"), fault);
        h.rollback(transaction).await;
        heal(&h, fault).await;
        assert_eq!(mark(&h, event).await, Receipt::New, "{fault:?}");
        assert_eq!(mark(&h, event).await, Receipt::Duplicate, "{fault:?}");
    }
}

/// 9.6 and 12.1: a purge of marks is tried again where another transaction is in the way and goes; where a fault stays, it is an
/// error, and no mark is gone.
pub async fn a_purge_of_marks_tries_again_or_is_an_error<H: FaultHarness + InboxHarness>(h: Arc<H>) {
    let event = EventId::new();
    for fault in conflicts(&h) {
        mark(&h, event).await;
        h.fail(&fault, FEW).await;
        let purged = bounded(h.inbox().purge(Duration::ZERO)).await;
        assert_eq!(purged.expect("the conflict passes"), 1);
        heal(&h, &fault).await;
        assert_eq!(mark(&h, event).await, Receipt::New, "{fault:?}");
    }
    for fault in of_each_kind(&h) {
        h.fail(&fault, WITHOUT_END).await;
        assert_is(&bounded(h.inbox().purge(Duration::ZERO)).await.expect_err("it has a fault"), &fault);
        heal(&h, &fault).await;
        assert_eq!(mark(&h, event).await, Receipt::Duplicate, "{fault:?}");
        assert_eq!(h.inbox().purge(Duration::ZERO).await.expect("purge"), 1);
        mark(&h, event).await;
    }
}

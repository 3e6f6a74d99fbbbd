//! What is written, delivered and read without the store.

use outbox_traits::{Claim, ClaimStore, DeadLetter, Event, EventId, OutboxStore, Settlement};
use serde_json::{Value, json};

use crate::{
    alter,
    fault::Fault,
    store::{Broken, Memory},
};

/// Why what is written dead is.
pub(crate) const ELSEWHERE: &str = "given up on elsewhere";
/// Where it does not say when.
pub(crate) const ELSEWHERE_WITHOUT_A_TIME: &str = "given up on elsewhere, without a time";

pub(crate) fn is_of_elsewhere(letter: &DeadLetter) -> bool {
    letter.reason.starts_with(ELSEWHERE)
}

impl Broken {
    pub(crate) async fn write_elsewhere(&self, event: &Event) {
        let before = {
            let Memory { elsewhere, .. } = &mut *self.memory();
            elsewhere.push(event.id());
            elsewhere.len() - 1
        };
        let event = match self.fault {
            Fault::WhatIsWrittenElsewhereIsSetAside => {
                return self.inner.insert_undecodable(event.id(), event.event_type(), "{");
            }
            Fault::OnlySomeThatAreWrittenElsewhereAreFound if before >= 1000 => return,
            Fault::WhatIsWrittenElsewhereHasOneKey => event.clone().with_partition_key(""),
            Fault::NumbersThatAreWrittenElsewhereAreFloats => {
                alter::with_payload(event, &|value| match value.as_i64() {
                    Some(integer) if i32::try_from(integer).is_err() => json!(value.as_f64()),
                    _ => value,
                })
            }
            _ => event.clone(),
        };
        self.inner.save(&event).await.unwrap();
    }

    /// By a worker of its own, which shows in what it gives as the reason.
    pub(crate) async fn write_dead_elsewhere(&self, event: &Event, reason: &str) {
        self.inner.save(event).await.unwrap();
        let claim = Claim::new("elsewhere").with_limit(usize::MAX);
        let leased = self.inner.claim(&claim).await.unwrap();
        let (this, others): (Vec<_>, Vec<_>) = leased.iter().partition(|one| one.event.id() == event.id());
        let others = others.into_iter().map(|one| Settlement::released(one.lease));
        let settled = this.into_iter().map(|one| Settlement::dead_letter(one.lease, reason)).chain(others);
        self.inner.settle(&settled.collect::<Vec<_>>()).await.unwrap();
    }

    pub(crate) async fn deliver_elsewhere(&self, id: EventId) {
        if self.fault != Fault::WhatIsDeliveredElsewhereIsPending {
            self.inner.acknowledge(id).await.unwrap();
        }
    }

    pub(crate) async fn read_elsewhere(&self, id: EventId) -> Option<Value> {
        let pending = self.inner.get_pending(usize::MAX).await.unwrap();
        let mut read = pending.iter().find(|event| event.id() == id).map(|event| json!(event))?;
        if self.fault == Fault::WhatIsSavedHasNoMetaElsewhere {
            read["meta"] = json!({});
        }
        Some(read)
    }
}

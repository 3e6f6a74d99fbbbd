//! What is written, delivered and read without the store.

use std::time::Duration;

use outbox_conformance::Filled;
use outbox_traits::{
    Claim, ClaimStore, DeadLetter, Error, ErrorKind, Event, EventId, Leased, OutboxStore, Outcome, Result,
    Settlement,
};
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

    /// With a date, which this store keeps as JSON has it.
    pub(crate) async fn write_kinds_elsewhere(&self, event: &Event) -> Value {
        let is_lost = self.fault == Fault::KindsThatAreWrittenElsewhereAreNull;
        let payload = json!({ "at": "1970-01-01T00:00:00.001Z" });
        let written = if is_lost { json!({ "at": null }) } else { payload.clone() };
        let written = Event::new(event.event_type(), written).unwrap().with_id(event.id());
        self.write_elsewhere(&written.with_timestamp(event.meta().timestamp())).await;
        payload
    }

    /// With counts that are none, or with one failure.
    pub(crate) async fn write_filled_elsewhere(&self, event: &Event, way: usize) -> Option<Filled> {
        let count = u32::try_from(way).ok().filter(|count| *count < 2)?;
        self.write_elsewhere(event).await;
        self.memory().filled.insert(event.id(), (count, count));
        if count > 0 {
            let leased = self.inner.claim(&Claim::new("elsewhere")).await.unwrap();
            let failed = leased.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "failed"));
            self.inner.settle(&failed.collect::<Vec<_>>()).await.unwrap();
        }
        Some(Filled { attempts: count, failures: count, first_failed_at: None })
    }

    pub(crate) fn forget_filled(&self, leased: &mut Leased) {
        if self.fault != Fault::WhatIsFilledInElsewhereIsNotCounted {
            return;
        }
        let (attempts, failures) = self.memory().filled.get(&leased.event.id()).copied().unwrap_or_default();
        leased.attempts = leased.attempts.saturating_sub(attempts);
        leased.failures = leased.failures.saturating_sub(failures);
    }

    /// As where the engine cannot count on from what is no number.
    pub(crate) fn check_filled(&self, settlements: &[Settlement]) -> Result<()> {
        let is_filled = |one: &Settlement| self.memory().filled.get(&one.lease.event()) == Some(&(0, 0));
        let fails = |one: &Settlement| match one.outcome {
            Outcome::Delivered => self.fault == Fault::WhatIsFilledInElsewhereIsNeverDelivered,
            _ => self.fault == Fault::WhatIsFilledInElsewhereNeverFails,
        };
        if settlements.iter().any(|one| fails(one) && is_filled(one)) {
            return Err(Error::new(ErrorKind::Backend, "what is no number cannot be counted on from"));
        }
        Ok(())
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

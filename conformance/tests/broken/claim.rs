//! Claims of a broken store.

use std::{collections::HashSet, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, Lease, Leased, OutboxStore,
    Outcome, Result, Settlement, async_trait,
};
use serde_json::json;

use crate::{fault::Fault, store::Broken};

/// Longer than any clause.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

#[async_trait]
impl ClaimStore for Broken {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let mut request = claim.clone();
        match self.fault {
            Fault::AClaimIgnoresItsLimit => request.limit = usize::MAX,
            Fault::AClaimIgnoresItsTypes => request.types.clear(),
            Fault::LeasesNeverRunOut => request.lease = FOR_EVER,
            Fault::ALeaseHoldsBeyondItsEnd => request.lease += Duration::from_millis(1),
            Fault::AHoldHoldsUpAll if !self.holding().await?.is_empty() => return Ok(Vec::new()),
            Fault::AHoldEndsInTime => self.let_go_of_old().await?,
            Fault::AWaitingKeyHoldsUpAll if self.memory().waiting > 0 => return Ok(Vec::new()),
            Fault::ClaimsOverlap => {
                let last = self.memory().last_claim.clone();
                let pending: HashSet<EventId> =
                    self.inner.get_pending(usize::MAX).await?.iter().map(Event::id).collect();
                if pending.len() < last.len() && claim.limit > 0 {
                    return Ok(last);
                }
            }
            Fault::AClaimTakesTheNewest => {
                let mut leased = self.inner.claim(&request.clone().with_limit(usize::MAX)).await?;
                let older = leased.len().saturating_sub(claim.limit);
                let released: Vec<Settlement> =
                    leased.drain(..older).map(|leased| Settlement::released(leased.lease)).collect();
                self.inner.settle(&released).await?;
                return Ok(leased);
            }
            _ => {}
        }
        let mut leased = self.inner.claim(&request).await?;
        self.keep_back(&mut leased).await?;
        if self.fault == Fault::UndecodableRowsAreLeased {
            for letter in self.inner.dead_letters(&DeadLetterFilter::new()).await?.letters {
                let event = Event::new("broken", json!(null))?.with_id(letter.id);
                let lease = Lease::new(letter.id, *letter.id.as_uuid());
                leased.push(Leased::new(event, lease, 1, 0));
            }
        }
        if !claim.types.is_empty() {
            let waited: HashSet<Option<&str>> =
                leased.iter().filter(|one| one.failures > 0).map(|one| one.event.partition_key()).collect();
            let mut behind = self.inner.get_pending(claim.limit - leased.len()).await?;
            behind.retain(|event| match self.fault {
                Fault::AClaimOfSomeTypesIgnoresKeys => claim.wants(event.event_type()),
                Fault::AClaimOfSomeTypesTakesAllOfAKeyThatHasWaited => {
                    event.partition_key().is_some() && waited.contains(&event.partition_key())
                }
                _ => false,
            });
            leased.extend(behind.into_iter().map(|event| {
                let lease = Lease::new(event.id(), *event.id().as_uuid());
                Leased::new(event, lease, 1, 0)
            }));
        }
        for one in &mut leased {
            one.event = self.restored(one.event.clone());
            if self.fault == Fault::AttemptsAreKeptInMemory {
                (one.attempts, one.failures) = (1, 0);
            }
        }
        let mut memory = self.memory();
        memory.last_leases.extend(leased.iter().map(|leased| (leased.event.id(), leased.lease)));
        memory.last_claim.clone_from(&leased);
        Ok(leased)
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        if self.fault == Fault::RenewingDoesNothing {
            return self.inner.renew(leases, Duration::from_secs(15)).await;
        }
        let renewed = self.inner.renew(leases, length).await?;
        if self.fault == Fault::RenewingBringsALostLeaseBack {
            return Ok(leases.iter().map(|_| Ok(())).collect());
        }
        Ok(renewed)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        let mut altered = settlements.to_vec();
        for settlement in &mut altered {
            self.alter(settlement);
        }
        let forgets = self.fault == Fault::ASettlementThatIsForgottenIsReported && altered.len() > 1;
        let mut answers = self.inner.settle(&altered[usize::from(forgets)..]).await?;
        if forgets {
            answers.insert(0, Ok(()));
        }
        if self.fault == Fault::ALateSettlementTakes {
            for (answer, settlement) in answers.iter_mut().zip(settlements) {
                if answer.is_err() && settlement.outcome == Outcome::Delivered {
                    self.inner.acknowledge(settlement.lease.event()).await?;
                    *answer = Ok(());
                }
            }
        }
        Ok(answers)
    }
}

impl Broken {
    fn alter(&self, settlement: &mut Settlement) {
        let lease = settlement.lease;
        match (self.fault, &settlement.outcome) {
            (Fault::OwnershipWithoutAFence, _) => {
                settlement.lease = self.memory().last_leases.get(&lease.event()).copied().unwrap_or(lease);
            }
            (Fault::ReleasingCostsAnAttempt, Outcome::Released) => {
                *settlement = Settlement::retry(lease, Duration::ZERO, "released");
            }
            (Fault::RetriesDoNotWait, Outcome::Retry { error, .. })
            | (Fault::DeadLettersAreTriedAgain, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::retry(lease, Duration::ZERO, error.clone());
            }
            (Fault::HeldKeysAreHandedOut, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::dead_letter(lease, error.clone());
            }
            (Fault::ADeadLetterBlocksItsKey, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::retry(lease, FOR_EVER, error.clone());
            }
            (Fault::AWaitingKeyHoldsUpAll, Outcome::Retry { .. }) => self.memory().waiting += 1,
            (Fault::TheErrorGetsLost, Outcome::Retry { after, .. }) => {
                *settlement = Settlement::retry(lease, *after, "");
            }
            (Fault::TheErrorGetsLost, Outcome::DeadLetter { .. }) => {
                *settlement = Settlement::dead_letter(lease, "");
            }
            _ => {}
        }
    }
}

//! Claims of a broken store.

use std::{collections::HashSet, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, Lease, Leased, OutboxStore,
    Outcome, Result, Settlement, StatsStore, async_trait,
};
use serde_json::json;

use crate::{alter, fault::Fault, store::Broken};

/// Longer than any clause.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

#[async_trait]
impl ClaimStore for Broken {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        self.must_be_whole()?;
        self.look_around(claim.limit).await?;
        let mut request = claim.clone().with_lease(self.lease_of(claim.lease));
        match self.fault {
            Fault::AClaimIgnoresItsLimit => request.limit = usize::MAX,
            Fault::AClaimIgnoresItsTypes => request.types.clear(),
            Fault::NoTypeIsEveryType if claim.types.iter().all(String::is_empty) => request.types.clear(),
            Fault::AClaimIgnoresTheCaseOfItsTypes => {
                let is_wanted = |event: &&Event| {
                    claim.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(event.event_type()))
                };
                let pending = self.inner.get_pending(usize::MAX).await?;
                request
                    .types
                    .extend(pending.iter().filter(is_wanted).map(|event| event.event_type().to_owned()));
            }
            Fault::AHoldHoldsUpAll if !self.holding().await?.is_empty() => return Ok(Vec::new()),
            Fault::AHoldEndsInTime => self.let_go_of_old().await?,
            Fault::AWaitingKeyHoldsUpAll if self.memory().waiting > 0 => return Ok(Vec::new()),
            Fault::AClaimGivesUpAfterManyThatWait
                if self.memory().waiting > 0 && self.inner.stats().await?.pending > 8000 =>
            {
                return Ok(Vec::new());
            }
            Fault::AClaimOfSomeTypesGivesUpAfterManyOfOthers if !claim.types.is_empty() => {
                let first = self.inner.get_pending(50).await?;
                if first.len() == 50 && !first.iter().any(|event| claim.wants(event.event_type())) {
                    return Ok(Vec::new());
                }
            }
            Fault::ClaimsOverlap => {
                let last = self.memory().last_claim.clone();
                let pending: HashSet<EventId> =
                    self.inner.get_pending(usize::MAX).await?.iter().map(Event::id).collect();
                if pending.len() < last.len() && claim.limit > 0 {
                    return Ok(last);
                }
            }
            Fault::AClaimTakesTheNewest
            | Fault::ClaimsGoById
            | Fault::ClaimsGoByTheApplicationClock
            | Fault::ClaimsSkipLateCommits
            | Fault::ClaimsWaitForOpenSessions => return self.claim_in_another_order(&request).await,
            _ => {}
        }
        if self.fault == Fault::AHandleHeedsItsOwnLeasesOnly && self.is_peer {
            let mut pending = self.inner.get_pending(usize::MAX).await?;
            let mut memory = self.memory();
            pending.retain(|event| !memory.last_leases.contains_key(&event.id()));
            pending.truncate(claim.limit);
            let leased: Vec<Leased> = pending.into_iter().map(not_leased).collect();
            memory.last_leases.extend(leased.iter().map(|leased| (leased.event.id(), leased.lease)));
            return Ok(leased);
        }
        let mut leased = self.one_or_more_of_each_key(request).await?;
        self.keep_back(&mut leased).await?;
        if leased.is_empty() {
            self.look_at(0, Fault::AClaimInVainReadsAll).await?;
        }
        if self.fault == Fault::UndecodableRowsAreLeased {
            for letter in self.inner.dead_letters(&DeadLetterFilter::new()).await?.letters {
                leased.push(not_leased(Event::new("broken", json!(null))?.with_id(letter.id)));
            }
        }
        if !claim.types.is_empty() {
            let waited: HashSet<Option<&str>> =
                leased.iter().filter(|one| one.failures > 0).map(|one| one.event.partition_key()).collect();
            let mut behind = self.inner.get_pending(usize::MAX).await?;
            behind.retain(|event| match self.fault {
                Fault::AClaimOfSomeTypesIgnoresKeys => claim.wants(event.event_type()),
                Fault::AClaimOfSomeTypesTakesAllOfAKeyThatHasWaited => {
                    event.partition_key().is_some() && waited.contains(&event.partition_key())
                }
                _ => false,
            });
            behind.truncate(claim.limit - leased.len());
            leased.extend(behind.into_iter().map(not_leased));
        }
        for one in &mut leased {
            one.event = self.restored(one.event.clone());
            match self.fault {
                Fault::AttemptsAreKeptInMemory => (one.attempts, one.failures) = (1, 0),
                Fault::AttemptsAreKeptByTheHandle => {
                    let before = (one.attempts - 1, one.failures);
                    let before = *self.memory().before.entry(one.event.id()).or_insert(before);
                    one.attempts = one.attempts.saturating_sub(before.0);
                    one.failures = one.failures.saturating_sub(before.1);
                }
                Fault::ARetriedEventForgetsWhenItWasHidden if one.attempts > 1 => {
                    one.event = alter::without_not_before(&one.event);
                }
                Fault::ClaimsForgetHeaders => one.event.meta_mut().headers.clear(),
                Fault::ClaimsForgetUnknownMetaFields => one.event.meta_mut().extra.clear(),
                _ => {}
            }
        }
        let mut memory = self.memory();
        memory.last_leases.extend(leased.iter().map(|leased| (leased.event.id(), leased.lease)));
        memory.last_claim.clone_from(&leased);
        Ok(leased)
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        let length = match self.fault {
            Fault::RenewingDoesNothing => Duration::from_secs(15),
            Fault::RenewingMakesNoLeaseShorter => length.max(Duration::from_secs(30)),
            Fault::ARenewalForEverIsNone if length == Duration::MAX => Duration::ZERO,
            Fault::RenewalsAreCutToSeconds => in_seconds(length),
            _ => length,
        };
        let is_alone = self.is_alone().await;
        if self.fault == Fault::ARenewalBesideASettlementIsUndone && !is_alone {
            return Ok(leases.iter().map(|_| Ok(())).collect());
        }
        let renewed = self.inner.renew(leases, length).await?;
        if self.fault == Fault::RenewingBringsALostLeaseBack {
            return Ok(leases.iter().map(|_| Ok(())).collect());
        }
        Ok(renewed)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        self.look_at(settlements.len(), Fault::ASettlementReadsAll).await?;
        self.check_filled(settlements)?;
        let is_alone = self.is_alone().await;
        if self.fault == Fault::SettlementsAtTheSameTimeUndoOneAnother && !is_alone {
            return Ok(settlements.iter().map(|_| Ok(())).collect());
        }
        let mut altered = settlements.to_vec();
        for settlement in &mut altered {
            self.alter(settlement);
        }
        if self.fault == Fault::TheLastOfTwoSettlementsCounts {
            for first in &mut altered {
                let last = settlements.iter().rev().find(|last| last.lease == first.lease);
                first.outcome = last.expect("it is one of them").outcome.clone();
            }
        }
        if self.fault == Fault::FailuresOfOneCallShareAnError {
            share_the_last_error(&mut altered);
        }
        let forgets = self.fault == Fault::ASettlementThatIsForgottenIsReported && altered.len() > 1;
        let mut answers = self.inner.settle(&altered[usize::from(forgets)..]).await?;
        if forgets {
            answers.insert(0, Ok(()));
        }
        for (answer, settlement) in answers.iter().zip(settlements) {
            if answer.is_ok() && settlement.outcome == Outcome::Delivered {
                self.memory().settled.insert(settlement.lease.event());
            }
        }
        if self.fault == Fault::SettlementsReachOtherOutboxes {
            self.settle_elsewhere(settlements, &mut answers).await?;
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
    /// How long a lease is that was to be so long.
    fn lease_of(&self, asked: Duration) -> Duration {
        match self.fault {
            Fault::ALeaseForEverIsNone if asked == Duration::MAX => Duration::ZERO,
            Fault::ALeaseOfNoTimeNeverEnds if asked.is_zero() => FOR_EVER,
            Fault::LeasesAreCutToSeconds => in_seconds(asked),
            Fault::LeasesNeverRunOut => FOR_EVER,
            Fault::ALeaseHoldsBeyondItsEnd => asked + Duration::from_millis(1),
            _ => asked,
        }
    }

    /// Whether no other call about leases is made at the same time.
    async fn is_alone(&self) -> bool {
        let is_asked = matches!(
            self.fault,
            Fault::SettlementsAtTheSameTimeUndoOneAnother | Fault::ARenewalBesideASettlementIsUndone
        );
        if !is_asked {
            return true;
        }
        let mine = {
            let mut memory = self.memory();
            memory.lease_calls += 1;
            memory.lease_calls
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.memory().lease_calls == mine
    }

    /// Takes all there is, keeps what comes first in another order, and gives the rest back.
    async fn claim_in_another_order(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let mut all = self.inner.claim(&claim.clone().with_limit(usize::MAX)).await?;
        let place = |one: &Leased| self.place(one.event.id());
        let cursor = self.memory().claimed_up_to;
        let mut kept = all.len();
        match self.fault {
            Fault::AClaimTakesTheNewest => all.reverse(),
            Fault::ClaimsGoById => all.sort_by_key(|one| one.event.id()),
            Fault::ClaimsGoByTheApplicationClock => all.sort_by_key(|one| one.event.meta().timestamp()),
            Fault::ClaimsSkipLateCommits => {
                all.sort_by_key(|one| (place(one) < cursor, place(one)));
                kept = all.iter().filter(|one| place(one) >= cursor).count();
            }
            _ => {
                // Up to the first that is not there, and was not claimed either.
                all.sort_by_key(place);
                let there: HashSet<EventId> = all.iter().map(|one| one.event.id()).collect();
                let memory = self.memory();
                let is_there =
                    |event: &Event| there.contains(&event.id()) || memory.taken.contains(&event.id());
                let gap = memory.saved.iter().position(|event| !is_there(event));
                kept = all
                    .iter()
                    .filter(|one| gap.is_none_or(|gap| memory.places[&one.event.id()] < gap))
                    .count();
            }
        }
        let back = all.split_off(kept.min(claim.limit));
        let back: Vec<Settlement> = back.iter().map(|one| Settlement::released(one.lease)).collect();
        self.inner.settle(&back).await?;
        let last = all.iter().map(|one| place(one) + 1).max().unwrap_or_default();
        let mut memory = self.memory();
        memory.claimed_up_to = cursor.max(last);
        memory.taken.extend(all.iter().map(|one| one.event.id()));
        drop(memory);
        Ok(all)
    }

    fn alter(&self, settlement: &mut Settlement) {
        let lease = settlement.lease;
        match (self.fault, &settlement.outcome) {
            (Fault::OwnershipWithoutAFence, _) => {
                settlement.lease = self.memory().last_leases.get(&lease.event()).copied().unwrap_or(lease);
            }
            (Fault::ALeaseIsOfItsHandle, _)
                if self.memory().last_leases.get(&lease.event()) != Some(&lease) =>
            {
                settlement.lease = no_lease(lease.event());
            }
            (Fault::ReleasingCostsAnAttempt, Outcome::Released) => {
                *settlement = Settlement::retry(lease, Duration::ZERO, "released");
            }
            (Fault::ARetryForEverIsDueAtOnce, Outcome::Retry { after: Duration::MAX, error })
            | (Fault::RetriesDoNotWait, Outcome::Retry { error, .. })
            | (Fault::DeadLettersAreTriedAgain, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::retry(lease, Duration::ZERO, error.clone());
            }
            (Fault::DelaysAreCutToSeconds, Outcome::Retry { after, error }) => {
                *settlement = Settlement::retry(lease, in_seconds(*after), error.clone());
            }
            (Fault::HeldKeysAreHandedOut, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::dead_letter(lease, error.clone());
            }
            (Fault::ADeadLetterBlocksItsKey, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::retry(lease, FOR_EVER, error.clone());
            }
            (Fault::AWaitingKeyHoldsUpAll | Fault::AClaimGivesUpAfterManyThatWait, Outcome::Retry { .. }) => {
                self.memory().waiting += 1;
            }
            (Fault::TheErrorGetsLost, Outcome::Retry { after, .. }) => {
                *settlement = Settlement::retry(lease, *after, "");
            }
            (Fault::ALongErrorIsCutShort, Outcome::DeadLetter { error, .. }) => {
                *settlement = Settlement::dead_letter(lease, error.chars().take(255).collect::<String>());
            }
            (Fault::TheErrorGetsLost, Outcome::DeadLetter { .. }) => {
                *settlement = Settlement::dead_letter(lease, "");
            }
            _ => {}
        }
    }
}

fn in_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs())
}

/// What is handed out without a lease.
fn not_leased(event: Event) -> Leased {
    let lease = no_lease(event.id());
    Leased::new(event, lease, 1, 0)
}

/// One that the store has never given.
fn no_lease(event: EventId) -> Lease {
    Lease::new(event, *event.as_uuid())
}

/// Of those that die, as a store would that writes all of them at once.
fn share_the_last_error(settlements: &mut [Settlement]) {
    let died = |one: &Settlement| match &one.outcome {
        Outcome::DeadLetter { error, .. } => Some(error.clone()),
        _ => None,
    };
    let Some(last) = settlements.iter().rev().find_map(died) else { return };
    for one in settlements.iter_mut().filter(|one| died(one).is_some()) {
        *one = Settlement::dead_letter(one.lease, last.clone());
    }
}

impl Broken {
    /// A claim, which may take the first event of each key alone.
    async fn one_or_more_of_each_key(&self, request: Claim) -> Result<Vec<Leased>> {
        if self.fault != Fault::ClaimsTakeOneEventOfAKey {
            let mut leased = self.inner.claim(&request).await?;
            for one in &mut leased {
                self.forget_filled(one);
            }
            return Ok(leased);
        }
        let mut taken = Vec::new();
        let one = request.clone().with_limit(1);
        while taken.len() < request.limit.min(Claim::MAX_LIMIT) {
            let next = self.inner.claim(&one).await?;
            if next.is_empty() {
                break;
            }
            taken.extend(next);
        }
        Ok(taken)
    }
}

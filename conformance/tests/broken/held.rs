//! Dead letters of a broken store, also those that hold their keys.

use std::sync::atomic::Ordering::Relaxed;

use chrono::{DateTime, SubsecRound, TimeDelta};
use outbox_traits::{
    Claim, ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Leased,
    OutboxStore, Result, Settlement, async_trait,
};

use crate::{
    elsewhere::{ELSEWHERE, ELSEWHERE_WITHOUT_A_TIME, is_of_elsewhere},
    fault::Fault,
    harness::NAMELESS,
    names::is_like,
    store::Broken,
};

#[async_trait]
impl DeadLetterStore for Broken {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut page = self.inner.dead_letters(filter).await?;
        if self.fault == Fault::TheTimesOfAFilterAreCutToMilliseconds {
            let mut cut = filter.clone();
            for time in [&mut cut.since, &mut cut.before].into_iter().flatten() {
                *time = time.trunc_subsecs(3);
            }
            page = self.inner.dead_letters(&cut).await?;
        }
        if self.fault == Fault::RowsWithoutAnIdShareOne {
            let nameless = page.letters.iter_mut().filter(|letter| letter.event_type == NAMELESS);
            nameless.for_each(|letter| letter.id = uuid::Uuid::nil().into());
        }
        if self.fault == Fault::APageIsCutBeforeItIsFiltered {
            let all = DeadLetterFilter::new().with_limit(filter.limit).with_after(filter.after);
            page = self.inner.dead_letters(&all).await?;
            page.letters.retain(|letter| filter.matches(&letter.event_type, letter.dead_at));
        }
        if self.fault == Fault::TheTimesOfAFilterAreCutOff {
            let mut cut = filter.clone();
            cut.since = filter.since.map(|time| time.trunc_subsecs(6));
            cut.before = filter.before.map(|time| time.trunc_subsecs(6));
            page = self.inner.dead_letters(&cut).await?;
        }
        if let Some(wanted) = &filter.event_type {
            let is_taken: Option<fn(&str, &str) -> bool> = match self.fault {
                Fault::AFilterIgnoresTheCaseOfItsType => Some(str::eq_ignore_ascii_case),
                Fault::AFilterTakesItsTypeForAPattern => Some(is_like),
                _ => None,
            };
            if let Some(is_taken) = is_taken {
                let mut all = filter.clone();
                all.event_type = None;
                page = self.inner.dead_letters(&all).await?;
                page.letters.retain(|letter| is_taken(&letter.event_type, wanted));
            }
        }
        // It looks for one more than it was asked for.
        if self.fault == Fault::APageOfAllOverflows && filter.limit == usize::MAX {
            page = self.inner.dead_letters(&filter.clone().with_limit(0)).await?;
        }
        if self.fault == Fault::APageBeginsAfterSoMany {
            page = self.page_after_so_many(filter).await?;
        }
        if self.fault == Fault::APageOfNoneHasOne && filter.limit == 0 {
            page = self.inner.dead_letters(&filter.clone().with_limit(1)).await?;
        }
        if self.fault == Fault::EveryAttemptIsAFailure {
            page.letters.iter_mut().for_each(|letter| letter.failures = letter.attempts);
        }
        if self.fault == Fault::HoldsAreNotTold {
            page.letters.iter_mut().for_each(|letter| letter.holds_key = false);
        }
        if self.fault == Fault::DeadLettersForgetHeaders {
            let events = page.letters.iter_mut().filter_map(|letter| letter.content.as_mut().ok());
            events.for_each(|event| event.meta_mut().headers.clear());
        }
        if self.fault == Fault::UndecodableRowsAreDropped {
            page.letters.retain(|letter| letter.content.is_ok());
        }
        if self.fault == Fault::TheRawContentGetsLost {
            page.letters.iter_mut().filter(|letter| letter.content.is_err()).for_each(|letter| {
                letter.content = Err("it cannot be read".to_owned());
            });
        }
        self.spoil_of_elsewhere(filter, &mut page).await?;
        if self.fault == Fault::ALastPagePromisesAnother && page.letters.len() == filter.limit {
            page.next.get_or_insert(u64::MAX);
        }
        Ok(page)
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        if self.fault == Fault::ARequeuedEventComesLast
            && let Some(letter) = self.holding().await?.into_iter().find(|letter| letter.id == id)
            && let Ok(event) = letter.content
        {
            self.inner.discard(id).await?;
            self.inner.save(&event).await?;
            return Ok(true);
        }
        self.shared.is_unheard.store(self.is_peer, Relaxed);
        let requeued = self.inner.requeue(id).await?;
        self.memory().requeued.extend(requeued.then_some(id));
        if self.fault == Fault::RequeuesReachOtherOutboxes {
            for other in self.outboxes() {
                other.requeue(id).await?;
            }
        }
        if self.fault == Fault::ARequeueOfNothingWakes {
            self.bell.ring();
        }
        self.memory().requeued_at = Some(self.clock.now());
        if self.fault == Fault::OneRequeueEndsAllHolds {
            self.let_go(|_| true).await?;
        }
        Ok(requeued)
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let some = match self.fault {
            Fault::OnlySomeAreRequeued => Some(self.some_dead(filter).await?),
            Fault::WhatDiesElsewhereIsLeftByARequeueOfAll => Some(self.of_its_own(filter).await?),
            _ => None,
        };
        if let Some(some) = some {
            let mut changed = 0;
            for id in some {
                changed += u64::from(self.inner.requeue(id).await?);
            }
            return Ok(changed);
        }
        if self.fault == Fault::ARequeueOfAllIgnoresTheTimes {
            return self.inner.requeue_all(&without_times(filter)).await;
        }
        self.inner.requeue_all(filter).await
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        if self.fault == Fault::DiscardsReachOtherOutboxes {
            let discarded = self.inner.discard(id).await?;
            for other in self.outboxes() {
                other.discard(id).await?;
            }
            return Ok(discarded);
        }
        if self.fault == Fault::ADiscardDoesNotEndTheHold {
            let letters = self.holding().await?;
            let discarded = letters.into_iter().find(|letter| letter.id == id);
            let key = discarded.and_then(|letter| letter.content.ok()?.partition_key().map(str::to_owned));
            self.memory().held_for_ever.extend(key);
        }
        self.inner.discard(id).await
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let some = match self.fault {
            Fault::OnlySomeAreDiscarded => Some(self.some_dead(filter).await?),
            Fault::WhatDiesElsewhereIsLeftByADiscardOfAll => Some(self.of_its_own(filter).await?),
            _ => None,
        };
        if let Some(some) = some {
            let mut changed = 0;
            for id in some {
                changed += u64::from(self.inner.discard(id).await?);
            }
            return Ok(changed);
        }
        if self.fault == Fault::ADiscardOfAllIgnoresTheTimes {
            return self.inner.discard_all(&without_times(filter)).await;
        }
        self.inner.discard_all(filter).await
    }
}

fn without_times(filter: &DeadLetterFilter) -> DeadLetterFilter {
    let mut filter = filter.clone();
    (filter.since, filter.before) = (None, None);
    filter
}

impl Broken {
    /// One page of them, and no more.
    async fn some_dead(&self, filter: &DeadLetterFilter) -> Result<Vec<EventId>> {
        let page = self.inner.dead_letters(&filter.clone().with_limit(1000)).await?;
        Ok(page.letters.iter().map(|letter| letter.id).collect())
    }

    async fn page_after_so_many(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let all = filter.clone().with_after(None).with_limit(usize::MAX);
        let letters = self.inner.dead_letters(&all).await?.letters;
        let before = filter.after.unwrap_or_default();
        let end = before + filter.limit as u64;
        let next = (end < letters.len() as u64).then_some(end);
        let page = letters.into_iter().zip(0..).filter(|(_, place)| (before..end).contains(place));
        Ok(DeadLetterPage::new(page.map(|(letter, _)| letter).collect(), next))
    }

    pub(crate) async fn holding(&self) -> Result<Vec<DeadLetter>> {
        let mut letters =
            self.inner.dead_letters(&DeadLetterFilter::new().with_limit(usize::MAX)).await?.letters;
        letters.retain(|letter| letter.holds_key);
        Ok(letters)
    }

    /// Those that match and were not written elsewhere.
    async fn of_its_own(&self, filter: &DeadLetterFilter) -> Result<Vec<EventId>> {
        let letters = self.inner.dead_letters(&filter.clone().with_limit(usize::MAX)).await?.letters;
        Ok(letters.iter().filter(|letter| !is_of_elsewhere(letter)).map(|letter| letter.id).collect())
    }

    /// Where one is among them that was written elsewhere.
    async fn spoil_of_elsewhere(&self, filter: &DeadLetterFilter, page: &mut DeadLetterPage) -> Result<()> {
        let make_old = |page: &mut DeadLetterPage, reason: &str| {
            let theirs = page.letters.iter_mut().filter(|letter| letter.reason == reason);
            theirs.for_each(|letter| letter.dead_at = DateTime::UNIX_EPOCH);
        };
        match self.fault {
            Fault::WhatDiesElsewhereIsNotListed => page.letters.retain(|letter| !is_of_elsewhere(letter)),
            Fault::WhatDiesElsewhereHasAnotherTime => make_old(page, ELSEWHERE),
            Fault::WhatDiesElsewhereWithoutATimeDiedLongAgo => make_old(page, ELSEWHERE_WITHOUT_A_TIME),
            Fault::WhatDiesElsewhereMakesPagesLonger if page.letters.iter().any(is_of_elsewhere) => {
                let longer = filter.clone().with_limit(filter.limit.saturating_add(1));
                *page = self.inner.dead_letters(&longer).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the hold of these dead letters, and leaves them dead.
    pub(crate) async fn let_go(&self, of: impl Fn(&DeadLetter) -> bool + Send) -> Result<()> {
        let letters = self.holding().await?;
        for letter in &letters {
            self.inner.requeue(letter.id).await?;
        }
        let leased = self.inner.claim(&Claim::new("nobody").with_limit(usize::MAX)).await?;
        let back = |leased: &Leased| match letters.iter().find(|letter| letter.id == leased.event.id()) {
            None => Settlement::released(leased.lease),
            Some(letter) if of(letter) => Settlement::dead_letter(leased.lease, &letter.reason),
            Some(letter) => Settlement::dead_letter_holding_key(leased.lease, &letter.reason),
        };
        let back: Vec<Settlement> = leased.iter().map(back).collect();
        self.inner.settle(&back).await?;
        Ok(())
    }

    pub(crate) async fn let_go_of_old(&self) -> Result<()> {
        let long_ago = self.clock.now() - TimeDelta::hours(1);
        self.let_go(|letter| letter.dead_at < long_ago).await
    }

    /// Gives back what a fault keeps from everybody.
    pub(crate) async fn keep_back(&self, leased: &mut Vec<Leased>) -> Result<()> {
        let held = self.memory().held_for_ever.clone();
        let is_overtaken = self.is_peer && self.fault == Fault::WhatHasBecomeDueIsOvertaken;
        let is_held = |leased: &Leased| {
            leased.event.partition_key().is_some_and(|key| held.contains(key))
                || is_overtaken && leased.event.not_before().is_some()
        };
        let (kept, rest): (Vec<Leased>, Vec<Leased>) = leased.drain(..).partition(is_held);
        *leased = rest;
        let back: Vec<Settlement> = kept.iter().map(|one| Settlement::released(one.lease)).collect();
        self.inner.settle(&back).await?;
        if self.fault == Fault::WhatAClaimLeavesOfWaitingKeysIsForgotten
            && leased.iter().any(|one| one.failures > 0)
        {
            self.forget_what_has_waited().await?;
        }
        Ok(())
    }

    async fn forget_what_has_waited(&self) -> Result<()> {
        let rest = self.inner.claim(&Claim::new("nobody").with_limit(usize::MAX)).await?;
        let forgotten = |one: &Leased| match one.failures {
            0 => Settlement::released(one.lease),
            _ => Settlement::delivered(one.lease),
        };
        self.inner.settle(&rest.iter().map(forgotten).collect::<Vec<_>>()).await?;
        Ok(())
    }
}

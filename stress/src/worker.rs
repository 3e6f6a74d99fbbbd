//! Those who deliver: some stall past their leases, some die, and the transport fails.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use outbox_traits::{Claim, ClaimStore, Lease, Leased, Settlement};

use crate::{
    engine::Engine,
    history::{Answer, Call, Held, How, Settled},
    shared::Part,
};

/// Long enough for one that does its work, on a busy machine too.
const LONG: Duration = Duration::from_secs(10);

/// What becomes of one who has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It does its work.
    Works,
    /// It sleeps until its leases have run out, and goes on as if nothing were.
    Stalls,
    /// It is gone, with or without having published.
    Dies,
    /// It gives all back.
    GivesBack,
}

impl<E: Engine> Part<E> {
    pub(crate) async fn deliver(mut self, name: String) {
        while !self.shared.is_stopped() {
            if self.chance(10) {
                // Cut off in the midst of whatever it does.
                let patience = self.millis(0, 100);
                tokio::time::timeout(patience, self.round(&name)).await.ok();
            } else {
                self.round(&name).await;
            }
        }
    }

    async fn round(&mut self, name: &str) {
        let length = Duration::from_millis(self.rng.u64(300..=1000));
        let limit = self.rng.usize(1..=20);
        let began = Instant::now();
        let leased =
            self.claim(Claim::new(name).with_limit(limit).with_lease(length)).await.unwrap_or_default();
        if leased.is_empty() {
            return self.pause(5, 30).await;
        }
        let fate = match self.rng.u32(0..100) {
            0..8 => Fate::Stalls,
            8..16 => Fate::Dies,
            16..20 => Fate::GivesBack,
            _ => Fate::Works,
        };
        let settlements = match fate {
            Fate::GivesBack => leased.iter().map(|one| Settlement::released(one.lease)).collect(),
            Fate::Dies if self.rng.bool() => return,
            Fate::Stalls if self.rng.bool() => {
                // With its transport's answers in its hands.
                let settlements = self.publish_all(&leased, began, length, true).await;
                tokio::time::sleep(length).await;
                self.pause(0, 200).await;
                settlements
            }
            Fate::Stalls => {
                tokio::time::sleep(length).await;
                self.pause(0, 200).await;
                self.publish_all(&leased, began, length, false).await
            }
            Fate::Works | Fate::Dies => self.publish_all(&leased, began, length, true).await,
        };
        if fate == Fate::Dies {
            return;
        }
        // One after another, or all at once.
        let part = if self.chance(20) { self.rng.usize(1..=settlements.len().max(1)) } else { usize::MAX };
        for part in settlements.chunks(part) {
            self.settle(part).await;
        }
    }

    /// Delivers what is left, and fails at nothing. It returns how many there were, unless the store has failed.
    pub(crate) async fn drain(&mut self) -> Option<usize> {
        let leased = self.claim(Claim::new("the last").with_lease(LONG)).await?;
        let mut settlements = Vec::new();
        for one in &leased {
            let op = self.shared.record.begin(Call::Publish { lease: one.lease.into() });
            self.shared.record.end(op, Answer::Accepted(true));
            settlements.push(Settlement::delivered(one.lease));
        }
        self.settle(&settlements).await;
        Some(leased.len())
    }

    async fn claim(&mut self, claim: Claim) -> Option<Vec<Leased>> {
        let call = Call::Claim { worker: claim.worker.clone(), lease_micros: micros(claim.lease) };
        let op = self.shared.record.begin(call);
        let leased = self.engine.store().claim(&claim).await;
        let answer =
            |leased: &Vec<Leased>| Answer::Claimed(leased.iter().map(|one| one.lease.into()).collect());
        self.shared.record.end_of(op, leased, answer)
    }

    /// Publishes in order. After a failure it gives back what is left of the key, as it does with all that is left
    /// when its time has come, if it is careful.
    async fn publish_all(
        &mut self,
        leased: &[Leased],
        began: Instant,
        length: Duration,
        is_careful: bool,
    ) -> Vec<Settlement> {
        let mut began = began;
        let (mut settlements, mut failed, mut lost) = (Vec::new(), HashSet::new(), HashSet::new());
        for (index, one) in leased.iter().enumerate() {
            let lease = one.lease;
            if is_careful && began.elapsed() > length / 2 && self.chance(50) {
                let at = Instant::now();
                lost.extend(self.renew(&leased[index..], length).await);
                began = at;
            }
            let is_over = is_careful && (lost.contains(&lease) || began.elapsed() > length * 3 / 4);
            let key = one.event.partition_key();
            if is_over || key.is_some_and(|key| failed.contains(key)) {
                failed.extend(key);
                settlements.push(Settlement::released(lease));
                continue;
            }
            if self.publish(lease.into()).await {
                settlements.push(Settlement::delivered(lease));
            } else {
                failed.extend(key);
                let error = "the transport is down";
                settlements.push(if self.chance(12) {
                    Settlement::dead_letter(lease, error)
                } else if self.chance(15) {
                    Settlement::dead_letter_holding_key(lease, error)
                } else {
                    let after = self.millis(0, 300);
                    Settlement::retry(lease, after, error)
                });
            }
        }
        settlements
    }

    async fn publish(&mut self, lease: Held) -> bool {
        let op = self.shared.record.begin(Call::Publish { lease });
        if self.chance(20) {
            self.pause(0, 15).await;
        }
        let is_accepted = !self.chance(12);
        self.shared.record.end(op, Answer::Accepted(is_accepted));
        is_accepted
    }

    /// It returns the leases that are lost, or may be.
    async fn renew(&mut self, leased: &[Leased], length: Duration) -> Vec<Lease> {
        let leases: Vec<Lease> = leased.iter().map(|one| one.lease).collect();
        let held = leases.iter().map(|lease| (*lease).into()).collect();
        let op = self.shared.record.begin(Call::Renew { leases: held, lease_micros: micros(length) });
        let renewed = self.engine.store().renew(&leases, length).await;
        match self.shared.record.end_of(op, renewed, |all| each(all)) {
            Some(all) => {
                leases.into_iter().zip(all).filter_map(|(lease, one)| one.err().map(|_| lease)).collect()
            }
            None => leases,
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) {
        if settlements.is_empty() {
            return;
        }
        let settled = |one: &Settlement| Settled { lease: one.lease.into(), how: how(one) };
        let call = Call::Settle { settlements: settlements.iter().map(settled).collect() };
        let op = self.shared.record.begin(call);
        let answers = self.engine.store().settle(settlements).await;
        self.shared.record.end_of(op, answers, |all| each(all));
    }
}

fn each(all: &[outbox_traits::Result<()>]) -> Answer {
    // Other than of a lost lease there is no error of one alone; told as a failure of all, nothing is taken for known.
    let other = all.iter().filter_map(|one| one.as_ref().err());
    let other = other.into_iter().find(|error| error.kind() != outbox_traits::ErrorKind::LeaseLost);
    match other {
        Some(error) => Answer::failed(error),
        None => Answer::Each(all.iter().map(Result::is_ok).collect()),
    }
}

fn how(settlement: &Settlement) -> How {
    use outbox_traits::Outcome;
    match settlement.outcome {
        Outcome::Retry { .. } => How::Retry,
        Outcome::DeadLetter { holds_key: true, .. } => How::Held,
        Outcome::DeadLetter { .. } => How::DeadLetter,
        Outcome::Released => How::Released,
        _ => How::Delivered,
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

//! Claims, renewals and settlements.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use outbox_traits::{Claim, ClaimStore, Event, Lease, Leased, Outcome, Result, Settlement};
use uuid::Uuid;

use crate::{
    MemoryOutbox,
    clock::later,
    state::{Content, State, Status},
};

#[async_trait]
impl ClaimStore for MemoryOutbox {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let now = self.shared.clock.now();
        let until = later(now, claim.lease.max(Duration::from_millis(1)));
        let token = Uuid::new_v4();
        let mut state = self.shared.lock();
        state.catch_up(now);
        let mut leased = Vec::new();
        let limit = claim.limit.min(Claim::MAX_LIMIT);
        let mut chosen = if claim.types.is_empty() {
            Choice::Any(BTreeSet::new())
        } else {
            Choice::of_types(&state, claim)
        };
        while leased.len() < limit {
            let Some(seq) = chosen.next(&state) else { break };
            match state.rows.get(&seq) {
                Some(row) => match &row.content {
                    Content::Event(event) => {
                        let lease = Lease::new(event.id(), token);
                        leased.push(Leased::new(Event::clone(event), lease, row.attempts + 1, row.failures));
                        let key = row.content.key().map(str::to_owned);
                        state.lease(seq, token, until);
                        chosen.took(key.as_deref(), &state);
                    }
                    Content::Undecodable { .. } => state.set_aside(seq, now),
                },
                None => break,
            }
        }
        Ok(leased)
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        let now = self.shared.clock.now();
        let until = later(now, length.max(Duration::from_millis(1)));
        let mut state = self.shared.lock();
        let renew = |lease: &Lease| {
            let seq = state.held(lease, now).ok_or_else(|| lease.lost())?;
            state.lease(seq, lease.token(), until);
            Ok(())
        };
        Ok(leases.iter().map(renew).collect())
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        let settle = |settlement: &Settlement| {
            let seq = state.held(&settlement.lease, now).ok_or_else(|| settlement.lease.lost())?;
            match &settlement.outcome {
                Outcome::Retry { after, error } => {
                    state.end_failed(seq, Status::Waiting(later(now, *after)), error, now);
                }
                Outcome::DeadLetter { error, holds_key } => {
                    state.end_failed(seq, Status::Dead { at: now, holds_key: *holds_key }, error, now);
                }
                Outcome::Delivered => state.deliver(seq, now, self.retention),
                // Any other is of a later version of the contract: nobody has said that it was delivered, so it comes again.
                Outcome::Released | _ => state.release_lease(seq),
            }
            Ok(())
        };
        Ok(settlements.iter().map(settle).collect())
    }
}

/// Which event comes next in a claim.
enum Choice {
    /// The oldest that can be claimed, or that follows one that this very claim has taken, by its key.
    Any(BTreeSet<u64>),
    /// Those of some types, in order.
    Listed(std::vec::IntoIter<u64>),
}

impl Choice {
    fn of_types(state: &State, claim: &Claim) -> Self {
        let is_wanted = |seq: &&u64| {
            state.rows.get(seq).is_some_and(|row| {
                let is_free = row.content.key().is_none_or(|key| state.claimable.is_free(key));
                claim.wants(row.content.event_type()) && is_free
            })
        };
        let seqs: Vec<u64> = state.pending.iter().filter(is_wanted).copied().collect();
        Self::Listed(seqs.into_iter())
    }

    fn next(&mut self, state: &State) -> Option<u64> {
        match self {
            Self::Any(following) => {
                following.extend(state.claimable.first());
                following.pop_first()
            }
            Self::Listed(seqs) => seqs.next(),
        }
    }

    /// The next one of the key may follow, although the key is taken by now.
    fn took(&mut self, key: Option<&str>, state: &State) {
        if let Self::Any(following) = self {
            following.extend(key.and_then(|key| state.claimable.first_of(key)));
        }
    }
}

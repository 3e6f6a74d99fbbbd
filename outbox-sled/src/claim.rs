//! Claims, renewals and settlements.

use std::{
    collections::{BTreeMap, HashMap},
    iter::Peekable,
    time::Duration,
};

use async_trait::async_trait;
use outbox_traits::{Claim, ClaimStore, Event, Lease, Leased, Result, Settlement};
use sled::IVec;
use uuid::Uuid;

use crate::{
    SledOutbox, clock,
    keys::{self, Key},
    row::{self, Row, Status},
    store::BATCH,
    trees::Trees,
    view,
};

/// What a lease lasts at least.
const SHORTEST: Duration = Duration::from_millis(1);

#[async_trait]
impl ClaimStore for SledOutbox {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let claim = claim.clone();
        // It is flushed: an event that kills the process at once must come to its attempts all the same.
        self.write(move |trees, now| {
            trees.catch_up(now)?;
            take(trees, &claim, now)
        })
        .await
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        let leases = leases.to_vec();
        self.write(move |trees, now| {
            let until = clock::later(now, length.max(SHORTEST));
            let renewed: Vec<bool> =
                trees.change(|view| leases.iter().map(|lease| view.renew(lease, until, now)).collect())?;
            Ok(answers(&leases, renewed))
        })
        .await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        let (settlements, retention) = (settlements.to_vec(), self.retention);
        self.write(move |trees, now| {
            let settled: Vec<bool> = trees
                .change(|view| settlements.iter().map(|one| view.settle(one, now, retention)).collect())?;
            Ok(answers(settlements.iter().map(|one| &one.lease), settled))
        })
        .await
    }
}

fn answers<'a>(leases: impl IntoIterator<Item = &'a Lease>, held: Vec<bool>) -> Vec<Result<()>> {
    leases.into_iter().zip(held).map(|(lease, held)| if held { Ok(()) } else { Err(lease.lost()) }).collect()
}

/// Looks first and leases then: nobody else changes the trees in between, but for saves, which come last.
fn take(trees: &Trees, claim: &Claim, now: i64) -> Result<Vec<Leased>> {
    let (token, until) = (Uuid::new_v4(), clock::later(now, claim.lease.max(SHORTEST)));
    loop {
        let Choice { events, firsts, undecodable } = trees.read(|| choose(trees, claim))?;
        if !undecodable.is_empty() {
            trees.change(|view| {
                undecodable
                    .iter()
                    .try_for_each(|(place, key, why)| view.set_aside(place, key.as_deref(), why, now))
            })?;
            continue;
        }
        if events.is_empty() && firsts.is_empty() {
            return Ok(Vec::new());
        }
        let counts: Vec<Option<(u32, u32)>> = trees.change(|view| {
            let counts =
                events.iter().map(|(place, _)| view.lease(place, token, until)).collect::<Result<_, _>>()?;
            firsts.iter().try_for_each(|(key, first)| view.note_first(key, *first))?;
            Ok(counts)
        })?;
        let leased = events.into_iter().zip(counts).filter_map(|((_, event), counts)| {
            let (attempts, failures) = counts?;
            let lease = Lease::new(event.id(), token);
            Some(Leased::new(event, lease, attempts, failures))
        });
        return Ok(leased.collect());
    }
}

/// What a claim is to take.
#[derive(Default)]
struct Choice {
    events: Vec<(IVec, Event)>,
    /// Of keys that were looked at, the first event that is not taken.
    firsts: Vec<(String, u64)>,
    /// Places, keys and reasons: they are set aside first.
    undecodable: Vec<(IVec, Option<String>, String)>,
}

fn choose(trees: &Trees, claim: &Claim) -> sled::Result<Choice> {
    let limit = claim.limit.min(Claim::MAX_LIMIT);
    let mut choice = Choice::default();
    let mut candidates = Candidates::of(trees, claim);
    while choice.events.len() < limit && choice.undecodable.len() < BATCH {
        let Some((place, key)) = candidates.next()? else { break };
        match trees.events.get(&place)?.map(|record| row::decode(&record)) {
            Some(Ok(event)) => choice.events.push((place, event)),
            Some(Err(why)) => choice.undecodable.push((place, key, why)),
            None => choice.undecodable.push((place, key, "the stored record is missing".to_owned())),
        }
    }
    choice.firsts = candidates.firsts();
    Ok(choice)
}

/// What can be claimed, oldest first, with its key.
enum Candidates<'a> {
    Any(Following<'a>),
    OfTypes(OfTypes<'a>),
}

impl<'a> Candidates<'a> {
    fn of(trees: &'a Trees, claim: &'a Claim) -> Self {
        if claim.types.is_empty() {
            let heads = trees.heads.iter().peekable();
            Self::Any(Following { trees, heads, first: BTreeMap::new() })
        } else {
            Self::OfTypes(OfTypes { trees, claim, pending: trees.pending.iter(), is_free: HashMap::new() })
        }
    }

    fn next(&mut self) -> sled::Result<Option<(IVec, Option<String>)>> {
        match self {
            Self::Any(all) => all.next(),
            Self::OfTypes(all) => all.next(),
        }
    }

    fn firsts(self) -> Vec<(String, u64)> {
        match self {
            Self::Any(all) => all.first.into_iter().filter_map(|(seq, key)| Some((key?, seq))).collect(),
            Self::OfTypes(_) => Vec::new(),
        }
    }
}

/// The events of all free keys and those without one, in one order. The backlog of a key is not walked: after an
/// event follows the next one of its key.
struct Following<'a> {
    trees: &'a Trees,
    heads: Peekable<sled::Iter>,
    /// The next event of each key that was met.
    first: BTreeMap<u64, Option<String>>,
}

impl Following<'_> {
    fn next(&mut self) -> sled::Result<Option<(IVec, Option<String>)>> {
        loop {
            let next = self.first.first_key_value().map(|(seq, _)| *seq);
            let is_before = |head: &sled::Result<(IVec, IVec)>| match (head, next) {
                (Ok((place, _)), Some(next)) => view::seq_of(place) < next,
                _ => true,
            };
            let Some(head) = self.heads.next_if(is_before) else { break };
            let (place, head) = head?;
            let seq = view::seq_of(&place);
            match keys::key_of(&head) {
                None => _ = self.first.insert(seq, None),
                Some(key) => self.follow(key, seq)?,
            }
        }
        let Some((seq, key)) = self.first.pop_first() else { return Ok(None) };
        if let Some(key) = &key {
            self.follow(key.clone(), seq + 1)?;
        }
        Ok(Some((IVec::from(&seq.to_be_bytes()), key)))
    }

    fn follow(&mut self, key: String, from: u64) -> sled::Result<()> {
        if let Some(seq) = self.trees.first_of(&key, from)? {
            self.first.insert(seq, Some(key));
        }
        Ok(())
    }
}

/// The pending events of some types whose keys are free.
struct OfTypes<'a> {
    trees: &'a Trees,
    claim: &'a Claim,
    pending: sled::Iter,
    /// Of the keys that were met.
    is_free: HashMap<String, bool>,
}

impl OfTypes<'_> {
    fn next(&mut self) -> sled::Result<Option<(IVec, Option<String>)>> {
        while let Some((place, _)) = self.pending.next().transpose()? {
            let row = match Row::decode(&self.trees.rows.get(&place)?.unwrap_or_default()) {
                Some(row) => row,
                None => Row::rebuild(&self.trees.events.get(&place)?.unwrap_or_default(), Status::Pending),
            };
            if self.claim.wants(&row.r#type) && self.is_free(row.key.as_deref())? {
                return Ok(Some((place, row.key)));
            }
        }
        Ok(None)
    }

    fn is_free(&mut self, key: Option<&str>) -> sled::Result<bool> {
        let Some(key) = key else { return Ok(true) };
        if let Some(is_free) = self.is_free.get(key) {
            return Ok(*is_free);
        }
        let is_free = self.trees.key_states.get(key)?.is_none_or(|state| Key::decode(&state).is_free());
        self.is_free.insert(key.to_owned(), is_free);
        Ok(is_free)
    }
}

#[cfg(test)]
mod tests {
    use outbox_traits::OutboxStore;

    use super::*;

    /// Else all claims to come would look for it again.
    #[tokio::test]
    async fn a_claim_notes_where_a_key_begins() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let outbox = SledOutbox::open(&db).unwrap();
        let event = || Event::new("t", ()).unwrap();
        let keyed = || event().with_partition_key("k");
        let all = [keyed(), event(), keyed(), keyed()];
        outbox.save_all(&all).await.unwrap();
        outbox.acknowledge(all[0].id()).await.unwrap();
        let heads = || {
            let heads = outbox.shared.trees.heads.iter().keys();
            heads.map(|head| view::seq_of(&head.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(heads(), [1, 2]);
        let leased = outbox.claim(&Claim::new("a worker").with_limit(1)).await.unwrap();
        assert_eq!(leased[0].event, all[1]);
        assert_eq!(heads(), [3]);
        outbox.claim(&Claim::new("a worker").with_limit(1)).await.unwrap();
        assert_eq!(heads(), [] as [u64; 0], "the key is leased");
        outbox.acknowledge(all[2].id()).await.unwrap();
        assert_eq!(heads(), [4], "free again, it begins where the claim left off");
    }
}

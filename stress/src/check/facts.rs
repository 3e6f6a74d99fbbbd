//! A history, put together by call, event and lease.

use std::collections::{BTreeMap, HashMap};

use outbox_traits::EventId;

use crate::history::{Answer, Call, Held, How, Line, Step};

/// The clock of a store is not the one of the history, and may count in whole milliseconds: so much, in microseconds,
/// a time may be off.
const TOLERANCE: u64 = 5_000;
/// What is seen of a clock that is set is seen so much later, or less, also in microseconds.
const SEEN_WITHIN: u64 = 1_000_000;

pub(super) const NEVER: u64 = u64::MAX;

/// A call with its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op<'a> {
    pub(super) begin: u64,
    /// [`NEVER`], if it was cut off.
    pub(super) end: u64,
    pub(super) call: &'a Call,
    /// None, if it was cut off.
    pub(super) answer: Option<&'a Answer>,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) saves: Vec<(u64, EventId)>,
    pub(super) commit_began: Option<u64>,
    /// If it said so.
    pub(super) committed: Option<u64>,
    pub(super) has_row: bool,
}

impl Session {
    /// Whether its writes are there, and are to be. Where the commit gave no answer, its row tells.
    pub(super) fn exists(&self) -> bool {
        self.commit_began.is_some() && (self.committed.is_some() || self.has_row)
    }
}

/// An event as a save stored it.
#[derive(Clone, Debug)]
pub(super) struct Stored<'a> {
    pub(super) session: u64,
    /// Which one in its session.
    pub(super) index: usize,
    pub(super) key: Option<&'a str>,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) save_began: u64,
    pub(super) save_ended: u64,
}

/// A settlement of one lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) how: How,
    /// None: nobody knows.
    pub(super) took: Option<bool>,
}

impl Settling {
    /// Whether the event may be delivered by it.
    pub(super) fn delivers(&self) -> bool {
        self.how == How::Delivered && self.may_have_taken()
    }

    /// Whether it took, as far as anybody knows.
    pub(super) fn may_have_taken(&self) -> bool {
        self.took != Some(false)
    }
}

/// What happened under one lease.
#[derive(Clone, Debug)]
pub(super) struct Leasing {
    pub(super) held: Held,
    pub(super) claim_began: u64,
    pub(super) claim_ended: u64,
    pub(super) length: u64,
    /// How much earlier or later than told it may end.
    pub(super) tolerance: u64,
    /// Begin, end, length, and whether it took.
    pub(super) renewals: Vec<(u64, u64, u64, Option<bool>)>,
    pub(super) settlings: Vec<Settling>,
    /// Begin, and when it was accepted.
    pub(super) publishes: Vec<(u64, Option<u64>)>,
}

impl Leasing {
    /// When it may end at the earliest and at the latest, with the renewals that began before a time.
    pub(super) fn ends(&self, before: u64) -> (u64, u64) {
        let (mut earliest, mut latest) = (self.claim_began + self.length, self.claim_ended + self.length);
        for (begin, end, length, took) in self.renewals.iter().filter(|renewal| renewal.0 < before) {
            match took {
                Some(true) => (earliest, latest) = (begin + length, end + length),
                Some(false) => {}
                None => (earliest, latest) = (earliest.min(begin + length), NEVER),
            }
        }
        (earliest, latest)
    }

    /// Until when it is surely held, from the end of the claim on.
    pub(super) fn surely_until(&self) -> u64 {
        let settled = self.settlings.iter().filter(|settling| settling.may_have_taken());
        let settled = settled.map(|settling| settling.begin).min().unwrap_or(NEVER);
        self.ends(NEVER).0.saturating_sub(self.tolerance).min(settled)
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) sessions: BTreeMap<u64, Session>,
    /// All that were stored, also in sessions that came to nothing.
    pub(super) stored: HashMap<EventId, Vec<Stored<'a>>>,
    pub(super) leasings: Vec<Leasing>,
    /// By event, the indexes of its leases.
    pub(super) by_event: HashMap<EventId, Vec<usize>>,
    /// Where and when an event was seen.
    pub(super) seen: Vec<(EventId, u64, &'static str)>,
    /// Begin, end, and of which event; nothing, if it surely had no effect.
    pub(super) requeues: Vec<(u64, u64, Option<EventId>)>,
    pub(super) discards: HashMap<EventId, u64>,
    pub(super) dead: Vec<EventId>,
    pub(super) pending: Vec<EventId>,
    /// Whether the state in the end was looked at.
    pub(super) has_look: bool,
    pub(super) rows: Vec<u64>,
    /// Failures that a retry does not help.
    pub(super) errors: Vec<(u64, &'a str)>,
    pub(super) purges: u64,
    /// When the machine's clock was set, and by how much.
    pub(super) clock_steps: Vec<(u64, u64)>,
    pub(super) calls: usize,
}

impl<'a> Facts<'a> {
    pub(super) fn of(lines: &'a [Line]) -> Self {
        let ops = pair(lines);
        let mut facts = Self { calls: ops.len(), ..Self::default() };
        let mut leases: HashMap<Held, usize> = HashMap::new();
        // Claims first: all else is about what they gave.
        for op in &ops {
            if let (Call::Claim { lease_micros, .. }, Some(Answer::Claimed(all))) = (op.call, op.answer) {
                for held in all {
                    leases.insert(*held, facts.leasings.len());
                    facts.by_event.entry(held.event).or_default().push(facts.leasings.len());
                    facts.seen.push((held.event, op.end, "claimed"));
                    facts.leasings.push(Leasing {
                        held: *held,
                        claim_began: op.begin,
                        claim_ended: op.end,
                        length: *lease_micros,
                        tolerance: TOLERANCE,
                        renewals: Vec::new(),
                        settlings: Vec::new(),
                        publishes: Vec::new(),
                    });
                }
            }
        }
        for op in &ops {
            facts.take(op, &leases);
        }
        let steps = lines.iter().filter_map(|line| match line.step {
            Step::ClockSet { micros } => Some((line.at, micros.unsigned_abs())),
            _ => None,
        });
        facts.clock_steps = steps.collect();
        for lease in &mut facts.leasings {
            let times = lease.claim_began..lease.ends(NEVER).1.saturating_add(SEEN_WITHIN);
            let steps = facts.clock_steps.iter().filter(|(at, _)| times.contains(at));
            lease.tolerance += steps.map(|(_, by)| by).sum::<u64>();
        }
        for row in &facts.rows {
            facts.sessions.entry(*row).or_default().has_row = true;
        }
        facts
    }

    fn take(&mut self, op: &Op<'a>, leases: &HashMap<Held, usize>) {
        if let Some(Answer::Failed { error, is_retryable: false }) = op.answer {
            self.errors.push((op.begin, error));
        }
        let took = |index: usize| match op.answer {
            Some(Answer::Each(all)) => all.get(index).copied(),
            _ => None,
        };
        match op.call {
            Call::Save { session, events } => {
                let Some(Answer::Saved(stored)) = op.answer else { return };
                let of = self.sessions.entry(*session).or_default();
                for (saving, _) in events.iter().zip(stored).filter(|(_, stored)| **stored) {
                    let index = of.saves.len();
                    of.saves.push((op.begin, saving.event));
                    self.stored.entry(saving.event).or_default().push(Stored {
                        session: *session,
                        index,
                        key: saving.key.as_deref(),
                        idempotency_key: saving.idempotency_key.as_deref(),
                        save_began: op.begin,
                        save_ended: op.end,
                    });
                }
            }
            Call::Commit { session } => {
                let session = self.sessions.entry(*session).or_default();
                session.commit_began = Some(op.begin);
                session.committed = (op.answer == Some(&Answer::Done)).then_some(op.end);
            }
            Call::Renew { leases: all, lease_micros } => {
                for (index, held) in all.iter().enumerate() {
                    if let Some(&lease) = leases.get(held) {
                        let renewal = (op.begin, op.end, *lease_micros, took(index));
                        self.leasings[lease].renewals.push(renewal);
                    }
                }
            }
            Call::Settle { settlements } => {
                for (index, settled) in settlements.iter().enumerate() {
                    if let Some(&lease) = leases.get(&settled.lease) {
                        let settling =
                            Settling { begin: op.begin, end: op.end, how: settled.how, took: took(index) };
                        self.leasings[lease].settlings.push(settling);
                    }
                }
            }
            Call::Publish { lease } => {
                if let Some(&lease) = leases.get(lease) {
                    let accepted = (op.answer == Some(&Answer::Accepted(true))).then_some(op.end);
                    self.leasings[lease].publishes.push((op.begin, accepted));
                }
            }
            Call::Requeue { event } => {
                if op.answer != Some(&Answer::Changed(0)) {
                    self.requeues.push((op.begin, op.end, *event));
                }
            }
            Call::Discard { event } => {
                if op.answer != Some(&Answer::Changed(0)) {
                    self.discards.entry(*event).or_insert(op.begin);
                }
            }
            Call::Purge => self.purges += 1,
            Call::Pending => {
                if let Some(Answer::Pending(all)) = op.answer {
                    self.seen.extend(all.iter().map(|event| (*event, op.end, "pending")));
                }
            }
            Call::Look => {
                if let Some(Answer::State { rows, dead, pending }) = op.answer {
                    self.has_look = true;
                    self.rows.extend(rows);
                    self.dead.extend(dead);
                    self.pending.extend(pending);
                    self.seen.extend(dead.iter().map(|event| (*event, op.end, "dead in the end")));
                    self.seen.extend(pending.iter().map(|event| (*event, op.end, "pending in the end")));
                }
            }
            Call::Claim { .. } | Call::Rollback { .. } | Call::Stats => {}
        }
    }

    /// An event that is to be there: as it was stored by the session that exists.
    pub(super) fn existing(&self, event: EventId) -> Option<&Stored<'a>> {
        let stored = self.stored.get(&event)?;
        stored.iter().find(|stored| self.sessions[&stored.session].exists())
    }

    /// All events that are to be there.
    pub(super) fn all_existing(&self) -> impl Iterator<Item = (EventId, &Stored<'a>)> {
        self.stored.keys().filter_map(|event| Some((*event, self.existing(*event)?)))
    }

    pub(super) fn leases_of(&self, event: EventId) -> impl Iterator<Item = &Leasing> {
        self.by_event.get(&event).into_iter().flatten().map(|index| &self.leasings[*index])
    }

    pub(super) fn settlings_of(&self, event: EventId) -> impl Iterator<Item = &Settling> {
        self.leases_of(event).flat_map(|lease| &lease.settlings)
    }
}

/// The calls in the order in which they began.
fn pair(lines: &[Line]) -> Vec<Op<'_>> {
    let mut ends: HashMap<u64, (u64, &Answer)> = HashMap::new();
    for line in lines {
        if let Step::End(answer) = &line.step {
            ends.insert(line.op, (line.at, answer));
        }
    }
    let mut ops: Vec<Op<'_>> = lines
        .iter()
        .filter_map(|line| match &line.step {
            Step::Begin(call) => {
                let (end, answer) =
                    ends.get(&line.op).map_or((NEVER, None), |(at, answer)| (*at, Some(*answer)));
                Some(Op { begin: line.at, end, call, answer })
            }
            Step::End(_) | Step::ClockSet { .. } => None,
        })
        .collect();
    ops.sort_by_key(|op| op.begin);
    ops
}

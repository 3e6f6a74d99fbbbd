//! Whether a history is one that the contract allows.
//!
//! It knows of each call only that it took effect, if at all, between its begin and its end. What it reports cannot be
//! otherwise: of a lease it uses the earliest end where it must have been held, and the latest where it must have run
//! out.

mod delivery;
mod events;
mod facts;
mod order;
mod story;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use outbox_traits::EventId;

use crate::history::Line;
use facts::Facts;

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A committed event that was neither delivered nor is dead.
    Lost,
    /// An event of a transaction that was rolled back, or is not committed yet, or was told to be a duplicate.
    RolledBack,
    /// A row of the business without its events, or events without their row.
    Torn,
    /// One idempotency key, twice at the same time.
    StoredTwice,
    /// A lease that ran out, was settled or is another's, and had an effect all the same.
    StaleLease,
    /// A publish that began before the one that it had to wait for was accepted, or two workers at one key.
    Order,
    /// A call that failed in a way that a retry does not help.
    Error,
}

impl Fault {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Lost, "lost events"),
        (Self::RolledBack, "events of rolled-back transactions"),
        (Self::Torn, "events apart from their rows"),
        (Self::StoredTwice, "idempotency keys stored twice"),
        (Self::StaleLease, "effects of a stale lease"),
        (Self::Order, "breaches of the order of a key"),
        (Self::Error, "unexpected errors"),
    ];
}

/// One fault that was found.
#[derive(Debug)]
pub(crate) struct Found {
    fault: Fault,
    at: u64,
    what: String,
    /// The events that it is about.
    events: Vec<EventId>,
}

/// What was found in a history.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) found: Vec<Found>,
    summary: String,
    stories: Vec<String>,
}

/// How many counter-examples are told of each fault.
const EXAMPLES: usize = 3;

/// Looks for faults in a history.
pub(crate) fn check(lines: &[Line]) -> Report {
    let facts = Facts::of(lines);
    let mut found = Vec::new();
    for rule in [events::check, delivery::check, order::check] {
        rule(&facts, &mut found);
    }
    found.sort_by_key(|one: &Found| (one.fault, one.at));
    let mut told: BTreeMap<Fault, usize> = BTreeMap::new();
    let mut stories = Vec::new();
    for one in &found {
        let count = told.entry(one.fault).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            stories.push(story::tell(lines, &one.what, &one.events));
        }
    }
    let count = |fault| told.get(&fault).copied().unwrap_or(0);
    let faults: Vec<String> =
        Fault::ALL.iter().map(|(fault, name)| format!("{} {name}", count(*fault))).collect();
    let summary = format!("{}; {}", seen(&facts), faults.join(", "));
    Report { found, summary, stories }
}

/// What there was, in numbers.
fn seen(facts: &Facts<'_>) -> String {
    let (mut delivered, mut discarded, mut stale, mut unknown) = (0, 0, 0, 0);
    let mut committed = 0;
    for (event, _) in facts.all_existing() {
        committed += 1;
        delivered += usize::from(facts.settlings_of(event).any(facts::Settling::delivers));
        discarded += usize::from(facts.discards.contains_key(&event));
    }
    for settling in facts.leasings.iter().flat_map(|lease| &lease.settlings) {
        stale += usize::from(settling.took == Some(false));
        unknown += usize::from(settling.took.is_none());
    }
    let mut settled: Vec<u64> = facts
        .leasings
        .iter()
        .flat_map(|lease| &lease.settlings)
        .filter(|settling| settling.took == Some(true))
        .map(|settling| settling.end)
        .collect();
    settled.sort_unstable();
    let stall = settled.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) / 1000;
    let rolled_back = facts.sessions.values().filter(|session| !session.exists()).count();
    format!(
        "{} calls: {committed} events in {} committed and {rolled_back} rolled-back transactions, {} leases, \
         {delivered} delivered, {} dead, {discarded} discarded, {stale} settlements refused, {unknown} cut off, \
         at most {stall} ms without one, {} purges, the clock was set {} times",
        facts.calls,
        facts.sessions.len() - rolled_back,
        facts.leasings.len(),
        facts.dead.len(),
        facts.purges,
        facts.clock_steps.len(),
    )
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }
}

impl fmt::Display for Report {
    /// The counter-examples, and a summary in the last line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for story in &self.stories {
            writeln!(f, "{story}")?;
        }
        f.write_str(&self.summary)
    }
}

//! Leases: one at a time on an event, and none has an effect once it is over.

use outbox_traits::EventId;

use super::{
    Fault, Found,
    facts::{Facts, Leasing, NEVER, Settling},
};
use crate::history::How;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Found>) {
    let mut fault = |at, what: String, event| {
        found.push(Found { fault: Fault::StaleLease, at, what, events: vec![event] });
    };
    for lease in &facts.leasings {
        stale(lease, &mut fault);
    }
    for event in facts.by_event.keys() {
        let mut leases: Vec<&Leasing> = facts.leases_of(*event).collect();
        leases.sort_by_key(|lease| lease.claim_began);
        delivered_twice(*event, &leases, &mut fault);
        come_back(facts, *event, &leases, &mut fault);
    }
    for (one, two) in overlaps(facts.leasings.iter().map(|lease| (lease.held.event, lease))) {
        let what = format!("{} was leased twice at the same time", one.held.event);
        fault(two.claim_ended, what, one.held.event);
    }
}

/// Renewals and settlements of one lease that took, though it was over.
fn stale(lease: &Leasing, fault: &mut impl FnMut(u64, String, EventId)) {
    let event = lease.held.event;
    let mut settled = NEVER;
    for settling in lease.settlings.iter().filter(|settling| settling.took == Some(true)) {
        if settling.begin > settled {
            fault(settling.begin, format!("a lease on {event} was settled twice"), event);
        }
        settled = settled.min(settling.end);
        let over = lease.ends(settling.begin).1.saturating_add(lease.tolerance);
        if settling.begin > over {
            let late = settling.begin - over;
            let what = format!("a lease on {event} was settled {late} µs or more after it had run out");
            fault(settling.begin, what, event);
        }
    }
    for (begin, ..) in lease.renewals.iter().filter(|(.., took)| *took == Some(true)) {
        if *begin > lease.ends(*begin).1.saturating_add(lease.tolerance) {
            fault(*begin, format!("a lease on {event} was renewed after it had run out"), event);
        }
        if *begin > settled {
            fault(*begin, format!("a lease on {event} was renewed after it was settled"), event);
        }
    }
}

/// An event is delivered once for all.
fn delivered_twice(event: EventId, leases: &[&Leasing], fault: &mut impl FnMut(u64, String, EventId)) {
    let all = leases.iter().flat_map(|lease| &lease.settlings);
    let took = all.filter(|settling| settling.took == Some(true) && settling.delivers());
    for settling in took.skip(1) {
        fault(settling.begin, format!("{event} was taken for delivered twice"), event);
    }
}

/// What is delivered is not claimed again, and what is dead only once it was requeued.
fn come_back(
    facts: &Facts<'_>,
    event: EventId,
    leases: &[&Leasing],
    fault: &mut impl FnMut(u64, String, EventId),
) {
    let took =
        leases.iter().flat_map(|lease| &lease.settlings).filter(|settling| settling.took == Some(true));
    for Settling { begin, end, how, .. } in took {
        let later = leases.iter().filter(|lease| lease.claim_began > *end);
        for lease in later {
            let requeued = |(began, ended, of): &(u64, u64, Option<EventId>)| {
                *ended > *begin && *began < lease.claim_ended && of.is_none_or(|of| of == event)
            };
            let what = match how {
                How::Delivered => "delivered",
                How::DeadLetter | How::Held if !facts.requeues.iter().any(requeued) => "dead",
                _ => continue,
            };
            fault(lease.claim_began, format!("{event} was {what} already when it was claimed"), event);
        }
    }
}

/// Pairs of leases of one group, of different claims, that were both held at one moment.
pub(super) fn overlaps<'a, G: Ord>(
    leases: impl Iterator<Item = (G, &'a Leasing)>,
) -> Vec<(&'a Leasing, &'a Leasing)> {
    let mut all: Vec<(G, &Leasing)> = leases.collect();
    all.sort_by(|(one, first), (two, second)| (one, first.claim_ended).cmp(&(two, second.claim_ended)));
    let (mut found, mut held) = (Vec::new(), Vec::<&Leasing>::new());
    let mut group = None;
    for (of, lease) in &all {
        if group != Some(of) {
            held.clear();
            group = Some(of);
        }
        held.retain(|other| other.surely_until() > lease.claim_ended);
        // Its own end may be before the claim returned.
        if lease.surely_until() > lease.claim_ended {
            let others = held.iter().filter(|other| other.held.token != lease.held.token);
            found.extend(others.map(|other| (*other, *lease)));
            held.push(lease);
        }
    }
    found
}

//! The order of each partition key.

use std::collections::BTreeMap;

use outbox_traits::EventId;

use super::{
    Fault, Found, delivery,
    facts::{Facts, NEVER, Stored},
};
use crate::history::How;

/// An event of a key, in the order in which it must be published.
struct Queued<'a> {
    event: EventId,
    stored: &'a Stored<'a>,
    committed: u64,
    /// From when on others need not wait for it.
    out_of_the_way: u64,
    /// The first publish under a lease that was surely held.
    published: u64,
}

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Found>) {
    let mut keys: BTreeMap<&str, Vec<Queued<'_>>> = BTreeMap::new();
    for (event, stored) in facts.all_existing() {
        if let Some(key) = stored.key {
            keys.entry(key).or_default().push(Queued {
                event,
                stored,
                committed: facts.sessions[&stored.session].committed.unwrap_or(NEVER),
                out_of_the_way: out_of_the_way(facts, event),
                published: published(facts, event),
            });
        }
    }
    for (key, queue) in &mut keys {
        causal(key, queue, found);
        of_one_session(key, queue, found);
    }
    let keyed = facts.leasings.iter().filter_map(|lease| {
        let key = facts.existing(lease.held.event)?.key?;
        Some((key, lease))
    });
    for (one, two) in delivery::overlaps(keyed) {
        // The same event twice is told already.
        if one.held.event != two.held.event {
            let (first, second) = (one.held.event, two.held.event);
            let what = format!("{first} and {second} of one key were leased to two at the same time");
            found.push(Found { fault: Fault::Order, at: two.claim_ended, what, events: vec![first, second] });
        }
    }
}

/// Accepted by the transport, discarded, or dead without holding its key.
fn out_of_the_way(facts: &Facts<'_>, event: EventId) -> u64 {
    let accepted = facts.leases_of(event).flat_map(|lease| &lease.publishes).filter_map(|publish| publish.1);
    let dead = facts.settlings_of(event).filter(|one| one.how == How::DeadLetter && one.may_have_taken());
    let discarded = facts.discards.get(&event).copied();
    accepted.chain(dead.map(|settling| settling.begin)).chain(discarded).min().unwrap_or(NEVER)
}

/// When it was published first, by one who surely had the lease.
fn published(facts: &Facts<'_>, event: EventId) -> u64 {
    let publishes = facts.leases_of(event).flat_map(|lease| {
        let until = lease.surely_until();
        lease.publishes.iter().map(|publish| publish.0).filter(move |begin| *begin < until)
    });
    publishes.min().unwrap_or(NEVER)
}

/// What was committed before another was saved comes first.
fn causal(key: &str, queue: &mut [Queued<'_>], found: &mut Vec<Found>) {
    queue.sort_by_key(|queued| queued.committed);
    // Of each so many first ones, the one that was in the way for longest.
    let mut slowest: Vec<usize> = Vec::with_capacity(queue.len());
    for (index, queued) in queue.iter().enumerate() {
        let before = slowest.last().copied().unwrap_or(index);
        slowest.push(if queue[before].out_of_the_way > queued.out_of_the_way { before } else { index });
    }
    for later in queue.iter().filter(|queued| queued.published != NEVER) {
        let before = queue.partition_point(|queued| queued.committed < later.stored.save_began);
        if let Some(index) = before.checked_sub(1) {
            breach(key, &queue[slowest[index]], later, found);
        }
    }
}

fn of_one_session(key: &str, queue: &mut [Queued<'_>], found: &mut Vec<Found>) {
    queue.sort_by_key(|queued| (queued.stored.session, queued.stored.index));
    for chunk in queue.chunk_by(|one, two| one.stored.session == two.stored.session) {
        let mut slowest = &chunk[0];
        for later in &chunk[1..] {
            breach(key, slowest, later, found);
            if later.out_of_the_way > slowest.out_of_the_way {
                slowest = later;
            }
        }
    }
}

fn breach(key: &str, earlier: &Queued<'_>, later: &Queued<'_>, found: &mut Vec<Found>) {
    if later.published != NEVER && later.published < earlier.out_of_the_way {
        let (first, second) = (earlier.event, later.event);
        let what = format!(
            "{second} of the key `{key}` was published before {first} was accepted, or dead without a hold"
        );
        found.push(Found { fault: Fault::Order, at: later.published, what, events: vec![first, second] });
    }
}

//! What was saved: nothing lost, nothing that was rolled back, and one fate with the rows.

use std::collections::HashMap;

use super::{
    Fault, Found,
    facts::{Facts, NEVER, Settling, Stored},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Found>) {
    lost(facts, found);
    rolled_back(facts, found);
    torn(facts, found);
    stored_twice(facts, found);
    for (at, error) in &facts.errors {
        found.push(Found { fault: Fault::Error, at: *at, what: (*error).to_owned(), events: Vec::new() });
    }
}

/// Without a look at the end nobody knows what is still to be delivered.
fn lost(facts: &Facts<'_>, found: &mut Vec<Found>) {
    for (event, stored) in facts.all_existing().filter(|_| facts.has_look) {
        let is_there = facts.settlings_of(event).any(Settling::delivers)
            || facts.discards.contains_key(&event)
            || facts.dead.contains(&event);
        if !is_there {
            let what = if facts.pending.contains(&event) {
                "is still pending, though everything was drained"
            } else {
                "is neither delivered nor dead nor pending"
            };
            let what = format!("{event} of session {} was committed, and {what}", stored.session);
            found.push(Found { fault: Fault::Lost, at: stored.save_began, what, events: vec![event] });
        }
    }
}

fn rolled_back(facts: &Facts<'_>, found: &mut Vec<Found>) {
    for (event, at, how) in &facts.seen {
        let what = match facts.existing(*event) {
            None => format!("{event} was {how}, and no transaction that was committed has stored it"),
            Some(stored) => {
                let began = facts.sessions[&stored.session].commit_began.unwrap_or(NEVER);
                if began <= *at {
                    continue;
                }
                format!("{event} was {how} before the commit of session {} began", stored.session)
            }
        };
        found.push(Found { fault: Fault::RolledBack, at: *at, what, events: vec![*event] });
    }
}

fn torn(facts: &Facts<'_>, found: &mut Vec<Found>) {
    for (number, session) in facts.sessions.iter().filter(|_| facts.has_look) {
        let what = match (session.commit_began, session.committed, session.has_row) {
            (_, Some(_), false) => "was committed, and its row is not there",
            (None, _, true) => "was never committed, and its row is there",
            _ => continue,
        };
        let events: Vec<_> = session.saves.iter().map(|(_, event)| *event).collect();
        let at = session.saves.first().map_or(0, |(at, _)| *at);
        found.push(Found { fault: Fault::Torn, at, what: format!("session {number} {what}"), events });
    }
}

/// A key is free again only when its event is purged, which must have been delivered before, or discarded.
fn stored_twice(facts: &Facts<'_>, found: &mut Vec<Found>) {
    let mut by_key: HashMap<&str, Vec<(outbox_traits::EventId, &Stored<'_>)>> = HashMap::new();
    for (event, stored) in facts.all_existing() {
        if let Some(key) = stored.idempotency_key {
            by_key.entry(key).or_default().push((event, stored));
        }
    }
    let freed = |event| {
        let delivered = facts.settlings_of(event).filter(|settling| settling.delivers());
        let delivered = delivered.map(|settling| settling.begin).min().unwrap_or(NEVER);
        delivered.min(facts.discards.get(&event).copied().unwrap_or(NEVER))
    };
    for (key, mut all) in by_key {
        all.sort_by_key(|(_, stored)| stored.save_ended);
        for pair in all.windows(2) {
            let [(one, first), (two, second)] = pair else { continue };
            if freed(*one) > second.save_ended && freed(*two) > first.save_ended {
                let what = format!("{one} and {two} were both stored under the idempotency key `{key}`");
                let at = second.save_began;
                found.push(Found { fault: Fault::StoredTwice, at, what, events: vec![*one, *two] });
            }
        }
    }
}

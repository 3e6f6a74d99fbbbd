//! A counter-example, for people.

use std::collections::{HashMap, HashSet};

use outbox_traits::EventId;

use crate::history::{Answer, Call, Line, Step};

/// So that a story can be read.
const LONGEST: usize = 60;

/// What happened to these events, in the order of time.
pub(super) fn tell(lines: &[Line], what: &str, events: &[EventId]) -> String {
    let events: HashSet<EventId> = events.iter().copied().collect();
    let ends: HashMap<u64, &Line> =
        lines.iter().filter(|line| matches!(line.step, Step::End(_))).map(|line| (line.op, line)).collect();
    let sessions: HashSet<u64> = lines
        .iter()
        .filter_map(|line| match &line.step {
            Step::Begin(Call::Save { session, events: all }) => {
                all.iter().any(|saving| events.contains(&saving.event)).then_some(*session)
            }
            _ => None,
        })
        .collect();
    let first = lines.iter().map(|line| line.at).min().unwrap_or(0);
    let mut told: Vec<(u64, String)> = Vec::new();
    for line in lines {
        let Step::Begin(call) = &line.step else { continue };
        let end = ends.get(&line.op).copied();
        let answer = end.and_then(|end| match &end.step {
            Step::End(answer) => Some(answer),
            Step::Begin(_) | Step::ClockSet { .. } => None,
        });
        for text in parts(call, answer, &events, &sessions) {
            let ended = end.map_or("cut off".to_owned(), |end| millis(end.at - first));
            told.push((line.at, format!("  {:>12} to {ended:>12} ms  {text}", millis(line.at - first))));
        }
    }
    told.sort_by_key(|(at, _)| *at);
    let left_out = told.len().saturating_sub(LONGEST);
    let mut story = vec![format!("FAULT: {what}")];
    story.extend(told.into_iter().take(LONGEST).map(|(_, text)| text));
    if left_out > 0 {
        story.push(format!("  and {left_out} more"));
    }
    story.join("\n")
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// What a call had to do with the events.
fn parts(
    call: &Call,
    answer: Option<&Answer>,
    events: &HashSet<EventId>,
    sessions: &HashSet<u64>,
) -> Vec<String> {
    let each = |index: usize| match answer {
        Some(Answer::Each(all)) if all.get(index) == Some(&true) => "took".to_owned(),
        Some(Answer::Each(_)) => "lease lost".to_owned(),
        other => said(other),
    };
    match call {
        Call::Save { session, events: all } => of(all, events, |saving| saving.event)
            .map(|(index, saving)| {
                let answer = match answer {
                    Some(Answer::Saved(all)) if all.get(index) == Some(&true) => "stored".to_owned(),
                    Some(Answer::Saved(_)) => "duplicate".to_owned(),
                    other => said(other),
                };
                format!("save {} in session {session}, key {:?}: {answer}", saving.event, saving.key)
            })
            .collect(),
        Call::Commit { session } if sessions.contains(session) => {
            vec![format!("commit session {session}: {}", said(answer))]
        }
        Call::Rollback { session } if sessions.contains(session) => {
            vec![format!("roll back session {session}")]
        }
        Call::Claim { worker, lease_micros } => match answer {
            Some(Answer::Claimed(all)) => of(all, events, |held| held.event)
                .map(|(_, held)| {
                    let length = lease_micros / 1000;
                    format!("{worker} claims {} for {length} ms: {}", held.event, held.token)
                })
                .collect(),
            _ => Vec::new(),
        },
        Call::Renew { leases, lease_micros } => of(leases, events, |held| held.event)
            .map(|(index, held)| {
                let length = lease_micros / 1000;
                format!("renew {} {} for {length} ms: {}", held.event, held.token, each(index))
            })
            .collect(),
        Call::Publish { lease } if events.contains(&lease.event) => {
            vec![format!("publish {} {}: {}", lease.event, lease.token, said(answer))]
        }
        Call::Settle { settlements } => of(settlements, events, |settled| settled.lease.event)
            .map(|(index, settled)| {
                let held = settled.lease;
                format!("settle {} {} as {:?}: {}", held.event, held.token, settled.how, each(index))
            })
            .collect(),
        Call::Requeue { event: None } if events.is_empty() || answer == Some(&Answer::Changed(0)) => {
            Vec::new()
        }
        Call::Requeue { event } if event.is_none_or(|event| events.contains(&event)) => {
            let of = event.map_or("all that are dead".to_owned(), |event| event.to_string());
            vec![format!("requeue {of}: {}", said(answer))]
        }
        Call::Discard { event } if events.contains(event) => {
            vec![format!("discard {event}: {}", said(answer))]
        }
        _ => Vec::new(),
    }
}

fn of<'a, T>(
    all: &'a [T],
    events: &'a HashSet<EventId>,
    event: impl Fn(&T) -> EventId + 'a,
) -> impl Iterator<Item = (usize, &'a T)> {
    all.iter().enumerate().filter(move |(_, one)| events.contains(&event(one)))
}

fn said(answer: Option<&Answer>) -> String {
    match answer {
        None => "no answer".to_owned(),
        Some(Answer::Failed { error, .. }) => format!("failed: {error}"),
        Some(Answer::Accepted(true)) => "accepted".to_owned(),
        Some(Answer::Accepted(false)) => "refused".to_owned(),
        Some(Answer::Changed(count)) => format!("{count} changed"),
        Some(_) => "done".to_owned(),
    }
}

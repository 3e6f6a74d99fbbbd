//! Random histories against a plain list.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{Event, EventId, OutboxStore, Retention, Saved};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_assert_eq, prop_oneof,
    test_runner::TestCaseError,
};

use super::{STEP, beside, check, fail};
use crate::{
    Harness,
    support::{ALL, event, ids},
};

/// One save: which event, under which key, hidden for how many steps of the clock.
#[derive(Clone, Debug)]
struct Save {
    event: usize,
    key: Option<usize>,
    hidden: i32,
}

#[derive(Clone, Debug)]
enum Step {
    Save(Save),
    SaveAll(Vec<Save>),
    Session { saves: Vec<Save>, in_one: bool, commits: bool },
    Undecodable(usize),
    Fetch(usize),
    Acknowledge(Vec<usize>),
    Purge(u32),
    Advance(u32),
}

/// Few events and keys, so that they meet again and again.
const EVENTS: usize = 12;
const KEYS: usize = 4;

fn saves() -> impl Strategy<Value = Save> {
    (0..EVENTS, option::weighted(0.3, 0..KEYS), prop_oneof![4 => Just(0), 1 => 1..4])
        .prop_map(|(event, key, hidden)| Save { event, key, hidden })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => saves().prop_map(Step::Save),
        2 => vec(saves(), 0..5).prop_map(Step::SaveAll),
        4 => (vec(saves(), 1..5), any::<bool>(), any::<bool>())
            .prop_map(|(saves, in_one, commits)| Step::Session { saves, in_one, commits }),
        1 => (0..EVENTS).prop_map(Step::Undecodable),
        2 => (0..6_usize).prop_map(Step::Fetch),
        4 => vec(0..EVENTS, 0..5).prop_map(Step::Acknowledge),
        2 => (0..4_u32).prop_map(Step::Purge),
        3 => (1..4_u32).prop_map(Step::Advance),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Pending { due: i64 },
    Delivered { at: i64 },
    Undecodable,
}

#[derive(Clone, Debug)]
struct Row {
    event: usize,
    key: Option<usize>,
    status: Status,
}

/// The list that a store must agree with.
#[derive(Clone, Debug, Default)]
struct List {
    rows: Vec<Row>,
    now: i64,
}

impl List {
    fn save(&mut self, save: &Save) -> Saved {
        let is_taken = |row: &Row| row.event == save.event || (save.key.is_some() && row.key == save.key);
        if self.rows.iter().any(is_taken) {
            return Saved::Duplicate;
        }
        let due = if save.hidden == 0 { self.now } else { self.now + beside(save.hidden.into()) };
        self.rows.push(Row { event: save.event, key: save.key, status: Status::Pending { due } });
        Saved::Stored
    }

    fn pending(&self) -> impl Iterator<Item = usize> {
        let is_due = |row: &&Row| matches!(row.status, Status::Pending { due } if due <= self.now);
        self.rows.iter().filter(is_due).map(|row| row.event)
    }

    fn acknowledge(&mut self, event: usize, retention: Retention) {
        let now = self.now;
        for row in self.rows.iter_mut().filter(|row| row.event == event) {
            if matches!(row.status, Status::Pending { .. }) {
                row.status = Status::Delivered { at: now };
            }
        }
        if retention == Retention::DeleteOnDelivery {
            self.rows.retain(|row| !matches!(row.status, Status::Delivered { .. }));
        }
    }

    fn purge(&mut self, age: i64) -> u64 {
        let (before, now) = (self.rows.len(), self.now);
        self.rows.retain(|row| !matches!(row.status, Status::Delivered { at } if at + age <= now));
        (before - self.rows.len()) as u64
    }

    fn is_undecodable(&self, event: usize) -> bool {
        self.rows.iter().any(|row| row.event == event && row.status == Status::Undecodable)
    }
}

/// In seconds: beside a step of the clock; zero stays zero.
fn age(steps: u32) -> i64 {
    if steps == 0 { 0 } else { beside(steps.into()) }
}

#[doc(hidden)]
pub fn check_model<H: Harness>(cases: u32) {
    check::<H, _>(cases, steps(), async |h, history| agree(&h, &history).await);
}

async fn agree<H: Harness>(h: &Arc<H>, history: &[Step]) -> Result<(), TestCaseError> {
    let id_of: Vec<EventId> = (0..EVENTS).map(|_| EventId::new()).collect();
    let mut list = List::default();
    for step in history {
        take(h, &id_of, &mut list, step).await?;
        let read = ids(&h.store().get_pending(ALL).await.map_err(fail)?);
        let expected: Vec<EventId> = list.pending().map(|event| id_of[event]).collect();
        prop_assert_eq!(read, expected, "pending after {:?}", step);
    }
    Ok(())
}

async fn take<H: Harness>(
    h: &Arc<H>,
    id_of: &[EventId],
    list: &mut List,
    step: &Step,
) -> Result<(), TestCaseError> {
    let now = h.now().await;
    let make = |save: &Save| -> Event {
        let mut event = event("model").with_id(id_of[save.event]);
        event.meta_mut().idempotency_key = save.key.map(|key| format!("key {key}"));
        if save.hidden == 0 {
            event
        } else {
            event.with_not_before(now + TimeDelta::seconds(beside(save.hidden.into())))
        }
    };
    let make_all = |saves: &[Save]| saves.iter().map(make).collect::<Vec<_>>();
    match step {
        Step::Save(save) => {
            let saved = h.store().save(&make(save)).await.map_err(fail)?;
            prop_assert_eq!(saved, list.save(save));
        }
        Step::SaveAll(saves) => {
            let saved = h.store().save_all(&make_all(saves)).await.map_err(fail)?;
            let expected: Vec<Saved> = saves.iter().map(|save| list.save(save)).collect();
            prop_assert_eq!(saved, expected);
        }
        Step::Session { saves, in_one, commits } => {
            let before = list.clone();
            let mut transaction = h.begin().await;
            let events = make_all(saves);
            let session = h.session(&mut transaction);
            let mut saved = Vec::new();
            if *in_one {
                saved = h.store().save_all_in_session(&events, session).await.map_err(fail)?;
            } else {
                for event in &events {
                    saved.push(h.store().save_in_session(event, session).await.map_err(fail)?);
                }
            }
            let expected: Vec<Saved> = saves.iter().map(|save| list.save(save)).collect();
            prop_assert_eq!(saved, expected);
            if *commits {
                h.commit(transaction).await;
            } else {
                h.rollback(transaction).await;
                *list = before;
            }
        }
        Step::Undecodable(event) => {
            if list.rows.iter().all(|row| row.event != *event) {
                h.insert_undecodable(id_of[*event]).await;
                list.rows.push(Row { event: *event, key: None, status: Status::Undecodable });
            }
        }
        Step::Fetch(limit) => {
            let read = ids(&h.store().get_pending(*limit).await.map_err(fail)?);
            let expected: Vec<EventId> = list.pending().take(*limit).map(|event| id_of[event]).collect();
            prop_assert_eq!(read, expected, "with a limit of {}", limit);
        }
        Step::Acknowledge(events) => {
            // Until a fetch has met it, nothing tells a row that cannot be decoded from one that can.
            let events: Vec<usize> =
                events.iter().copied().filter(|event| !list.is_undecodable(*event)).collect();
            let ids: Vec<EventId> = events.iter().map(|event| id_of[*event]).collect();
            match ids.as_slice() {
                [id] => h.store().acknowledge(*id).await.map_err(fail)?,
                ids => h.store().acknowledge_all(ids).await.map_err(fail)?,
            }
            for event in events {
                list.acknowledge(event, h.retention());
            }
        }
        Step::Purge(steps) => {
            let older_than = Duration::from_secs(age(*steps).unsigned_abs());
            let purged = h.store().purge(older_than).await.map_err(fail)?;
            prop_assert_eq!(purged, list.purge(age(*steps)));
        }
        Step::Advance(steps) => {
            let by = i64::from(*steps) * STEP;
            h.advance(Duration::from_secs(by.unsigned_abs())).await;
            list.now += by;
        }
    }
    Ok(())
}

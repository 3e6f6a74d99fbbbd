//! Random histories of claims and settlements.
//!
//! The contract leaves a store some freedom in what a claim takes: how many events of a key, and how far it looks.
//! So the model does not foretell a claim; it checks that what was claimed may be, and goes on from there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, Lease, Leased,
    OutboxStore, Settlement,
};
use proptest::{
    collection::vec,
    option,
    prelude::{Strategy, any},
    prop_assert, prop_assert_eq, prop_oneof,
    test_runner::TestCaseError,
};
use serde_json::json;
use uuid::Uuid;

use super::{STEP, beside, check, fail};
use crate::{
    Harness,
    support::{ALL, ids},
};

#[derive(Clone, Debug)]
enum Step {
    /// Events of these keys, the last of which is no key, and types.
    Save(Vec<(usize, usize)>),
    Claim {
        limit: usize,
        steps: u32,
        /// Only of this one.
        of_type: Option<usize>,
    },
    Renew {
        leases: Vec<usize>,
        steps: u32,
    },
    Settle(Vec<(usize, End)>),
    Acknowledge(Vec<usize>),
    Advance(u32),
    /// One of the dead letters, or all.
    Requeue(Option<usize>),
    Discard(Option<usize>),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Retry(u32),
    DeadLetter { holds_key: bool },
    Released,
}

const KEYS: usize = 3;
const TYPES: [&str; 2] = ["model.a", "model.b"];

fn steps() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        4 => any::<bool>().prop_map(|_| End::Delivered),
        3 => (0..4_u32).prop_map(End::Retry),
        3 => any::<bool>().prop_map(|holds_key| End::DeadLetter { holds_key }),
        2 => any::<bool>().prop_map(|_| End::Released),
    ];
    prop_oneof![
        5 => vec((0..=KEYS, 0..TYPES.len()), 1..5).prop_map(Step::Save),
        6 => (0..6_usize, 1..4_u32, option::weighted(0.3, 0..TYPES.len()))
            .prop_map(|(limit, steps, of_type)| Step::Claim { limit, steps, of_type }),
        1 => (vec(0..8_usize, 1..4), 1..4_u32).prop_map(|(leases, steps)| Step::Renew { leases, steps }),
        6 => vec((0..8_usize, end), 1..5).prop_map(Step::Settle),
        1 => vec(0..12_usize, 1..3).prop_map(Step::Acknowledge),
        3 => (1..4_u32).prop_map(Step::Advance),
        2 => option::of(0..4_usize).prop_map(Step::Requeue),
        1 => option::of(0..4_usize).prop_map(Step::Discard),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Pending,
    Leased { until: i64 },
    Waiting { until: i64 },
    Delivered,
    Dead { holds_key: bool },
}

#[derive(Debug)]
struct Row {
    id: EventId,
    of_type: usize,
    key: Option<usize>,
    status: Status,
    attempts: u32,
    failures: u32,
    lease: Option<Lease>,
}

#[derive(Debug, Default)]
struct Model {
    rows: Vec<Row>,
    /// All leases that ever were, the newest last.
    leases: Vec<Lease>,
    now: i64,
    /// How many events were saved.
    saved: u32,
}

impl Model {
    /// What time alone brings about.
    fn catch_up(&mut self) {
        for row in &mut self.rows {
            match row.status {
                Status::Leased { until } if until <= self.now => {
                    row.attempts += 1;
                    (row.status, row.lease) = (Status::Pending, None);
                }
                Status::Waiting { until } if until <= self.now => row.status = Status::Pending,
                _ => {}
            }
        }
    }

    fn of_status(&self, wanted: impl Fn(Status) -> bool) -> Vec<EventId> {
        self.rows.iter().filter(|row| wanted(row.status)).map(|row| row.id).collect()
    }

    fn is_busy(&self, key: Option<usize>) -> bool {
        key.is_some()
            && self.rows.iter().any(|row| {
                row.key == key
                    && matches!(
                        row.status,
                        Status::Leased { .. } | Status::Waiting { .. } | Status::Dead { holds_key: true }
                    )
            })
    }

    /// One of the dead letters, by a number that is counted around, or all: their places and ids.
    fn dead(&self, number: Option<usize>) -> Vec<(usize, EventId)> {
        let all = self.rows.iter().enumerate().filter(|(_, row)| matches!(row.status, Status::Dead { .. }));
        let all = all.map(|(index, row)| (index, row.id));
        match number {
            Some(number) => all.clone().skip(number % all.count().max(1)).take(1).collect(),
            None => all.collect(),
        }
    }

    /// The events that a claim may take, each only after those of its key before it that it may take too.
    fn claimable(&self, of_type: Option<usize>) -> Vec<usize> {
        let is_free = |row: &Row| {
            let is_wanted = of_type.is_none_or(|wanted| wanted == row.of_type);
            is_wanted && row.status == Status::Pending && !self.is_busy(row.key)
        };
        (0..self.rows.len()).filter(|index| is_free(&self.rows[*index])).collect()
    }

    /// Notes what was claimed of what may be, until then.
    fn claimed(
        &mut self,
        leased: &[Leased],
        claimable: &[usize],
        limit: usize,
        until: i64,
    ) -> Result<(), TestCaseError> {
        prop_assert!(leased.len() <= limit, "{} were claimed and the limit is {}", leased.len(), limit);
        prop_assert!(
            leased.len() >= limit.min(claimable.len()).min(1),
            "nothing was claimed of {claimable:?}"
        );
        let mut next: HashMap<usize, std::vec::IntoIter<usize>> = HashMap::new();
        let mut last = None;
        for one in leased {
            let index = self.rows.iter().position(|row| row.id == one.event.id());
            let index = index.ok_or_else(|| TestCaseError::fail("an unknown event was claimed"))?;
            prop_assert!(claimable.contains(&index), "event {} was claimed, of {:?}", index, claimable);
            prop_assert!(last < Some(index), "claimed out of order");
            last = Some(index);
            if let Some(key) = self.rows[index].key {
                let of_key = || {
                    let of_key: Vec<usize> = claimable
                        .iter()
                        .copied()
                        .filter(|index| self.rows[*index].key == Some(key))
                        .collect();
                    of_key.into_iter()
                };
                let first = next.entry(key).or_insert_with(of_key).next();
                prop_assert_eq!(first, Some(index), "an event of the key {} was passed over", key);
            }
            let row = &mut self.rows[index];
            prop_assert_eq!((one.attempts, one.failures), (row.attempts + 1, row.failures));
            (row.status, row.lease) = (Status::Leased { until }, Some(one.lease));
            self.leases.push(one.lease);
        }
        Ok(())
    }

    fn lease(&self, back: usize) -> Option<Lease> {
        self.leases.iter().rev().nth(back).copied()
    }

    fn held(&mut self, lease: Lease) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.lease == Some(lease))
    }

    /// Whether the settlement takes.
    fn settle(&mut self, lease: Lease, end: End) -> bool {
        let now = self.now;
        let Some(row) = self.held(lease) else { return false };
        row.lease = None;
        row.status = match end {
            End::Delivered => Status::Delivered,
            End::Retry(0) | End::Released => Status::Pending,
            End::Retry(steps) => Status::Waiting { until: now + beside(steps.into()) },
            End::DeadLetter { holds_key } => Status::Dead { holds_key: holds_key && row.key.is_some() },
        };
        row.attempts += u32::from(!matches!(end, End::Released));
        row.failures += u32::from(matches!(end, End::Retry(_) | End::DeadLetter { .. }));
        true
    }
}

#[doc(hidden)]
pub fn check_claim_model<H: Harness>(cases: u32)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    check::<H, _>(cases, steps(), async |h, history| {
        let mut model = Model::default();
        for step in &history {
            take(&h, &mut model, step).await?;
            model.catch_up();
            let read = ids(&h.store().get_pending(ALL).await.map_err(fail)?);
            prop_assert_eq!(
                read,
                model.of_status(|status| status == Status::Pending),
                "pending after {:?}",
                step
            );
            let dead =
                h.store().dead_letters(&DeadLetterFilter::new().with_limit(ALL)).await.map_err(fail)?;
            for holds_key in [false, true] {
                let dead = dead.letters.iter().filter(|letter| letter.holds_key == holds_key);
                prop_assert_eq!(
                    dead.map(|letter| letter.id).collect::<Vec<_>>(),
                    model.of_status(|status| status == Status::Dead { holds_key }),
                    "dead and holding their key ({}) after {:?}",
                    holds_key,
                    step
                );
            }
        }
        Ok(())
    });
}

async fn take<H: Harness>(h: &Arc<H>, model: &mut Model, step: &Step) -> Result<(), TestCaseError>
where
    H::Store: ClaimStore + DeadLetterStore,
{
    match step {
        Step::Save(keys) => {
            for (key, of_type) in keys {
                // The clock and the ids of the application run backwards, which is to make no difference.
                model.saved += 1;
                let back = TimeDelta::seconds(i64::from(model.saved));
                let event = Event::new(TYPES[*of_type], json!(model.saved))
                    .map_err(fail)?
                    .with_id(Uuid::from_u128(u128::from(u32::MAX - model.saved)))
                    .with_timestamp(Utc::now() - back);
                let key = Some(*key).filter(|key| *key < KEYS);
                let event = match key {
                    Some(key) => event.with_partition_key(format!("key {key}")),
                    None => event,
                };
                h.store().save(&event).await.map_err(fail)?;
                let (id, status) = (event.id(), Status::Pending);
                model.rows.push(Row {
                    id,
                    of_type: *of_type,
                    key,
                    status,
                    attempts: 0,
                    failures: 0,
                    lease: None,
                });
            }
        }
        Step::Claim { limit, steps, of_type } => {
            let length = beside((*steps).into());
            let request = Claim::new("a worker").with_limit(*limit).with_lease(seconds(length));
            let request = request.with_types(of_type.map(|one| TYPES[one]));
            let leased = h.store().claim(&request).await.map_err(fail)?;
            model.claimed(&leased, &model.claimable(*of_type), *limit, model.now + length)?;
        }
        Step::Renew { leases, steps } => {
            let leases: Vec<Lease> = leases.iter().filter_map(|back| model.lease(*back)).collect();
            let length = beside((*steps).into());
            let renewed = h.store().renew(&leases, seconds(length)).await.map_err(fail)?;
            for (lease, renewed) in leases.iter().zip(renewed) {
                let until = model.now + length;
                let row = model.held(*lease);
                prop_assert_eq!(renewed.is_ok(), row.is_some(), "renewing {:?}", lease);
                if let Some(row) = row {
                    row.status = Status::Leased { until };
                }
            }
        }
        Step::Settle(ends) => {
            let ends: Vec<(Lease, End)> =
                ends.iter().filter_map(|(back, end)| Some((model.lease(*back)?, *end))).collect();
            let settlement = |(lease, end): &(Lease, End)| match end {
                End::Delivered => Settlement::delivered(*lease),
                End::Retry(0) => Settlement::retry(*lease, Duration::ZERO, "failed"),
                End::Retry(steps) => Settlement::retry(*lease, seconds(beside((*steps).into())), "failed"),
                End::DeadLetter { holds_key: false } => Settlement::dead_letter(*lease, "failed"),
                End::DeadLetter { holds_key: true } => Settlement::dead_letter_holding_key(*lease, "failed"),
                End::Released => Settlement::released(*lease),
            };
            let settlements: Vec<Settlement> = ends.iter().map(settlement).collect();
            let answers = h.store().settle(&settlements).await.map_err(fail)?;
            for ((lease, end), answer) in ends.into_iter().zip(answers) {
                prop_assert_eq!(
                    answer.is_ok(),
                    model.settle(lease, end),
                    "settling {:?} as {:?}",
                    lease,
                    end
                );
                if let Err(error) = answer {
                    prop_assert_eq!(error.kind(), ErrorKind::LeaseLost);
                }
            }
        }
        Step::Acknowledge(indexes) => {
            for index in indexes {
                let Some(row) = model.rows.get_mut(*index) else { continue };
                h.store().acknowledge(row.id).await.map_err(fail)?;
                if !matches!(row.status, Status::Dead { .. }) {
                    (row.status, row.lease) = (Status::Delivered, None);
                }
            }
        }
        Step::Advance(steps) => {
            let by = i64::from(*steps) * STEP;
            h.advance(seconds(by)).await;
            model.now += by;
        }
        Step::Requeue(number) => requeue(h, model, *number).await?,
        Step::Discard(number) => discard(h, model, *number).await?,
    }
    Ok(())
}

async fn requeue<H: Harness>(
    h: &Arc<H>,
    model: &mut Model,
    number: Option<usize>,
) -> Result<(), TestCaseError>
where
    H::Store: DeadLetterStore,
{
    let dead = model.dead(number);
    if number.is_none() {
        let count = h.store().requeue_all(&DeadLetterFilter::new()).await.map_err(fail)?;
        prop_assert_eq!(count, dead.len() as u64);
    }
    for (index, id) in dead {
        if number.is_some() {
            prop_assert!(h.store().requeue(id).await.map_err(fail)?);
        }
        let row = &mut model.rows[index];
        (row.status, row.attempts, row.failures) = (Status::Pending, 0, 0);
    }
    Ok(())
}

async fn discard<H: Harness>(
    h: &Arc<H>,
    model: &mut Model,
    number: Option<usize>,
) -> Result<(), TestCaseError>
where
    H::Store: DeadLetterStore,
{
    let dead = model.dead(number);
    if number.is_none() {
        let count = h.store().discard_all(&DeadLetterFilter::new()).await.map_err(fail)?;
        prop_assert_eq!(count, dead.len() as u64);
    }
    for (_, id) in dead {
        if number.is_some() {
            prop_assert!(h.store().discard(id).await.map_err(fail)?);
        }
        model.rows.retain(|row| row.id != id);
    }
    Ok(())
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

//! The rounds, in which all tables and all ways take turns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    Amounts,
    drain::{PATIENCE, drain, rate},
    orders::Orders,
    queue::{Queue, Taker, Way},
};

/// How many events are claimed and settled at a time.
pub(super) const LIMIT: usize = 500;
/// Of events that are changed one by one.
const FEW: u32 = 2000;
/// How many transactions with one event, and how many batches of how many, a round saves.
const SINGLES: u32 = 100;
const BATCHES: u32 = 20;
pub(super) const BATCH: u32 = 100;
/// How many events of the hot key there are at most.
const MOST_HOT: u32 = 300_000;
/// How many events wait for a retry at most.
pub(super) const MOST_RETRIES: u32 = 100_000;

/// What else is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    Empty,
    /// Delivered events, which came before.
    Behind,
    /// Pending events: the first of them are taken.
    Before,
    /// Events of one key, whose first is leased all the time, in front of the others.
    HotKey,
    /// Events that failed, each of a key of its own, and wait for their retry all the time.
    Retries,
}

impl Condition {
    pub(super) const ALL: [Self; 5] = [Self::Empty, Self::Behind, Self::Before, Self::HotKey, Self::Retries];

    /// Whether code by hand is measured with it, which knows neither keys nor retries.
    pub(super) fn has_by_hand(self) -> bool {
        !matches!(self, Self::HotKey | Self::Retries)
    }

    /// In the name of a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Behind => "behind",
            Self::Before => "before",
            Self::HotKey => "hot_key",
            Self::Retries => "retries",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// `BEGIN`, a business row, one event, `COMMIT`.
    SaveOne,
    /// `BEGIN`, 100 events at once, `COMMIT`.
    SaveBatch,
    /// 500 events claimed and settled, by so many workers.
    Take { workers: u32 },
}

impl Work {
    pub(super) const ALL: [Self; 4] =
        [Self::SaveOne, Self::SaveBatch, Self::Take { workers: 1 }, Self::Take { workers: 4 }];
}

/// An engine.
pub(super) struct Subject {
    pub(super) title: &'static str,
    pub(super) description: String,
    /// Whether saves are measured too.
    pub(super) has_saves: bool,
    pub(super) tables: Vec<Tables>,
}

/// The tables of one condition.
pub(super) struct Tables {
    pub(super) condition: Condition,
    pub(super) outbox: Queue,
    pub(super) by_hand: Option<Queue>,
}

/// What was measured on one engine.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) title: &'static str,
    pub(super) description: String,
    /// How many other events there were.
    pub(super) backlog: u32,
    pub(super) samples: Vec<Sample>,
    pub(super) hot_key: HotKey,
}

/// How fast one thing was done in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) round: u32,
    pub(super) condition: Condition,
    pub(super) way: Way,
    pub(super) work: Work,
    /// Events a second.
    pub(super) rate: f64,
}

/// What the first claim after a key was blocked came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct HotKey {
    /// How many events the key has.
    pub(super) events: u32,
    /// How many claims it took until one had events of other keys.
    pub(super) claims: u32,
    /// How long that was.
    pub(super) time: Duration,
    /// How many events of other keys a second one worker took after that, until as many as a measurement has were
    /// gone.
    pub(super) meanwhile: f64,
}

/// Measures.
pub(super) async fn run(subject: Subject, amounts: Amounts) -> Result<Measured> {
    let orders = Orders::of_keys(amounts.keys);
    let mut hot_key = HotKey { events: 0, claims: 0, time: Duration::ZERO, meanwhile: 0.0 };
    let mut states = Vec::new();
    for tables in &subject.tables {
        let start = Instant::now();
        let mut pending = [0, 0];
        for (queue, pending) in tables.queues().zip(&mut pending) {
            match tables.condition {
                Condition::Empty => {}
                Condition::Behind => queue.table.fill(amounts.backlog).await?,
                Condition::Before => *pending = orders.save(queue, amounts.backlog).await?,
                Condition::HotKey => (hot_key, *pending) = block(queue, &orders, amounts).await?,
                Condition::Retries => queue.fail(&orders, amounts.backlog.min(MOST_RETRIES)).await?,
            }
        }
        if tables.condition != Condition::Empty {
            let (title, name) = (subject.title, tables.condition.name());
            eprintln!("bench: {title}: {name}: filled in {:.0?}", start.elapsed());
        }
        states.push(pending);
    }

    let start = Instant::now();
    let mut samples = Vec::new();
    for round in 0..amounts.rounds {
        // Whoever goes first in one round goes last in the next.
        let mut order: Vec<_> = subject.tables.iter().zip(&mut states).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (tables, pending) in order {
            let mut queues: Vec<_> = tables.queues().zip(pending).collect();
            if round % 2 == 1 {
                queues.reverse();
            }
            for (queue, pending) in queues {
                let mut turn = Turn { queue, condition: tables.condition, pending, orders: &orders, amounts };
                let mut sample = |way, work, rate| {
                    samples.push(Sample { round, condition: tables.condition, way, work, rate });
                };
                if subject.has_saves {
                    let way = queue.ways[0].0;
                    let (one, batch) = turn.saves().await?;
                    sample(way, Work::SaveOne, one);
                    sample(way, Work::SaveBatch, batch);
                }
                for (way, taker) in &queue.ways {
                    for workers in [1, 4] {
                        if workers == 1 || !way.is_one_by_one {
                            let rate = turn.takes(*way, taker, workers).await?;
                            sample(*way, Work::Take { workers }, rate);
                        }
                    }
                }
            }
        }
    }
    eprintln!("bench: {}: {} rounds in {:.0?}", subject.title, amounts.rounds, start.elapsed());
    let Subject { title, description, .. } = subject;
    Ok(Measured { title, description, backlog: amounts.backlog, samples, hot_key })
}

impl Tables {
    fn queues(&self) -> impl Iterator<Item = &Queue> {
        std::iter::once(&self.outbox).chain(&self.by_hand)
    }
}

/// Puts events of one key in front, leases the first, and claims until others come.
async fn block(queue: &Queue, orders: &Orders, amounts: Amounts) -> Result<(HotKey, u64)> {
    let events = amounts.backlog.min(MOST_HOT);
    orders.save_hot(queue, events).await?;
    queue.block_first().await?;
    let others = orders.save(queue, amounts.events).await?;
    queue.table.tidy().await?;
    let start = Instant::now();
    let mut claims = 0;
    loop {
        claims += 1;
        let taken = queue.ways[0].1.take(LIMIT).await? as u64;
        if taken > 0 {
            let time = start.elapsed();
            let (more, rest) = drain(&queue.ways[0].1, 1, LIMIT, others.saturating_sub(taken)).await?;
            let hot_key = HotKey { events, claims, time, meanwhile: rate(more, rest) };
            return Ok((hot_key, others.saturating_sub(taken + more)));
        }
        ensure!(start.elapsed() < PATIENCE, "events of other keys never came past those of the hot one");
    }
}

/// What one queue does in one round.
struct Turn<'a> {
    queue: &'a Queue,
    condition: Condition,
    /// How many events can be taken.
    pending: &'a mut u64,
    orders: &'a Orders,
    amounts: Amounts,
}

impl Turn<'_> {
    /// Empties the table, where it is to be empty.
    async fn begin(&mut self) -> Result<()> {
        if self.condition == Condition::Empty {
            self.queue.table.clear().await?;
            *self.pending = 0;
        }
        Ok(())
    }

    async fn saves(&mut self) -> Result<(f64, f64)> {
        self.begin().await?;
        let singles = self.orders.next(SINGLES);
        let batches: Vec<_> = (0..BATCHES).map(|_| self.orders.next(BATCH)).collect();
        let start = Instant::now();
        for order in &singles {
            self.queue.table.save_one(order).await?;
        }
        let between = Instant::now();
        for batch in &batches {
            self.queue.table.save_batch(batch).await?;
        }
        let end = Instant::now();
        let in_batches = BATCHES * BATCH;
        *self.pending += u64::from(SINGLES + in_batches);
        Ok((rate(SINGLES.into(), between - start), rate(in_batches.into(), end - between)))
    }

    async fn takes(&mut self, way: Way, taker: &Arc<dyn Taker>, workers: u32) -> Result<f64> {
        self.begin().await?;
        let events = if way.is_one_by_one { self.amounts.events.min(FEW) } else { self.amounts.events };
        let standing = if self.condition == Condition::Before { self.amounts.backlog } else { 0 };
        let missing = u64::from(events + standing).saturating_sub(*self.pending);
        *self.pending += self.orders.save(self.queue, u32::try_from(missing)?).await?;
        self.queue.table.tidy().await?;
        let (taken, time) = drain(taker, workers, LIMIT, events.into()).await?;
        *self.pending = self.pending.saturating_sub(taken);
        Ok(rate(taken, time))
    }
}

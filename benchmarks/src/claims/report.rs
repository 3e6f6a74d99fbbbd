//! The tables of claims.

use std::fmt::Write as _;

use super::{
    Amounts,
    measure::{BATCH, Condition, LIMIT, MOST_RETRIES, Measured, Sample, Work},
    queue::Way,
};
use crate::{
    job::Job,
    report::{Spread, grouped},
};

/// The share of its speed with an empty table that the outbox should keep.
const AIM_OWN: f64 = 0.8;

/// Everything that was measured, as Markdown.
pub(super) fn of(measured: &[Measured], amounts: Amounts) -> String {
    let mut text = String::new();
    for engine in measured {
        let _ = writeln!(text, "- {}; {} other events.", engine.description, grouped(engine.backlog));
    }
    let _ = writeln!(
        text,
        "\nMedians over {} rounds of {} events of {} keys, claimed and settled {LIMIT} at a time.",
        amounts.rounds,
        grouped(amounts.events),
        grouped(amounts.keys)
    );
    text.push_str("\n#### Beside code by hand\n\n");
    text.push_str(
        "| engine | job | delivered events are | table | outbox | by hand | | ratio | min–max | aim |\n\
         |---|---|---|---|--:|--:|---|--:|--:|--:|\n",
    );
    for engine in measured {
        engine.beside_code_by_hand(&mut text);
    }
    text.push_str("\n#### Its own speed, beside that with an otherwise empty table\n\n");
    text.push_str(
        "| engine | job | delivered events are | table | outbox | empty | ratio | min–max | aim |\n\
         |---|---|---|---|--:|--:|--:|--:|--:|\n",
    );
    for engine in measured {
        engine.own_speed(&mut text);
    }
    text.push_str("\n#### A hot key that is blocked: until the first events of others come\n\n");
    text.push_str(
        "| engine | events of the key | claims | time | and then, with 1 worker |\n|---|--:|--:|--:|--:|\n",
    );
    for Measured { title, hot_key, .. } in measured {
        let (events, claims, time) = (grouped(hot_key.events), hot_key.claims, hot_key.time.as_secs_f64());
        let meanwhile = speed(&[hot_key.meanwhile]);
        let _ = writeln!(text, "| {title} | {events} | {claims} | {time:.2} s | {meanwhile} |");
    }
    text
}

impl Measured {
    fn beside_code_by_hand(&self, text: &mut String) {
        self.each(|work, way, condition, own| {
            let mut by_hand = self.ways(work, condition).into_iter().filter(|way| !way.is_outbox).peekable();
            let start = self.start(work, way, condition);
            if by_hand.peek().is_none() && condition.has_by_hand() {
                let _ = writeln!(text, "{start} {} | | | | | |", speed(&own));
            }
            for by_hand in by_hand {
                let other = self.rates(work, by_hand, condition);
                let title = if work.is_save() { "" } else { by_hand.title };
                let aim = work.aim().or(by_hand.aim).map(|aim| aim.to_string()).unwrap_or_default();
                let ratio = ratio(&own, &other);
                let (own, other) = (speed(&own), speed(&other));
                let _ = writeln!(text, "{start} {own} | {other} | {title} | {ratio} | {aim} |");
            }
        });
    }

    fn own_speed(&self, text: &mut String) {
        self.each(|work, way, condition, own| {
            if condition != Condition::Empty {
                let empty = self.rates(work, way, Condition::Empty);
                let start = self.start(work, way, condition);
                let ratio = ratio(&own, &empty);
                let (own, empty) = (speed(&own), speed(&empty));
                let _ = writeln!(text, "{start} {own} | {empty} | {ratio} | {AIM_OWN} |");
            }
        });
    }

    /// All that the outbox did, and its rates by the round.
    fn each(&self, mut row: impl FnMut(Work, Way, Condition, Vec<f64>)) {
        for work in Work::ALL {
            for way in [Way::KEPT, Way::DELETED] {
                for condition in Condition::ALL {
                    let own = self.rates(work, way, condition);
                    if !own.is_empty() {
                        row(work, way, condition, own);
                    }
                }
            }
        }
    }

    fn start(&self, work: Work, way: Way, condition: Condition) -> String {
        let delivered = if work.is_save() { "" } else { way.title };
        let table = condition.title(self.backlog);
        format!("| {} | {} | {delivered} | {table} |", self.title, work.title())
    }

    fn samples(&self, work: Work, condition: Condition) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.condition == condition && sample.work.is_like(work))
    }

    /// All ways in which it was done.
    fn ways(&self, work: Work, condition: Condition) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        for Sample { way, work: done, .. } in self.samples(work, condition) {
            // One by one, one worker stands for any number.
            if (*done == work || way.is_one_by_one) && !ways.contains(way) {
                ways.push(*way);
            }
        }
        ways
    }

    /// By the round.
    fn rates(&self, work: Work, way: Way, condition: Condition) -> Vec<f64> {
        let mut samples: Vec<_> = self
            .samples(work, condition)
            .filter(|sample| sample.way == way && (sample.work == work || way.is_one_by_one))
            .collect();
        samples.sort_by_key(|sample| sample.round);
        samples.into_iter().map(|sample| sample.rate).collect()
    }
}

impl Condition {
    fn title(self, backlog: u32) -> String {
        match self {
            Self::Empty => "empty".to_owned(),
            Self::Behind => format!("behind {} delivered", grouped(backlog)),
            Self::Before => format!("before {} pending", grouped(backlog)),
            Self::HotKey => "behind a blocked hot key".to_owned(),
            Self::Retries => format!("beside {} that wait for a retry", grouped(backlog.min(MOST_RETRIES))),
        }
    }
}

impl Work {
    fn title(self) -> String {
        match self {
            Self::SaveOne => Job::SaveOne.title().to_owned(),
            Self::SaveBatch => format!("save {BATCH} at once"),
            Self::Take { workers: 1 } => "claim and settle, 1 worker".to_owned(),
            Self::Take { workers } => format!("claim and settle, {workers} workers"),
        }
    }

    fn is_save(self) -> bool {
        !matches!(self, Self::Take { .. })
    }

    /// Whether both are the same, whatever the number of workers.
    fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// What share of the speed of code by hand it should reach, whatever that does.
    fn aim(self) -> Option<f64> {
        match self {
            Self::SaveOne => Some(Job::SaveOne.aim()),
            Self::SaveBatch => Some(Job::SaveBatch.aim()),
            Self::Take { .. } => None,
        }
    }
}

/// Events a second, the median over the rounds.
pub(crate) fn speed(rates: &[f64]) -> String {
    let median = Spread::of(rates.to_vec()).median;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and far below four billion"
    )]
    let whole = median.round() as u32;
    format!("{}/s", grouped(whole))
}

/// The speed of the one as a share of the speed of the other, taken in each round: the median, and both ends.
pub(crate) fn ratio(one: &[f64], other: &[f64]) -> String {
    let ratios: Vec<_> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    let Spread { min, median, max, .. } = Spread::of(ratios);
    format!("**{median:.2}** | {min:.2}–{max:.2}")
}

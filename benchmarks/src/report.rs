//! The tables.

use std::{fmt::Write as _, time::Duration};

use crate::{
    compare::{Comparison, Round},
    job::Job,
};

/// The share of its own speed that the outbox should keep behind the delivered events.
const AIM_BEHIND: f64 = 0.9;

/// All comparisons as Markdown.
pub(crate) fn of(comparisons: &[Comparison], delivered: u32) -> String {
    let mut text = String::new();
    for comparison in comparisons {
        let _ = writeln!(text, "- {}; {} rounds.", comparison.description, comparison.rounds.len());
    }
    let behind = format!("behind {}", grouped(delivered));
    let _ = writeln!(
        text,
        "\n| engine | job | table | outbox | by hand | ratio | middle half | min–max | aim |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|"
    );
    for comparison in comparisons {
        for (index, job) in Job::ALL.into_iter().enumerate() {
            let pairs = comparison.rounds.iter().map(|round| (round.empty, round.behind));
            let (empty, full): (Vec<_>, Vec<_>) = pairs.unzip();
            for (table, pairs) in [("empty", empty), (&*behind, full)] {
                let sides = pairs.iter().map(|pair| (pair.outbox[index], pair.hand_written[index]));
                let (library, by_hand): (Vec<_>, Vec<_>) = sides.unzip();
                let cells = cells(job, &library, &by_hand, job.aim());
                let _ = writeln!(text, "| {} | {} | {table} | {cells}", comparison.engine, job.title());
            }
        }
    }
    let _ = writeln!(
        text,
        "\n| engine | job | {behind} | empty | ratio | middle half | min–max | aim |\n\
         |---|---|--:|--:|--:|--:|--:|--:|"
    );
    for comparison in comparisons {
        for (index, job) in Job::ALL.into_iter().enumerate() {
            let times = |round: &Round| (round.behind.outbox[index], round.empty.outbox[index]);
            let (behind, empty): (Vec<_>, Vec<_>) = comparison.rounds.iter().map(times).unzip();
            let cells = cells(job, &behind, &empty, AIM_BEHIND);
            let _ = writeln!(text, "| {} | {} | {cells}", comparison.engine, job.title());
        }
    }
    text
}

/// Two times of each round, and the speed of the one as a share of the speed of the other: the median over
/// the rounds, the quartiles, and both ends.
fn cells(job: Job, one: &[Duration], other: &[Duration], aim: f64) -> String {
    let each = |times: &[Duration]| {
        let times = times.iter().map(Duration::as_secs_f64).collect();
        // What a round does many times is shown as what one takes, in milliseconds.
        Spread::of(times).median * 1000.0 / f64::from(job.times())
    };
    let ratios = one.iter().zip(other).map(|(one, other)| other.as_secs_f64() / one.as_secs_f64());
    let Spread { min, lower, median, upper, max } = Spread::of(ratios.collect());
    let (one, other) = (each(one), each(other));
    format!(
        "{one:.2} ms | {other:.2} ms | **{median:.2}** | {lower:.2}–{upper:.2} | {min:.2}–{max:.2} | {aim} |"
    )
}

/// How values are spread.
#[derive(Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of one value or more.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        // Halfway between two values where their number is even.
        let at = |quarters: usize| {
            let place = last * quarters;
            f64::midpoint(values[place / 4], values[place.div_ceil(4)])
        };
        Self { min: at(0), lower: at(1), median: at(2), upper: at(3), max: at(4) }
    }
}

/// With a comma between each three digits.
pub(crate) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_an_even_and_an_odd_number_of_values() {
        let odd = Spread { min: 1.0, lower: 2.0, median: 3.0, upper: 4.0, max: 5.0 };
        assert_eq!(Spread::of(vec![5.0, 3.0, 1.0, 4.0, 2.0]), odd);
        let even = Spread { min: 1.0, lower: 1.5, median: 1.5, upper: 1.5, max: 2.0 };
        assert_eq!(Spread::of(vec![2.0, 1.0]), even);
    }

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([7, 1000, 1_000_000].map(grouped), ["7", "1,000", "1,000,000"]);
    }
}

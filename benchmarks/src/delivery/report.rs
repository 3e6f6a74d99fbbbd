//! The tables of delivery.

use std::{fmt::Write as _, time::Duration};

use super::{
    Amounts,
    idle::Idle,
    latency::{Latency, PACE},
    throughput::{Row, Throughput},
};
use crate::{
    claims::{ratio, speed},
    report::grouped,
};

/// The share of the speed of claims alone that a relay should reach.
const AIM_THROUGHPUT: f64 = 0.8;

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) latencies: Vec<Latency>,
    pub(super) idle: Vec<Idle>,
    pub(super) throughputs: Vec<Throughput>,
}

/// As Markdown.
pub(super) fn of(measured: &Measured, amounts: Amounts) -> String {
    let mut text = String::new();
    for Throughput { description, .. } in &measured.throughputs {
        let _ = writeln!(text, "- {description}.");
    }
    if !measured.latencies.is_empty() {
        let _ = writeln!(
            text,
            "\n#### From the return of a commit to the handler, at {PACE} commits a second for {} s\n\n\
             | engine | delivered by | commits a second | p50 | p99 | longest | aim |\n\
             |---|---|--:|--:|--:|--:|---|",
            amounts.seconds
        );
    }
    for latency in &measured.latencies {
        let Latency { engine, way, pace, times } = latency;
        let [median, high, longest] =
            [50, 99, 100].map(|percent| percentile(times, percent).as_secs_f64() * 1000.0);
        let aim = if way.starts_with("relay") { "2 ms, 10 ms" } else { "" };
        let _ = writeln!(
            text,
            "| {engine} | {way} | {pace:.0} | **{median:.2} ms** | **{high:.2} ms** | {longest:.2} ms | {aim} |"
        );
    }
    if !measured.throughputs.is_empty() {
        let _ = writeln!(
            text,
            "\n#### Through a relay, beside claims and settlements alone; {} rounds of {} events\n\n\
             | engine | at a time | relay | alone | ratio | min–max | aim |\n|---|--:|--:|--:|--:|--:|--:|",
            amounts.rounds,
            grouped(amounts.events)
        );
    }
    for Throughput { engine, rows, .. } in &measured.throughputs {
        for Row { limit, relay, alone } in rows {
            let ratio = ratio(relay, alone);
            let (relay, alone) = (speed(relay), speed(alone));
            let _ = writeln!(text, "| {engine} | {limit} | {relay} | {alone} | {ratio} | {AIM_THROUGHPUT} |");
        }
    }
    if !measured.idle.is_empty() {
        let _ = writeln!(
            text,
            "\n#### A relay with nothing to do, for {} s\n\n\
             | engine | counted | with a relay | without | a second | aim |\n|---|---|--:|--:|--:|---|",
            amounts.idle
        );
    }
    for Idle { engine, what, with_relay, without } in &measured.idle {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let rate = (with_relay - without) as f64 / f64::from(amounts.idle);
        let _ =
            writeln!(text, "| {engine} | {what} | {with_relay} | {without} | **{rate:.2}** | less than 1 |");
    }
    text
}

/// Of times in order, of which there is one or more: so many of a hundred are not longer.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_times_are_not_longer_than_a_percentile() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!([1, 50, 99, 100].map(|p| percentile(&times, p).as_millis()), [2, 100, 198, 200]);
        assert_eq!(percentile(&times[..1], 50), times[0]);
    }
}

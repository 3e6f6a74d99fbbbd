//! The metrics that a relay emits, and the documents that name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use outbox_delivery::{CancellationToken, Relay, report_stats};
use outbox_traits::{ErrorKind, OutboxStore};
use tokio::{runtime::Builder, time::sleep};

use crate::{
    MINUTE, SECOND,
    support::{
        consumer::{Consumer, Ending},
        event,
        remote::{Call, Fate, Remote},
        start_on_claims as start,
    },
};

/// A relay that meets with everything there is a metric for.
async fn everything_happens() -> u64 {
    let events = [event("good", "1"), event("bad", "2"), event("never", "3"), event("slow", "4")];
    let store = Remote::with(&events).await;
    let consumer = Consumer::of(&events);
    let mut settles = 0;
    store.decide(move |call| {
        settles += usize::from(call == Call::Settle);
        match (call, settles) {
            (Call::Settle, 1) => Fate::Fails(ErrorKind::Unavailable),
            _ => Fate::Works,
        }
    });
    let mut tries = 0;
    consumer.decide(move |event| {
        tries += 1;
        match event.event_type() {
            "bad" if tries < 4 => Ending::Failed,
            "never" => Ending::Rejected,
            "slow" => Ending::Takes(20 * SECOND),
            _ => Ending::Accepted,
        }
    });
    let relay = Relay::new(store.clone(), consumer)
        .with_name("orders")
        .with_stats(store.clone())
        .with_purge(Duration::ZERO)
        .with_grace_period(2 * SECOND);
    let relay = start(relay);
    sleep(5 * SECOND).await;
    // Its lease is lost.
    store.acknowledge(events[3].id()).await.unwrap();
    sleep(5 * MINUTE).await;
    store.save(&event("slow", "5")).await.unwrap();
    sleep(5 * SECOND).await;
    relay.stop().await.published
}

type Emitted = BTreeMap<String, DebugValue>;

fn emitted() -> (Emitted, u64) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let published = metrics::with_local_recorder(&recorder, || runtime.block_on(everything_happens()));
    let mut emitted = Emitted::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(labels, [("relay", "orders")]);
        emitted.insert(key.key().name().to_owned(), value);
    }
    (emitted, published)
}

fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("outbox_"));
    names.map(|name| name.trim_end_matches("_sum").trim_end_matches("_count").to_owned()).collect()
}

#[test]
fn the_metrics_are_those_of_the_documents() {
    let (emitted, published) = emitted();
    let names: BTreeSet<String> = emitted.keys().cloned().collect();
    assert_eq!(names, names_in(include_str!("../../../docs/observability.md")));
    assert_eq!(names, names_in(include_str!("../../../docs/grafana-dashboard.json")));
    let alerts = names_in(include_str!("../../../docs/prometheus-alerts.yml"));
    assert!(!alerts.is_empty() && alerts.is_subset(&names), "{alerts:?}");
    assert_eq!(emitted["outbox_published_total"], DebugValue::Counter(published));
    assert_eq!(emitted["outbox_dead_lettered_total"], DebugValue::Counter(1));
    assert_eq!(emitted["outbox_dead"], DebugValue::Gauge(1.0.into()));
}

#[test]
fn a_relay_to_which_nothing_happened_shows_all_counters() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let run = async { Relay::new(Remote::new(), Consumer::of(&[])).publish_pending().await.unwrap() };
    metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    let shown = snapshotter.snapshot().into_vec();
    let shown: BTreeMap<_, _> =
        shown.into_iter().map(|(key, _, _, value)| (key.key().name().to_owned(), value)).collect();
    let documented = names_in(include_str!("../../../docs/observability.md"));
    let counters = documented.into_iter().filter(|name| name.ends_with("_total"));
    assert_eq!(shown, counters.map(|name| (name, DebugValue::Counter(0))).collect());
}

#[test]
fn a_program_without_a_relay_reports_what_stores_of_two_names_hold() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let shutdown = CancellationToken::new();
            let (orders, mails) = (Remote::new(), Remote::with(&[event("mail", "1")]).await);
            let reporting = [("orders", &orders), ("mails", &mails)]
                .map(|(name, store)| tokio::spawn(report_stats(store.clone(), name, shutdown.clone())));
            orders.save_all(&[event("a", "1"), event("b", "2")]).await.unwrap();
            sleep(MINUTE).await;
            shutdown.cancel();
            for reporting in reporting {
                reporting.await.unwrap();
            }
        });
    });
    let mut pending = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        if key.key().name() == "outbox_pending" {
            pending.insert(key.key().labels().next().unwrap().value().to_owned(), value);
        }
    }
    let gauge = |value: f64| DebugValue::Gauge(value.into());
    assert_eq!(
        pending,
        BTreeMap::from([("mails".to_owned(), gauge(1.0)), ("orders".to_owned(), gauge(2.0))])
    );
}

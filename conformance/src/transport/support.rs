//! What many clauses of a transport do.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox_traits::{Event, EventId, PublishError, PublishErrorKind, Transport};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{OutageHarness, Received, TransportHarness};

/// As soon as what failed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(20);

pub(super) fn event(name: &str) -> Event {
    Event::new("suite.happened", json!({ "name": name })).expect("a valid event")
}

/// Events of so many keys in turn, `first` of them before them; each says its number within its key.
pub(super) fn of_keys(keys: usize, first: usize, count: usize) -> Vec<Event> {
    let numbered = |index: usize| {
        let (key, number) = (format!("key-{}", index % keys), index / keys);
        Event::new("suite.numbered", json!({ "number": number })).expect("valid").with_partition_key(key)
    };
    (first..first + count).map(numbered).collect()
}

pub(super) async fn received<H: TransportHarness>(h: &Arc<H>) -> Vec<Received> {
    h.received().await
}

pub(super) fn ids_of(received: &[Received]) -> Vec<EventId> {
    received.iter().map(|received| received.id).collect()
}

pub(super) async fn publish<H: TransportHarness>(h: &Arc<H>, event: &Event) {
    h.transport().publish(event).await.expect("the event is accepted");
}

/// Publishes a batch, and gives the results in the order of the events.
pub(super) async fn results_of<H: TransportHarness>(
    h: &Arc<H>,
    events: &[Event],
) -> Vec<Result<(), PublishError>> {
    let report = h.transport().publish_all(events).await;
    let reported: Vec<_> = report.iter().map(|published| published.id).collect();
    let mut results: HashMap<_, _> =
        report.into_iter().map(|published| (published.id, published.result)).collect();
    let expected: HashSet<_> = events.iter().map(Event::id).collect();
    assert_eq!(reported.len(), events.len(), "the report has one answer for each event");
    assert_eq!(results.keys().copied().collect::<HashSet<_>>(), expected, "the report names each event");
    events.iter().map(|event| results.remove(&event.id()).expect("an answer")).collect()
}

pub(super) async fn publish_all<H: TransportHarness>(h: &Arc<H>, events: &[Event]) {
    for (event, result) in events.iter().zip(results_of(h, events).await) {
        result.unwrap_or_else(|error| panic!("{} is not accepted: {error}", event.id()));
    }
}

/// That the first arrivals of each key have the numbers 0, 1, 2 and so on, whatever came again in between.
pub(super) fn assert_keys_in_order(received: &[Received]) {
    let mut seen = HashSet::new();
    let mut next: HashMap<&str, u64> = HashMap::new();
    for message in received.iter().filter(|message| seen.insert(message.id)) {
        let (Some(key), Some(number)) = (&message.partition_key, message.payload["number"].as_u64()) else {
            continue;
        };
        let next = next.entry(key).or_default();
        assert_eq!(number, *next, "the next event of {key}");
        *next += 1;
    }
}

/// That an event is accepted in the end, as the relay tries it again and again.
pub(super) async fn publish_in_the_end<H: TransportHarness>(h: &Arc<H>, patience: Duration, event: &Event) {
    let deadline = Instant::now() + patience;
    while let Err(error) = timeout(patience, h.transport().publish(event)).await.expect("an answer in time") {
        assert!(Instant::now() < deadline, "the broker is back, and the transport does not use it: {error}");
        assert_passing(&error);
        sleep(RETRY).await;
    }
}

/// No event is to blame for an outage.
pub(super) fn assert_passing(error: &PublishError) {
    assert_ne!(error.kind(), PublishErrorKind::Rejected, "for good, while the broker was away: {error}");
}

/// Publishes batch after batch, each failed event again, while the broker is killed and started twice, and gives
/// the ids of all that was accepted.
pub(super) async fn publish_amid_outages<H: OutageHarness>(h: &Arc<H>) -> Vec<EventId> {
    const KEYS: usize = 5;
    const BATCH: usize = 20;
    let (accepted_count, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    let publishing = async {
        let (mut accepted, mut waiting, mut made) = (Vec::new(), Vec::new(), 0);
        loop {
            if !is_over.load(Ordering::SeqCst) && waiting.len() < BATCH {
                waiting.extend(of_keys(KEYS, made, BATCH));
                made += BATCH;
            }
            if waiting.is_empty() {
                return accepted;
            }
            let batch: Vec<Event> = waiting.iter().take(BATCH).cloned().collect();
            let results = timeout(h.patience(), results_of(h, &batch)).await.expect("an answer in time");
            for (event, result) in batch.iter().zip(results) {
                match result {
                    Ok(()) => {
                        accepted.push(event.id());
                        accepted_count.fetch_add(1, Ordering::SeqCst);
                        waiting.retain(|other| other.id() != event.id());
                    }
                    Err(error) => {
                        assert_passing(&error);
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
            // Also after a batch that was accepted: thousands of events prove no more than hundreds.
            sleep(Duration::from_millis(2)).await;
        }
    };
    let outages = async {
        for _ in 0..2 {
            let enough = accepted_count.load(Ordering::SeqCst) + 3 * BATCH;
            until(h, || accepted_count.load(Ordering::SeqCst) >= enough).await;
            let failures_before = failures.load(Ordering::SeqCst);
            h.stop().await;
            until(h, || failures.load(Ordering::SeqCst) > failures_before).await;
            h.start().await;
        }
        let enough = accepted_count.load(Ordering::SeqCst) + BATCH;
        until(h, || accepted_count.load(Ordering::SeqCst) >= enough).await;
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(publishing, outages).0
}

async fn until<H: OutageHarness>(h: &Arc<H>, is_reached: impl Fn() -> bool) {
    let deadline = Instant::now() + h.patience();
    while !is_reached() {
        assert!(Instant::now() < deadline, "the transport neither publishes nor fails");
        sleep(Duration::from_millis(1)).await;
    }
}

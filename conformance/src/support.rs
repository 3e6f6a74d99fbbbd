//! What many clauses do.

use std::{
    collections::HashSet,
    future::Future,
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, Retention, Saved};
use serde_json::json;

use crate::Harness;

/// An event that says who it is.
pub(crate) fn event(name: &str) -> Event {
    Event::new("suite.happened", json!({ "name": name })).expect("a valid event")
}

pub(crate) fn events(count: usize) -> Vec<Event> {
    (0..count).map(|index| event(&format!("event {index}"))).collect()
}

/// Events with the clock of an application that runs backwards, and ids that do too.
pub(crate) fn backwards(count: usize) -> Vec<Event> {
    let now = Utc::now();
    let mut events: Vec<Event> = events(count)
        .into_iter()
        .zip(0..)
        .map(|(event, hours)| event.with_timestamp(now - TimeDelta::hours(hours)))
        .collect();
    let made = ids(&events);
    for (event, id) in events.iter_mut().zip(made.into_iter().rev()) {
        *event = event.clone().with_id(id);
    }
    events
}

/// An event with every field of the meta.
pub(crate) fn full_event(event_type: &str) -> Event {
    Event::new(event_type, json!({ "total": 4200 }))
        .expect("valid")
        .with_resource("order", "o-17")
        .with_user_id("u-1")
        .with_organization_id("acme")
        .with_correlation_id("c-1")
        .with_causation_id("c-0")
        .with_partition_key("p-1")
        .with_schema_version(3)
        .with_source("shop")
        .with_idempotency_key(format!("k-{event_type}"))
        .with_header("traceparent", "00-1-2-01")
}

/// The same with a field that nobody knows.
pub(crate) fn fuller_event(event_type: &str) -> Event {
    let mut event = full_event(event_type);
    event.meta_mut().extra.insert("region".to_owned(), json!({ "a.b": ["eu", null, u64::MAX, -0.0] }));
    event
}

/// Texts are compared, too, because `-0.0 == 0.0` and a map has no order.
#[track_caller]
pub(crate) fn assert_exact(read: &[Event], saved: &[Event]) {
    assert_eq!(read.len(), saved.len(), "each was saved and comes back");
    for (read, saved) in read.iter().zip(saved) {
        assert_eq!(json!(read).to_string(), json!(saved).to_string());
        assert_eq!(read, saved);
    }
}

/// What is to last for a fraction of a second, and a part of that.
pub(crate) const FRACTION: Duration = Duration::from_millis(900);
pub(crate) const A_WHILE: Duration = Duration::from_millis(100);
/// By then it is over.
pub(crate) const A_SECOND: Duration = Duration::from_secs(1);

/// Whether it may not be over yet that began then, after a while which the harness has let pass. Where the clock goes on by itself, an
/// answer that took too long says nothing.
pub(crate) fn is_telling(begun: Instant) -> bool {
    begun.elapsed() + A_WHILE * 2 < FRACTION
}

pub(crate) fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(Event::id).collect()
}

pub(crate) async fn save<H: Harness>(h: &Arc<H>, event: &Event) {
    let saved = retried(|| h.store().save(event)).await;
    assert_eq!(saved, Saved::Stored, "the event is new");
}

pub(crate) async fn save_all<H: Harness>(h: &Arc<H>, events: &[Event]) {
    let saved = retried(|| h.store().save_all(events)).await;
    assert_eq!(saved, vec![Saved::Stored; events.len()], "all events are new");
}

/// In how many ways an event is saved.
pub(crate) const WAYS: usize = 4;
/// In which of them it is saved in a session: by itself, and as a batch.
pub(crate) const IN_SESSION: [usize; 2] = [2, 3];

/// One of them; in a session, which is committed where it was saved.
pub(crate) async fn saved_by<H: Harness>(h: &Arc<H>, event: &Event, way: usize) -> Result<Saved> {
    saved_all_by(h, slice::from_ref(event), way).await.map(|saved| saved[0])
}

/// The same of several, one by one or as a batch.
pub(crate) async fn saved_all_by<H: Harness>(h: &Arc<H>, events: &[Event], way: usize) -> Result<Vec<Saved>> {
    let mut saved = Vec::new();
    if way == 0 {
        for event in events {
            saved.push(h.store().save(event).await?);
        }
        return Ok(saved);
    }
    if way == 1 {
        return h.store().save_all(events).await;
    }
    let mut transaction = h.begin().await;
    let batches = if way == 2 { events.chunks(1) } else { events.chunks(events.len().max(1)) };
    for batch in batches {
        let session = h.session(&mut transaction);
        let answer = match batch {
            [event] if way == 2 => h.store().save_in_session(event, session).await.map(|saved| vec![saved]),
            _ => h.store().save_all_in_session(batch, session).await,
        };
        match answer {
            Ok(answer) => saved.extend(answer),
            Err(error) => {
                h.rollback(transaction).await;
                return Err(error);
            }
        }
    }
    h.try_commit(transaction).await?;
    Ok(saved)
}

/// More than any clause saves.
pub(crate) const ALL: usize = 100_000;

pub(crate) async fn pending<H: Harness>(h: &Arc<H>) -> Vec<Event> {
    h.store().get_pending(ALL).await.expect("get_pending")
}

pub(crate) async fn pending_ids<H: Harness>(h: &Arc<H>) -> Vec<EventId> {
    ids(&pending(h).await)
}

pub(crate) async fn acknowledge<H: Harness>(h: &Arc<H>, id: EventId) {
    again_after_conflicts(|| h.store().acknowledge(id)).await;
}

pub(crate) async fn acknowledge_all<H: Harness>(h: &Arc<H>, ids: &[EventId]) {
    again_after_conflicts(|| h.store().acknowledge_all(ids)).await;
}

pub(crate) async fn rows<H: Harness>(h: &Arc<H>) -> HashSet<String> {
    h.rows().await.into_iter().collect()
}

/// What a purge finds of so many delivered events.
pub(crate) fn kept<H: Harness>(h: &Arc<H>, delivered: u64) -> u64 {
    match h.retention() {
        Retention::UntilPurged => delivered,
        Retention::DeleteOnDelivery => 0,
    }
}

/// What saving an event again says once the first one is delivered.
pub(crate) fn saved_after_delivery<H: Harness>(h: &Arc<H>) -> Saved {
    match h.retention() {
        Retention::UntilPurged => Saved::Duplicate,
        Retention::DeleteOnDelivery => Saved::Stored,
    }
}

/// Fetches and acknowledges, batch by batch, until nothing is pending and `is_last` said before the fetch that
/// nothing more will come. What it returns was delivered in that order.
pub(crate) async fn drain<H: Harness>(h: &Arc<H>, limit: usize, is_last: impl Fn() -> bool) -> Vec<EventId> {
    let (mut delivered, mut seen) = (Vec::new(), HashSet::new());
    loop {
        let is_last = is_last();
        let batch = ids(&retried(|| h.store().get_pending(limit)).await);
        retried(|| h.store().acknowledge_all(&batch)).await;
        if batch.is_empty() {
            if is_last {
                return delivered;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for id in batch {
            assert!(seen.insert(id), "{id} was acknowledged and is pending again");
            delivered.push(id);
        }
    }
}

/// Calls again while the engine answers that a concurrent transaction is in the way, or cannot be reached, as an application
/// does.
pub(crate) async fn retried<T, F: Future<Output = Result<T>>>(call: impl FnMut() -> F) -> T {
    while_it_helps(call, Error::is_retryable).await
}

/// The same where a concurrent transaction is in the way, and nowhere else: of what many call at once.
pub(crate) async fn again_after_conflicts<T, F: Future<Output = Result<T>>>(call: impl FnMut() -> F) -> T {
    while_it_helps(call, |error| error.kind() == ErrorKind::Conflict).await
}

async fn while_it_helps<T, F: Future<Output = Result<T>>>(
    mut call: impl FnMut() -> F,
    helps: fn(&Error) -> bool,
) -> T {
    let mut last = None;
    for _ in 0..200 {
        match call().await {
            Ok(value) => return value,
            Err(error) if helps(&error) => {
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("an error that a retry does not help: {error}"),
        }
    }
    panic!("the last of 200 tries: {last:?}")
}

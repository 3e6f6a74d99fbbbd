//! A batch, whose keys are published side by side and whose events of a key one after the other.

#[cfg(feature = "rabbitmq")]
use std::collections::VecDeque;
use std::{collections::HashMap, future::Future};

use outbox_traits::{Event, PublishError, PublishErrorKind, Published};

/// Publishes each event once those before it of its key were accepted, and so many keys at the same time. After a
/// failure the rest of its key is not tried, and after [`Unavailable`](PublishErrorKind::Unavailable) nothing is.
#[cfg(any(feature = "http", feature = "kafka", feature = "nats", feature = "redis"))]
pub(crate) async fn publish_by_key<'a, P, F>(
    events: &'a [Event],
    keys_at_once: usize,
    publish: P,
) -> Vec<Published>
where
    P: Fn(&'a Event) -> F + Send + Sync,
    F: Future<Output = Result<(), PublishError>> + Send,
{
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::{FutureExt, StreamExt, stream};

    let is_down = AtomicBool::new(false);
    let chains = chains(events).into_iter().map(|chain| {
        let (is_down, publish) = (&is_down, &publish);
        async move {
            let (mut published, mut has_failed) = (Vec::with_capacity(chain.len()), false);
            for event in chain {
                let result = if has_failed || is_down.load(Ordering::Relaxed) {
                    Err(PublishError::not_attempted())
                } else {
                    publish(event).await
                };
                if let Err(error) = &result {
                    has_failed = true;
                    is_down.fetch_or(error.kind() == PublishErrorKind::Unavailable, Ordering::Relaxed);
                }
                published.push(Published { id: event.id(), result });
            }
            published
        }
        .boxed()
    });
    stream::iter(chains.collect::<Vec<_>>())
        .buffer_unordered(keys_at_once)
        .fold(Vec::with_capacity(events.len()), |mut all, published| async move {
            all.extend(published);
            all
        })
        .await
}

/// The same in rounds: the next event of each key, so many keys at the same time, and nothing more until it is known
/// what became of all of them.
#[cfg(feature = "rabbitmq")]
pub(crate) async fn publish_in_rounds<'a, P, F>(
    events: &'a [Event],
    keys_at_once: usize,
    publish: P,
) -> Vec<Published>
where
    P: Fn(Vec<&'a Event>) -> F + Send + Sync,
    F: Future<Output = Vec<Result<(), PublishError>>> + Send,
{
    let mut waiting = chains(events).into_iter().map(VecDeque::from);
    let mut running: Vec<VecDeque<&Event>> = Vec::new();
    let mut published = Vec::with_capacity(events.len());
    let mut is_down = false;
    loop {
        running.extend(waiting.by_ref().take(keys_at_once - running.len()));
        let round: Vec<_> = running.iter_mut().filter_map(VecDeque::pop_front).collect();
        if round.is_empty() {
            return published;
        }
        let results = if is_down {
            round.iter().map(|_| Err(PublishError::not_attempted())).collect()
        } else {
            publish(round.clone()).await
        };
        for ((event, result), rest) in round.into_iter().zip(results).zip(&mut running) {
            let kind = result.as_ref().err().map(PublishError::kind);
            published.push(Published { id: event.id(), result });
            if let Some(kind) = kind {
                is_down |= kind == PublishErrorKind::Unavailable;
                let not_attempted =
                    |event: &Event| Published { id: event.id(), result: Err(PublishError::not_attempted()) };
                published.extend(rest.drain(..).map(not_attempted));
            }
        }
        running.retain(|rest| !rest.is_empty());
    }
}

/// The events of each key, and each event without one by itself, in the order of their first.
fn chains(events: &[Event]) -> Vec<Vec<&Event>> {
    let mut chains: Vec<Vec<&Event>> = Vec::new();
    let mut of_keys: HashMap<&str, usize> = HashMap::new();
    for event in events {
        let own = chains.len();
        let chain = event.partition_key().map_or(own, |key| *of_keys.entry(key).or_insert(own));
        if chain == own {
            chains.push(Vec::new());
        }
        chains[chain].push(event);
    }
    chains
}

/// The report where there is no connection: nothing was tried.
#[cfg(feature = "redis")]
pub(crate) fn unavailable(events: &[Event], error: PublishError) -> Vec<Published> {
    let mut error = Some(error);
    let mut next = || error.take().unwrap_or_else(PublishError::not_attempted);
    events.iter().map(|event| Published { id: event.id(), result: Err(next()) }).collect()
}

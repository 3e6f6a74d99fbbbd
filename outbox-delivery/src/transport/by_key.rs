//! A batch, whose keys are published side by side and whose events of a key one after the other.

use std::{
    collections::HashMap,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, StreamExt, stream};
use outbox_traits::{Event, PublishError, PublishErrorKind, Published};

/// Publishes each event once those before it of its key were accepted, and so many keys at the same time. After a
/// failure the rest of its key is not tried, and after [`Unavailable`](PublishErrorKind::Unavailable) nothing is.
pub(crate) async fn publish_by_key<'a, P, F>(
    events: &'a [Event],
    keys_at_once: usize,
    publish: P,
) -> Vec<Published>
where
    P: Fn(&'a Event) -> F + Send + Sync,
    F: Future<Output = Result<(), PublishError>> + Send,
{
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
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
pub(crate) fn unavailable(events: &[Event], error: PublishError) -> Vec<Published> {
    let mut error = Some(error);
    let mut next = || error.take().unwrap_or_else(PublishError::not_attempted);
    events.iter().map(|event| Published { id: event.id(), result: Err(next()) }).collect()
}

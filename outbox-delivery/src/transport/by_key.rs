//! A batch, whose keys are published side by side and whose events of a key one after the other.

#[cfg(feature = "rabbitmq")]
use std::collections::VecDeque;
use std::{collections::HashMap, future::Future};

use outbox_traits::{Event, PublishError, Published, is_call_to_end};

/// Publishes each event once those before it of its key were accepted, and so many keys at the same time. After a
/// failure the rest of its key is not tried, and after [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable)
/// nothing is. Nor is anything more once half of the time of the relay's call is over.
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
    use outbox_traits::PublishErrorKind;

    let (is_down, has_begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let chains = chains(events).into_iter().map(|chain| {
        let (is_down, has_begun, publish) = (&is_down, &has_begun, &publish);
        async move {
            let (mut published, mut has_failed) = (Vec::with_capacity(chain.len()), false);
            for event in chain {
                let result = if has_failed || is_down.load(Ordering::Relaxed) {
                    Err(PublishError::not_attempted())
                } else if has_begun.swap(true, Ordering::Relaxed) && is_call_to_end() {
                    Err(PublishError::not_begun())
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
/// what became of all of them, and whether another round is to begin. None does once half of the time of the relay's
/// call is over, or the relay is to stop.
#[cfg(feature = "rabbitmq")]
pub(crate) async fn publish_in_rounds<'a, P, F>(
    events: &'a [Event],
    keys_at_once: usize,
    publish: P,
) -> Vec<Published>
where
    P: Fn(Vec<&'a Event>) -> F + Send + Sync,
    F: Future<Output = (Vec<Result<(), PublishError>>, bool)> + Send,
{
    let not_attempted =
        |event: &Event| Published { id: event.id(), result: Err(PublishError::not_attempted()) };
    let mut waiting = chains(events).into_iter().map(VecDeque::from);
    let mut running: Vec<VecDeque<&Event>> = Vec::new();
    let mut published = Vec::with_capacity(events.len());
    let mut goes_on = true;
    while goes_on && (published.is_empty() || !is_call_to_end()) {
        running.extend(waiting.by_ref().take(keys_at_once - running.len()));
        let round: Vec<_> = running.iter_mut().filter_map(VecDeque::pop_front).collect();
        if round.is_empty() {
            break;
        }
        let results;
        (results, goes_on) = publish(round.clone()).await;
        for ((event, result), rest) in round.into_iter().zip(results).zip(&mut running) {
            let has_failed = result.is_err();
            published.push(Published { id: event.id(), result });
            if has_failed {
                published.extend(rest.drain(..).map(not_attempted));
            }
        }
        running.retain(|rest| !rest.is_empty());
    }
    // Its time was over, or a failure ended it.
    let why = if goes_on { PublishError::not_begun } else { PublishError::not_attempted };
    let rest = running.into_iter().chain(waiting).flatten();
    published.extend(rest.map(|event| Published { id: event.id(), result: Err(why()) }));
    published
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

#[cfg(all(test, feature = "rabbitmq"))]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use serde_json::json;

    use super::*;

    /// What was sent in each round, and what became of each event.
    async fn rounds(
        keys_at_once: usize,
        answer: impl Fn(usize, &str) -> (bool, bool) + Sync,
    ) -> (Vec<String>, String) {
        let names = ["a1", "b1", "a2", "c1", "b2", "a3"];
        let events = names.map(|name| Event::new(name, json!({})).unwrap().with_partition_key(&name[..1]));
        let sent = Mutex::new(Vec::new());
        let published = publish_in_rounds(&events, keys_at_once, |round| {
            let names: Vec<_> = round.iter().map(|event| event.event_type()).collect();
            let mut sent = sent.lock().unwrap();
            let answers: Vec<_> = names.iter().map(|name| answer(sent.len(), name)).collect();
            sent.push(names.join(" "));
            let goes_on = answers.iter().all(|(_, goes_on)| *goes_on);
            let results = answers
                .into_iter()
                .map(|(is_ok, _)| if is_ok { Ok(()) } else { Err(PublishError::failed("no")) });
            std::future::ready((results.collect(), goes_on))
        });
        let published = published.await;
        assert_eq!(published.len(), events.len());
        let letter = |result: &Result<(), PublishError>| match result {
            Ok(()) => 'y',
            Err(error) if error.kind() == outbox_traits::PublishErrorKind::NotAttempted => '-',
            Err(_) => 'n',
        };
        let letters: BTreeMap<_, _> = published.iter().map(|one| (one.id, letter(&one.result))).collect();
        (sent.into_inner().unwrap(), events.iter().map(|event| letters[&event.id()]).collect())
    }

    #[tokio::test]
    async fn a_round_has_the_next_event_of_each_key() {
        let (sent, answers) = rounds(9, |_, _| (true, true)).await;
        assert_eq!(
            (sent, answers.as_str()),
            (vec!["a1 b1 c1".into(), "a2 b2".into(), "a3".into()], "yyyyyy")
        );
        let (sent, _) = rounds(2, |_, _| (true, true)).await;
        assert_eq!(sent, ["a1 b1", "a2 b2", "a3 c1"]);
    }

    #[tokio::test]
    async fn what_follows_a_failed_event_of_its_key_is_not_sent() {
        let (sent, answers) = rounds(9, |_, name| (name != "a2", true)).await;
        assert_eq!((sent, answers.as_str()), (vec!["a1 b1 c1".into(), "a2 b2".into()], "yynyy-"));
    }

    #[tokio::test]
    async fn after_a_round_that_is_the_last_nothing_is_sent() {
        let (sent, answers) = rounds(2, |round, name| (name != "b2", round < 1)).await;
        assert_eq!((sent, answers.as_str()), (vec!["a1 b1".into(), "a2 b2".into()], "yyy-n-"));
    }
}

#[cfg(all(test, feature = "http", feature = "rabbitmq"))]
mod slow_tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use outbox_traits::PublishErrorKind;
    use serde_json::json;
    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many of twenty events, of as many keys, are accepted where each takes a second; the rest is not attempted.
    async fn accepted(keys: usize, in_rounds: bool) -> usize {
        let event = |n: usize| Event::new("a", json!(n)).unwrap().with_partition_key((n % keys).to_string());
        let events: Vec<_> = (0..20).map(event).collect();
        let published = if in_rounds {
            let publish = |round: Vec<&Event>| {
                let results = round.iter().map(|_| Ok(())).collect();
                sleep(SECOND).map(move |()| (results, true))
            };
            publish_in_rounds(&events, 256, publish).await
        } else {
            publish_by_key(&events, 16, |_| sleep(SECOND).map(Ok)).await
        };
        assert_eq!(published.len(), 20);
        let left = published.iter().filter_map(|one| one.result.as_ref().err());
        assert!(left.clone().all(|error| error.kind() == PublishErrorKind::NotAttempted));
        20 - left.count()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_once_half_of_the_time_is_over_but_the_first() {
        let never = CancellationToken::new();
        for in_rounds in [false, true] {
            for (keys, seconds, expected) in [(1, 10, 5), (2, 10, 10), (20, 10, 20), (1, 0, 1)] {
                let begun = Instant::now();
                let found =
                    crate::call_time::limited(seconds * SECOND, &never, accepted(keys, in_rounds)).await;
                assert_eq!(found, expected, "with {keys} keys, in rounds: {in_rounds}");
                assert!(begun.elapsed() <= 6 * SECOND);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_once_the_relay_is_to_stop() {
        for in_rounds in [false, true] {
            for (after, expected) in [(0, 1), (3, 4)] {
                let stop = CancellationToken::new();
                let stopping = async {
                    sleep(after * SECOND + SECOND / 2).await;
                    stop.cancel();
                };
                let call = crate::call_time::limited(100 * SECOND, &stop, accepted(1, in_rounds));
                let (found, ()) = tokio::join!(call, stopping);
                assert_eq!(found, expected, "after {after} s, in rounds: {in_rounds}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_relay_there_is_all_the_time() {
        assert_eq!((accepted(1, false).await, accepted(1, true).await), (20, 20));
    }
}

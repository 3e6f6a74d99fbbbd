//! A broker of which a part is away: one queue, stream or topic takes no events, and others do.

use std::{collections::HashSet, sync::Arc};

use outbox_traits::{Event, PublishError, PublishErrorKind, Transport};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{
    PartHarness,
    support::{
        RETRY, assert_keys_in_order, assert_passing, event, ids_of, of_keys, publish, publish_in_the_end,
        received, results_of,
    },
};

/// 13.13: while a part of the broker is away, its events are [`Failed`](PublishErrorKind::Failed), as they alone are to
/// blame, and those of other parts are accepted: alone and in one batch with them.
pub async fn a_part_that_is_away_fails_its_own_events_alone<H: PartHarness>(h: Arc<H>) {
    publish(&h, &event("before")).await;
    let away = of_away(6);
    publish(&h, &away[0]).await;
    h.take_away().await;
    let result = timeout(h.patience(), h.transport().publish(&away[1])).await.expect("an answer in time");
    let error = result.expect_err("a part of the broker is away");
    assert_eq!(error.kind(), PublishErrorKind::Failed, "{error}");
    publish(&h, &event("meanwhile")).await;

    let here = of_keys(4, 0, 20);
    let (mut waiting, mut has_failed) = (here.clone(), false);
    let deadline = Instant::now() + h.patience();
    while !waiting.is_empty() {
        // Those of other parts stand before, between and behind its own.
        let mut batch = waiting.clone();
        for (index, event) in away[1..].iter().enumerate() {
            batch.insert((1 + 4 * index).min(batch.len()), event.clone());
        }
        let results = timeout(h.patience(), results_of(&h, &batch)).await.expect("an answer in time");
        for (event, result) in batch.iter().zip(results) {
            let kind = result.as_ref().err().map(PublishError::kind);
            if event.event_type() == PART {
                has_failed |= kind == Some(PublishErrorKind::Failed);
                let is_right =
                    matches!(kind, Some(PublishErrorKind::Failed | PublishErrorKind::NotAttempted));
                assert!(is_right, "its part of the broker is away: {result:?}");
            } else {
                // What is left for the next call is not to blame.
                let is_right = matches!(kind, None | Some(PublishErrorKind::NotAttempted));
                assert!(is_right, "another part of the broker is away: {result:?}");
                if result.is_ok() {
                    waiting.retain(|other| other.id() != event.id());
                }
            }
        }
        assert!(waiting.is_empty() || Instant::now() < deadline, "the other parts are not used");
        sleep(RETRY).await;
    }
    assert!(has_failed, "the events of the part that is away are never tried");
    // For what the harness removes at the end; nothing is published any more.
    h.bring_back().await;

    let arrived = received(&h).await;
    assert_keys_in_order(&arrived);
    let arrived: HashSet<_> = ids_of(&arrived).into_iter().collect();
    assert!(here.iter().all(|event| arrived.contains(&event.id())), "accepted, and lost");
    assert!(away[1..].iter().all(|event| !arrived.contains(&event.id())), "not accepted, and there");
}

/// 13.13: when the part is back, the same transport uses it again, and nothing is lost or out of order.
pub async fn a_part_that_is_back_is_used_again<H: PartHarness>(h: Arc<H>) {
    let away = of_away(6);
    publish(&h, &away[0]).await;
    for number in [1, 3] {
        h.take_away().await;
        let failing = results_of(&h, &away[number..]);
        let results = timeout(h.patience(), failing).await.expect("an answer in time");
        for result in results {
            assert_passing(&result.expect_err("a part of the broker is away"));
        }
        h.bring_back().await;
        for event in &away[number..number + 2] {
            publish_in_the_end(&h, h.patience(), event).await;
        }
    }
    let arrived = received(&h).await;
    assert_keys_in_order(&arrived);
    let arrived: HashSet<_> = ids_of(&arrived).into_iter().collect();
    assert!(away[..5].iter().all(|event| arrived.contains(&event.id())), "accepted, and lost");
}

/// The type of the events whose part of the broker is taken away.
pub const PART: &str = "suite.part";

/// Events of one key for that part.
fn of_away(count: usize) -> Vec<Event> {
    let numbered = |number| {
        Event::new(PART, json!({ "number": number })).expect("a valid event").with_partition_key("away")
    };
    (0..count).map(numbered).collect()
}

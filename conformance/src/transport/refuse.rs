//! What a transport does not take.

use std::sync::Arc;

use outbox_traits::{Event, PublishErrorKind, Transport};

use super::{
    RefusingHarness,
    support::{assert_keys_in_order, event, ids_of, of_keys, publish, publish_all, received, results_of},
};

/// 13.9: what is too large is [`Rejected`](PublishErrorKind::Rejected), alone and in a batch, and never arrives.
pub async fn what_is_too_large_is_rejected<H: RefusingHarness>(h: Arc<H>) {
    let too_large = h.too_large();
    for _ in 0..2 {
        let error = h.transport().publish(&too_large).await.expect_err("it is too large");
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
        let error = results_of(&h, &[h.too_large()]).await.remove(0).expect_err("it is too large");
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    }
    assert_eq!(received(&h).await, []);
    publish(&h, &event("after it")).await;
}

/// 13.9: a refused event holds up no other key, and the report blames it alone.
pub async fn a_refused_event_holds_up_no_other<H: RefusingHarness>(h: Arc<H>) {
    let batch = [
        event("a").with_partition_key("a"),
        h.too_large().with_partition_key("b"),
        event("a").with_partition_key("a"),
        event("c").with_partition_key("c"),
        h.too_large(),
        event("without a key"),
    ];
    let results = results_of(&h, &batch).await;
    let refused: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, false, false, true, false]);
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}");
    }
    let arrived = ids_of(&received(&h).await);
    let accepted: Vec<_> = [0, 2, 3, 5].map(|index: usize| batch[index].id()).into();
    assert_eq!(arrived.len(), 4);
    assert!(accepted.iter().all(|id| arrived.contains(id)));
}

/// 13.6: what follows a failed event of its key in a batch is not published, because its order would be lost.
pub async fn what_follows_a_failed_event_of_its_key_waits<H: RefusingHarness>(h: Arc<H>) {
    let mut batch = of_keys(2, 0, 10);
    batch.insert(4, h.too_large().with_partition_key("key-0"));
    let results = results_of(&h, &batch).await;
    let mut waiting = Vec::new();
    for (index, (event, result)) in batch.iter().zip(results).enumerate() {
        let follows = index > 4 && event.partition_key() == Some("key-0");
        match result {
            Ok(()) => assert!(index != 4 && !follows, "event {index} is accepted"),
            Err(error) if index == 4 => assert_eq!(error.kind(), PublishErrorKind::Rejected, "{error}"),
            Err(error) => {
                assert!(follows, "event {index} is not accepted: {error}");
                assert_eq!(error.kind(), PublishErrorKind::NotAttempted, "{error}");
                waiting.push(event.clone());
            }
        }
    }
    let arrived = ids_of(&received(&h).await);
    assert!(
        waiting.iter().map(Event::id).all(|id| !arrived.contains(&id)),
        "it was to wait, and has arrived"
    );
    // The relay sets the refused one aside, and goes on.
    publish_all(&h, &waiting).await;
    let received = received(&h).await;
    assert_eq!(received.len(), 10);
    assert_keys_in_order(&received);
}

//! A broker that goes away and comes back.

use std::sync::Arc;

use outbox_traits::{PublishErrorKind, Transport};
use tokio::time::timeout;

use super::{
    OutageHarness,
    support::{
        assert_keys_in_order, event, ids_of, of_keys, publish, publish_amid_outages, publish_in_the_end,
        received, results_of,
    },
};

/// 13.10: while the broker is down, a publish returns, and says that the transport is
/// [`Unavailable`](PublishErrorKind::Unavailable): no event is to blame.
pub async fn a_broker_that_is_down_is_unavailable<H: OutageHarness>(h: Arc<H>) {
    publish(&h, &event("before")).await;
    h.stop().await;
    for _ in 0..2 {
        let event = event("meanwhile");
        let result = timeout(h.patience(), h.transport().publish(&event)).await.expect("an answer in time");
        let error = result.expect_err("the broker is down");
        assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");

        let batch = of_keys(3, 0, 30);
        let results = timeout(h.patience(), results_of(&h, &batch)).await.expect("an answer in time");
        let kinds: Vec<_> =
            results.into_iter().map(|result| result.expect_err("the broker is down").kind()).collect();
        assert!(kinds.contains(&PublishErrorKind::Unavailable), "{kinds:?}");
        let is_innocent =
            |kind| matches!(kind, PublishErrorKind::Unavailable | PublishErrorKind::NotAttempted);
        assert!(kinds.iter().copied().all(is_innocent), "{kinds:?}");
    }
    // For what the harness removes at the end.
    h.start().await;
}

/// 13.11: when the broker is back, the same transport uses it again.
pub async fn a_broker_that_is_back_is_used_again<H: OutageHarness>(h: Arc<H>) {
    publish(&h, &event("before")).await;
    for _ in 0..2 {
        h.stop().await;
        let meanwhile = event("meanwhile");
        let result =
            timeout(h.patience(), h.transport().publish(&meanwhile)).await.expect("an answer in time");
        assert!(result.is_err(), "the broker is down");
        h.start().await;
        publish_in_the_end(&h, h.patience(), &meanwhile).await;
        assert!(ids_of(&received(&h).await).contains(&meanwhile.id()));
    }
}

/// 13.6: a broker that is killed in the middle of batches does not disturb the order of a key: an event arrives only
/// after those before it.
pub async fn a_key_keeps_its_order_across_an_outage<H: OutageHarness>(h: Arc<H>) {
    publish_amid_outages(&h).await;
    assert_keys_in_order(&received(&h).await);
}

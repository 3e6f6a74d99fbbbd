//! What the retention makes of sections 2, 5 and 6.

use std::{sync::Arc, time::Duration};

use outbox_traits::{OutboxStore, Saved};

use crate::{
    Harness,
    support::{acknowledge, acknowledge_all, event, kept, pending_ids, save, save_all, saved_after_delivery},
};

/// 2.6, 2.7, 5.2 and 6.1: kept, a delivered event holds its id and its key until it is purged; deleted on delivery, it
/// leaves both free at once, and a second acknowledgement is one of an unknown id. Others are not touched.
pub async fn the_retention_says_what_stays_of_a_delivered_event<H: Harness>(h: Arc<H>) {
    let keyed = |name: &str, key: &str| event(name).with_idempotency_key(key);
    let (one, two, other) = (keyed("one", "1"), keyed("two", "2"), keyed("other", "3"));
    save_all(&h, &[one.clone(), two.clone(), other.clone()]).await;
    acknowledge(&h, one.id()).await;
    acknowledge_all(&h, &[two.id()]).await;
    acknowledge_all(&h, &[one.id(), two.id()]).await;
    assert_eq!(pending_ids(&h).await, [other.id()]);
    let again = [event("by id").with_id(one.id()), keyed("by key", "2")];
    for event in &again {
        assert_eq!(h.store().save(event).await.expect("save"), saved_after_delivery(&h));
    }
    let is_free = saved_after_delivery(&h) == Saved::Stored;
    let saved_again = again.iter().map(outbox_traits::Event::id).filter(|_| is_free);
    assert_eq!(pending_ids(&h).await, [other.id()].into_iter().chain(saved_again).collect::<Vec<_>>());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2));
    // From here on there is no difference.
    acknowledge_all(&h, &[again[0].id(), again[1].id()]).await;
    h.store().purge(Duration::ZERO).await.expect("purge");
    save(&h, &keyed("and again", "2").with_id(one.id())).await;
    assert_eq!(h.store().save(&keyed("other", "3")).await.expect("save"), Saved::Duplicate);
}

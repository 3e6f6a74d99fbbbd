//! Section 5: acknowledge.

use std::{sync::Arc, time::Duration};

use outbox_traits::{EventId, OutboxStore, Saved};

use crate::{
    Harness,
    support::{acknowledge, acknowledge_all, event, events, ids, kept, pending, pending_ids, save, save_all},
};

/// 5.1: an acknowledged event is delivered and no longer pending; the others are.
pub async fn an_acknowledged_event_is_no_longer_pending<H: Harness>(h: Arc<H>) {
    let all = events(3);
    save_all(&h, &all).await;
    acknowledge(&h, all[1].id()).await;
    assert_eq!(pending_ids(&h).await, [all[0].id(), all[2].id()]);
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1), "it is delivered");
}

/// 5.2: acknowledging again changes nothing, the time of delivery included.
pub async fn acknowledging_again_does_not_move_the_delivery_time<H: Harness>(h: Arc<H>) {
    let saved = event("saved");
    save(&h, &saved).await;
    acknowledge(&h, saved.id()).await;
    h.advance(Duration::from_secs(3)).await;
    acknowledge(&h, saved.id()).await;
    acknowledge_all(&h, &[saved.id(), saved.id()]).await;
    let purged = h.store().purge(Duration::from_secs(2)).await.expect("purge");
    assert_eq!(purged, kept(&h, 1), "it was delivered three seconds ago, not just now");
}

/// 5.2: an unknown id is no error and changes nothing.
pub async fn acknowledging_an_unknown_id_is_no_error<H: Harness>(h: Arc<H>) {
    let saved = event("saved");
    save(&h, &saved).await;
    acknowledge(&h, EventId::new()).await;
    acknowledge_all(&h, &[EventId::new(), EventId::new()]).await;
    acknowledge_all(&h, &[]).await;
    assert_eq!(pending(&h).await, [saved]);
}

/// 5.2: an id that is acknowledged before it is saved has no effect on the save.
pub async fn acknowledging_comes_after_saving<H: Harness>(h: Arc<H>) {
    let saved = event("saved");
    acknowledge(&h, saved.id()).await;
    save(&h, &saved).await;
    assert_eq!(pending(&h).await, [saved]);
}

/// 5.3: any order, any subset.
pub async fn events_are_acknowledged_in_any_order_and_subset<H: Harness>(h: Arc<H>) {
    let all = events(2500);
    save_all(&h, &all).await;
    let mut every_second: Vec<EventId> = ids(&all).into_iter().step_by(2).collect();
    every_second.reverse();
    // With an unknown one and one twice in the midst of them.
    every_second.insert(7, EventId::new());
    every_second.push(every_second[3]);
    acknowledge_all(&h, &every_second).await;
    let rest: Vec<EventId> = ids(&all).into_iter().skip(1).step_by(2).collect();
    assert_eq!(pending_ids(&h).await, rest);
    for id in rest.iter().rev().take(3) {
        acknowledge(&h, *id).await;
    }
    assert_eq!(pending_ids(&h).await, rest[..rest.len() - 3]);
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1253));
}

/// 5.4: it never resurrects or touches a dead event.
pub async fn acknowledging_leaves_a_dead_event_alone<H: Harness>(h: Arc<H>) {
    let dead = EventId::new();
    h.insert_undecodable(dead).await;
    assert!(pending(&h).await.is_empty());
    acknowledge(&h, dead).await;
    acknowledge_all(&h, &[dead]).await;
    assert!(pending(&h).await.is_empty());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0, "it is dead, not delivered");
    let again = event("again").with_id(dead);
    assert_eq!(h.store().save(&again).await.expect("save"), Saved::Duplicate, "it is still there");
}

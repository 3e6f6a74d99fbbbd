//! Section 4: `get_pending`.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{EventId, OutboxStore};

use crate::{
    Harness,
    support::{acknowledge_all, drain, event, events, ids, kept, pending, pending_ids, save, save_all},
};

/// 4.1: first in, first out, at most `limit`; 0 gives none; more than there is gives all.
pub async fn pending_events_come_first_in_first_out<H: Harness>(h: Arc<H>) {
    assert!(h.store().get_pending(10).await.expect("get_pending").is_empty());
    let all = events(25);
    for one in &all {
        save(&h, one).await;
    }
    for limit in [0, 1, 2, 24, 25, 26, 1_000_000, usize::MAX] {
        let read = h.store().get_pending(limit).await.expect("get_pending");
        assert_eq!(ids(&read), ids(&all[..limit.min(25)]), "with a limit of {limit}");
    }
}

/// 4.2: it changes nothing: asked twice, it answers the same.
pub async fn get_pending_changes_nothing<H: Harness>(h: Arc<H>) {
    save_all(&h, &events(5)).await;
    save(&h, &event("later").with_not_before(h.now().await + TimeDelta::hours(1))).await;
    let first = pending(&h).await;
    assert_eq!(first.len(), 5);
    assert_eq!(pending(&h).await, first);
    assert_eq!(h.store().get_pending(3).await.expect("get_pending"), first[..3]);
    assert_eq!(pending(&h).await, first);
}

/// 4.3: delivered and not-yet-due events are not in it.
pub async fn delivered_and_hidden_events_are_not_pending<H: Harness>(h: Arc<H>) {
    let mut all = events(9);
    let due = h.now().await + TimeDelta::hours(1);
    for hidden in all.iter_mut().skip(2).step_by(3) {
        *hidden = hidden.clone().with_not_before(due);
    }
    save_all(&h, &all).await;
    let delivered: Vec<EventId> = all.iter().skip(1).step_by(3).map(outbox_traits::Event::id).collect();
    acknowledge_all(&h, &delivered).await;
    assert_eq!(pending_ids(&h).await, [all[0].id(), all[3].id(), all[6].id()]);
    assert_eq!(ids(&h.store().get_pending(2).await.expect("get_pending")), [all[0].id(), all[3].id()]);
}

/// 4.4: what it answers depends neither on how many events are delivered or hidden nor on how many follow.
pub async fn a_fetch_is_right_amid_many_events<H: Harness>(h: Arc<H>) {
    let due = h.now().await + TimeDelta::hours(1);
    let (delivered, backlog) = (events(2000), events(1500));
    let hidden: Vec<_> = events(500).into_iter().map(|event| event.with_not_before(due)).collect();
    save_all(&h, &delivered).await;
    save_all(&h, &hidden).await;
    save_all(&h, &backlog).await;
    acknowledge_all(&h, &ids(&delivered)).await;
    assert_eq!(drain(&h, 400, || true).await, ids(&backlog));
    // And the hidden ones, which came before, when all of them are due at once.
    h.advance(Duration::from_hours(2)).await;
    let last = event("last");
    save(&h, &last).await;
    let mut expected = ids(&hidden);
    expected.push(last.id());
    assert_eq!(ids(&h.store().get_pending(10).await.expect("get_pending")), expected[..10]);
    assert_eq!(pending_ids(&h).await, expected);
}

/// 4.5: a row that cannot be decoded is never returned and never blocks what is behind it, even where there
/// are more of them than a fetch takes.
pub async fn an_undecodable_row_is_never_returned_and_blocks_nothing<H: Harness>(h: Arc<H>) {
    let (before, between, after) = (event("before"), event("between"), event("after"));
    save(&h, &before).await;
    for _ in 0..5 {
        h.insert_undecodable(EventId::new()).await;
    }
    save(&h, &between).await;
    h.insert_undecodable(EventId::new()).await;
    save(&h, &after).await;
    assert_eq!(ids(&h.store().get_pending(2).await.expect("get_pending")), [before.id(), between.id()]);
    acknowledge_all(&h, &[before.id()]).await;
    assert_eq!(ids(&h.store().get_pending(1).await.expect("get_pending")), [between.id()]);
    acknowledge_all(&h, &[between.id()]).await;
    assert_eq!(ids(&h.store().get_pending(1).await.expect("get_pending")), [after.id()]);
    assert_eq!(pending_ids(&h).await, [after.id()]);
    // It is dead, not delivered: a purge leaves it.
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 2));
}

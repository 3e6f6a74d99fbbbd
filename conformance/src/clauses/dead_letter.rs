//! Section 8, as far as dead events come from rows that cannot be decoded (section 4.5).

use std::{sync::Arc, time::Duration};

use outbox_traits::{DeadLetter, DeadLetterFilter, DeadLetterStore, EventId, OutboxStore, Saved};

use crate::{
    Harness,
    support::{acknowledge, event, kept, pending, pending_ids, save},
};

pub(crate) async fn dead<H: Harness>(h: &Arc<H>, filter: DeadLetterFilter) -> Vec<DeadLetter>
where
    H::Store: DeadLetterStore,
{
    h.store().dead_letters(&filter).await.expect("dead_letters").letters
}

/// Discards each one that is read, in pages of so many. Returns their ids.
pub(crate) async fn discarded_page_by_page<H: Harness>(h: &Arc<H>, limit: usize) -> Vec<EventId>
where
    H::Store: DeadLetterStore,
{
    let (mut read, mut filter) = (Vec::new(), DeadLetterFilter::new().with_limit(limit));
    loop {
        let page = h.store().dead_letters(&filter).await.expect("dead_letters");
        for letter in page.letters {
            assert!(h.store().discard(letter.id).await.expect("discard"), "{} is not found", letter.id);
            read.push(letter.id);
        }
        if page.next.is_none() {
            return read;
        }
        filter = filter.with_after(page.next);
    }
}

/// Rows that were set aside by a fetch.
async fn set_aside<H: Harness>(h: &Arc<H>, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = EventId::new();
        h.insert_undecodable(id).await;
        ids.push(id);
    }
    assert!(pending(h).await.is_empty());
    ids
}

/// 4.5: a row that cannot be decoded is shown with its raw content and the reason.
pub async fn an_undecodable_row_is_shown_with_its_raw_content<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    assert!(dead(&h, DeadLetterFilter::new()).await.is_empty());
    let (before, after) = (event("before"), event("after"));
    save(&h, &before).await;
    let id = EventId::new();
    h.insert_undecodable(id).await;
    save(&h, &after).await;
    for _ in 0..2 {
        assert_eq!(pending_ids(&h).await, [before.id(), after.id()]);
        let letters = dead(&h, DeadLetterFilter::new()).await;
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].id, id);
        assert!(!letters[0].reason.is_empty(), "it does not say why");
        let raw = letters[0].content.as_ref().expect_err("it cannot be an event");
        assert!(!raw.is_empty() && raw.contains(h.undecodable_content()), "the raw content is gone: {raw:?}");
        assert_eq!((letters[0].attempts, letters[0].failures), (0, 0), "nobody tried to deliver it");
    }
}

/// 4.5, 8.2 and 8.3: whatever nobody could have written it as, a row is set aside and shown with the reason, and is requeued and
/// discarded by an id that no other has.
pub async fn whatever_is_wrong_with_a_row_it_is_set_aside_by_itself<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let mut alive = Vec::new();
    while h.insert_unreadable(alive.len()).await {
        let after = event("after");
        save(&h, &after).await;
        alive.push(after.id());
        assert_eq!(pending_ids(&h).await, alive);
    }
    let letters = dead(&h, DeadLetterFilter::new()).await;
    assert_eq!(letters.len(), alive.len(), "each of them is shown");
    let mut left: Vec<EventId> = letters.iter().map(|letter| letter.id).collect();
    for letter in letters {
        assert!(!letter.reason.is_empty(), "it does not say why");
        assert!(!letter.content.expect_err("it cannot be an event").is_empty(), "the raw content is gone");
    }
    // The last first.
    while let Some(id) = left.pop() {
        assert!(h.store().requeue(id).await.expect("requeue"));
        assert_eq!(pending_ids(&h).await, alive);
        assert!(h.store().discard(id).await.expect("discard"), "it was not set aside again by the same id");
        let still: Vec<EventId> =
            dead(&h, DeadLetterFilter::new()).await.iter().map(|letter| letter.id).collect();
        assert_eq!(still, left, "another was requeued or discarded");
    }
}

/// 5.4: an acknowledgement does not touch it.
pub async fn an_acknowledgement_does_not_touch_a_dead_event<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 2).await;
    let before = dead(&h, DeadLetterFilter::new()).await;
    acknowledge(&h, ids[0]).await;
    h.store().acknowledge_all(&ids).await.expect("acknowledge_all");
    assert_eq!(dead(&h, DeadLetterFilter::new()).await, before);
}

/// 8.1: a purge does not touch it, however old it is.
pub async fn a_purge_does_not_touch_a_dead_event<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    set_aside(&h, 2).await;
    h.advance(Duration::from_hours(1)).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0);
    assert_eq!(dead(&h, DeadLetterFilter::new()).await.len(), 2);
}

/// 2.6: its id is still taken.
pub async fn the_id_of_a_dead_event_is_taken<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 1).await;
    let saved = h.store().save(&event("again").with_id(ids[0])).await.expect("save");
    assert_eq!(saved, Saved::Duplicate);
    assert_eq!(dead(&h, DeadLetterFilter::new()).await.len(), 1);
}

/// 8.2: oldest first, in pages, the last of which says that it is.
pub async fn dead_letters_come_oldest_first_in_pages<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 7).await;
    for limit in [1, 3, 7, 8] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let filter = DeadLetterFilter::new().with_limit(limit).with_after(after);
            let page = h.store().dead_letters(&filter).await.expect("dead_letters");
            assert!(page.letters.len() <= limit);
            assert!(!page.letters.is_empty(), "the page before was the last one, and did not say so");
            read.extend(page.letters.iter().map(|letter| letter.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(read, ids, "in pages of {limit}");
    }
    let none = h.store().dead_letters(&DeadLetterFilter::new().with_limit(0)).await.expect("dead_letters");
    assert!(none.letters.is_empty(), "a page of none");
    assert_eq!(none.next, None, "it begins where it was to begin");
    let first = DeadLetterFilter::new().with_limit(3);
    let after = h.store().dead_letters(&first).await.expect("dead_letters").next;
    let none = first.with_limit(0).with_after(after);
    let none = h.store().dead_letters(&none).await.expect("dead_letters");
    assert!(none.letters.is_empty(), "a page of none after others");
    assert_eq!(none.next, after, "who goes on from there would miss some, or read some again");
}

/// 8.2 and 8.3: who discards each one that is read goes on behind it, and misses none.
pub async fn a_page_comes_after_the_last_though_what_was_read_is_discarded<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 5).await;
    assert_eq!(discarded_page_by_page(&h, 2).await, ids);
}

/// 8.2: filtered by type and by time.
pub async fn dead_letters_are_filtered_by_type_and_time<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let early = set_aside(&h, 2).await;
    let first = dead(&h, DeadLetterFilter::new()).await;
    h.advance(Duration::from_secs(10)).await;
    let late = set_aside(&h, 1).await;
    let all = dead(&h, DeadLetterFilter::new()).await;
    let (middle, event_type) = (all[2].dead_at, all[0].event_type.clone());
    assert!(middle - all[1].dead_at >= chrono::TimeDelta::seconds(9), "{first:?} {all:?}");
    let of = async |filter| dead(&h, filter).await.iter().map(|letter| letter.id).collect::<Vec<_>>();
    assert_eq!(of(DeadLetterFilter::new().with_since(middle)).await, late);
    assert_eq!(of(DeadLetterFilter::new().with_before(middle)).await, early);
    // Between two that the store could tell apart, or at the latter.
    let next = middle + chrono::TimeDelta::microseconds(1);
    assert!(of(DeadLetterFilter::new().with_since(next)).await.is_empty());
    assert_eq!(of(DeadLetterFilter::new().with_before(next)).await, [early.clone(), late.clone()].concat());
    assert_eq!(of(DeadLetterFilter::new().with_type(event_type)).await.len(), 3);
    assert!(of(DeadLetterFilter::new().with_type("another.type")).await.is_empty());
}

/// 8.3: requeued, an event is pending again; what still cannot be decoded is set aside again.
pub async fn a_requeued_row_that_cannot_be_decoded_is_set_aside_again<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 2).await;
    assert!(h.store().requeue(ids[0]).await.expect("requeue"));
    assert!(!h.store().requeue(ids[0]).await.expect("requeue"), "it is not dead");
    assert!(!h.store().requeue(EventId::new()).await.expect("requeue"), "there is none");
    assert_eq!(dead(&h, DeadLetterFilter::new()).await.len(), 1);
    assert!(pending(&h).await.is_empty());
    assert_eq!(dead(&h, DeadLetterFilter::new()).await.len(), 2);
    assert_eq!(h.store().requeue_all(&DeadLetterFilter::new().with_limit(1)).await.expect("requeue_all"), 2);
    assert!(dead(&h, DeadLetterFilter::new()).await.is_empty());
}

/// 8.3: discarded, it is gone and its id is free; nothing else is.
pub async fn a_discarded_event_is_gone<H: Harness>(h: Arc<H>)
where
    H::Store: DeadLetterStore,
{
    let ids = set_aside(&h, 4).await;
    let (alive, done) = (event("alive"), event("done"));
    save(&h, &alive).await;
    save(&h, &done).await;
    acknowledge(&h, done.id()).await;
    assert!(h.store().discard(ids[1]).await.expect("discard"));
    assert!(!h.store().discard(ids[1]).await.expect("discard"), "it is gone");
    assert!(!h.store().discard(alive.id()).await.expect("discard"), "it is not dead");
    let none = DeadLetterFilter::new().with_type("another.type");
    assert_eq!(h.store().discard_all(&none).await.expect("discard_all"), 0);
    assert_eq!(h.store().discard_all(&DeadLetterFilter::new()).await.expect("discard_all"), 3);
    assert!(dead(&h, DeadLetterFilter::new()).await.is_empty());
    save(&h, &event("again").with_id(ids[1])).await;
    assert_eq!(pending(&h).await.len(), 2);
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 1));
}

//! Dead letters of several types, that died at several times.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use outbox_traits::{ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, Settlement};
use serde_json::json;

use super::{claim, settled};
use crate::{
    Harness,
    support::{pending_ids, save_all},
};

/// Those that match, read in pages of so many.
pub(crate) async fn pages<H: Harness>(h: &Arc<H>, filter: &DeadLetterFilter, limit: usize) -> Vec<DeadLetter>
where
    H::Store: DeadLetterStore,
{
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let filter = filter.clone().with_limit(limit).with_after(after);
        let page = h.store().dead_letters(&filter).await.expect("dead_letters");
        assert!(page.letters.len() <= limit);
        assert!(!page.letters.is_empty(), "a page of those that match has none of them");
        read.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return read;
        }
    }
}

fn ids(letters: &[DeadLetter]) -> Vec<EventId> {
    letters.iter().map(|letter| letter.id).collect()
}

/// 8.2 and 8.3: pages, and a requeue and a discard of all, heed the type and the times together, also where what does not
/// match lies between.
pub async fn pages_requeues_and_discards_heed_the_whole_filter<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut rounds: Vec<Vec<Event>> = Vec::new();
    for _ in 0..3 {
        h.advance(Duration::from_secs(100)).await;
        let of_type = |index: usize| Event::new(["a.x", "b.x"][index / 2 % 2], json!(index)).expect("valid");
        let all: Vec<Event> = (0..8).map(of_type).collect();
        save_all(&h, &all).await;
        let dead = claim(&h, 10).await;
        settled(&h, dead.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
        rounds.push(all);
    }
    let letters = pages(&h, &DeadLetterFilter::new(), 5).await;
    assert_eq!(ids(&letters), crate::support::ids(&rounds.concat()));
    let died = |round: usize| {
        letters[8 * round..][..8].iter().map(|letter| letter.dead_at).min().expect("some have died")
    };
    let of = |event_type: &str| DeadLetterFilter::new().with_type(event_type);
    let expected = |rounds: &[Vec<Event>], event_type: &str| -> Vec<EventId> {
        let events = rounds.iter().flatten().filter(|event| event.event_type() == event_type);
        events.map(Event::id).collect()
    };

    // Bounds that are closer to a time than an engine may keep it.
    let (one, soon) = (&letters[8], letters[8].dead_at + TimeDelta::nanoseconds(1));
    for (filter, is_in) in [
        (DeadLetterFilter::new().with_since(one.dead_at), true),
        (DeadLetterFilter::new().with_since(soon), false),
        (DeadLetterFilter::new().with_before(one.dead_at), false),
        (DeadLetterFilter::new().with_before(soon), true),
        (DeadLetterFilter::new().with_since(DateTime::<Utc>::MIN_UTC), true),
        (DeadLetterFilter::new().with_before(DateTime::<Utc>::MAX_UTC), true),
    ] {
        let page = h.store().dead_letters(&filter.clone().with_limit(100)).await.expect("dead_letters");
        assert_eq!(ids(&page.letters).contains(&one.id), is_in, "it died at {}: {filter:?}", one.dead_at);
    }

    let middle = of("b.x").with_since(died(1)).with_before(died(2));
    for limit in [1, 2, 3, 4] {
        assert_eq!(ids(&pages(&h, &middle, limit).await), expected(&rounds[1..2], "b.x"), "pages of {limit}");
    }
    assert_eq!(h.store().requeue_all(&middle.clone().with_limit(1)).await.expect("requeue_all"), 4);
    assert_eq!(pending_ids(&h).await, expected(&rounds[1..2], "b.x"));
    assert_eq!(h.store().requeue_all(&middle).await.expect("requeue_all"), 0, "they are not dead any more");

    let first = of("a.x").with_before(died(1));
    assert_eq!(h.store().discard_all(&first.clone().with_limit(1)).await.expect("discard_all"), 4);
    assert_eq!(ids(&pages(&h, &of("a.x"), 3).await), expected(&rounds[1..], "a.x"));
    let last = DeadLetterFilter::new().with_since(died(2));
    assert_eq!(h.store().discard_all(&last).await.expect("discard_all"), 8);
    let left = [expected(&rounds[..1], "b.x"), expected(&rounds[1..2], "a.x")].concat();
    assert_eq!(ids(&pages(&h, &DeadLetterFilter::new(), 2).await), left);
}

/// 8.2 and 8.3: a type is compared exactly, and is no pattern; and a page may be as long as there are numbers.
pub async fn a_filter_takes_its_type_exactly<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const TYPES: [&str; 10] = ["a_x", "a.x", "A.x", "a.x ", "axx", "a%", "a.é", "a.e\u{301}", "a.*", "a.x.y"];
    let all = TYPES.map(|name| Event::new(name, json!(null)).expect("valid"));
    save_all(&h, &all).await;
    let die = async |count: usize| {
        let dead = claim(&h, 100).await;
        assert_eq!(dead.len(), count);
        settled(&h, dead.iter().map(|one| Settlement::dead_letter(one.lease, "failed"))).await;
    };
    die(TYPES.len()).await;
    let every = DeadLetterFilter::new().with_limit(usize::MAX);
    let page = h.store().dead_letters(&every).await.expect("dead_letters");
    assert_eq!((ids(&page.letters), page.next), (crate::support::ids(&all), None));
    for (index, name) in TYPES.into_iter().enumerate() {
        let only = every.clone().with_type(name);
        let page = h.store().dead_letters(&only).await.expect("dead_letters");
        assert_eq!((ids(&page.letters), page.next), (vec![all[index].id()], None), "{name:?}");
        assert_eq!(h.store().requeue_all(&only).await.expect("requeue_all"), 1, "{name:?}");
        assert_eq!(pending_ids(&h).await, [all[index].id()], "{name:?}");
        die(1).await;
        assert_eq!(h.store().discard_all(&only).await.expect("discard_all"), 1, "{name:?}");
        let page = h.store().dead_letters(&every).await.expect("dead_letters");
        assert_eq!(ids(&page.letters), crate::support::ids(&all[index + 1..]), "{name:?}");
    }
}

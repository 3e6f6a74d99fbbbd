//! Dead letters that hold their keys.

use std::{collections::HashMap, sync::Arc, time::Duration};

use outbox_traits::{
    Claim, ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, Settlement,
};

use super::{LEASE, claim, delivered, drained, keyed, leased_ids, of_key, settled, several};
use crate::{
    Harness,
    support::{event, events, ids, kept, pending_ids, save, save_all},
};

async fn dead<H: Harness>(h: &Arc<H>) -> Vec<DeadLetter>
where
    H::Store: DeadLetterStore,
{
    h.store().dead_letters(&DeadLetterFilter::new().with_limit(10_000)).await.expect("dead_letters").letters
}

/// Those of the dead letters that hold their keys.
async fn holding<H: Harness>(h: &Arc<H>) -> Vec<EventId>
where
    H::Store: DeadLetterStore,
{
    dead(h).await.iter().filter(|letter| letter.holds_key).map(|letter| letter.id).collect()
}

/// Claims so many, of which the first is set aside and holds its key, and the others are given back.
async fn held<H: Harness>(h: &Arc<H>, limit: usize) -> EventId
where
    H::Store: ClaimStore,
{
    let leased = claim(h, limit).await;
    let first = leased.first().expect("an event").lease;
    let back = leased[1..].iter().map(|leased| Settlement::released(leased.lease));
    settled(h, std::iter::once(Settlement::dead_letter_holding_key(first, "broken")).chain(back)).await;
    first.event()
}

/// 8.4: nobody is handed another event of a key that a dead letter holds, whatever happens beside; other keys and
/// events without one are not held up.
pub async fn a_held_key_waits_and_no_other_does<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let (a, b, free) = (of_key("a", 3), vec![keyed("b", "other"), keyed("c", "other")], events(2));
    for all in [&a, &b, &free] {
        save_all(&h, all).await;
    }
    let first = held(&h, 2).await;
    assert_eq!(first, a[0].id());
    let others = [ids(&b), ids(&free)].concat();
    let leased = claim(&h, 10).await;
    assert_eq!(leased_ids(&leased), others);
    settled(&h, leased.iter().map(|one| Settlement::released(one.lease))).await;
    let late = keyed("a", "late");
    save(&h, &late).await;
    let waiting = [a[1].id(), a[2].id(), late.id()];
    for _ in 0..2 {
        // Not even the types make a difference.
        let claimed = Claim::new("another worker").with_types(["suite.happened"]).with_limit(10);
        let leased = h.store().claim(&claimed).await.expect("claim");
        assert_eq!(leased_ids(&leased), others);
        let pending = pending_ids(&h).await;
        assert_eq!(pending, waiting, "pending they are, as behind an event that waits for a retry");
        h.store().acknowledge(first).await.expect("acknowledge");
        assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), 0);
        assert_eq!(holding(&h).await, [first]);
        h.advance(Duration::from_hours(24)).await;
    }
    let leased = claim(&h, 10).await;
    assert_eq!(leased_ids(&leased), others);
    delivered(&h, &leased).await;
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 4));
    assert!(claim(&h, 10).await.is_empty());
    // What was delivered in some other way is gone, and the rest waits on.
    h.store().acknowledge(a[1].id()).await.expect("acknowledge");
    assert!(claim(&h, 10).await.is_empty());
    assert_eq!(pending_ids(&h).await, waiting[1..]);
    assert_eq!(holding(&h).await, [first]);
}

/// 8.2 and 8.4: the dead letter tells of it; one that was not told to hold its key holds nothing.
pub async fn a_dead_letter_says_whether_it_holds_its_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let all = [keyed("a", "holds"), keyed("b", "does not"), event("no key")];
    save_all(&h, &all).await;
    let behind = [keyed("b", "goes on"), event("goes on"), keyed("a", "waits")];
    save_all(&h, &behind).await;
    let leased = claim(&h, 3).await;
    let settlement = |index: usize| match index {
        1 => Settlement::dead_letter(leased[index].lease, "broken"),
        _ => Settlement::dead_letter_holding_key(leased[index].lease, "broken"),
    };
    settled(&h, (0..3).map(settlement)).await;
    let letters = dead(&h).await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.id, letter.holds_key)).collect();
    assert_eq!(told, [(all[0].id(), true), (all[1].id(), false), (all[2].id(), false)]);
    assert!(letters.iter().all(|letter| (letter.attempts, letter.failures) == (1, 1)), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.reason == "broken"), "{letters:?}");
    assert_eq!(drained(&h, 2).await, ids(&behind[..2]));
}

/// 8.3 and 8.4: requeued, it comes first, with fresh attempts, and then what waited for it, in order.
pub async fn a_requeued_event_comes_before_what_waited_for_it<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for all_at_once in [false, true] {
        let mut a = of_key("a", 5);
        save_all(&h, &a).await;
        let first = held(&h, 3).await;
        let late = keyed("a", "late");
        save(&h, &late).await;
        a.push(late);
        assert!(claim(&h, 10).await.is_empty());
        if all_at_once {
            let none = DeadLetterFilter::new().with_type("another.type");
            assert_eq!(h.store().requeue_all(&none).await.expect("requeue_all"), 0);
            assert!(claim(&h, 10).await.is_empty());
            assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), 1);
        } else {
            assert!(h.store().requeue(first).await.expect("requeue"));
        }
        assert!(dead(&h).await.is_empty());
        assert_eq!(pending_ids(&h).await, ids(&a));
        let again = claim(&h, 1).await;
        assert_eq!((leased_ids(&again), again[0].attempts, again[0].failures), (vec![first], 1, 0));
        assert!(claim(&h, 10).await.is_empty(), "one of the key is leased");
        // It fails again, and holds its key again.
        settled(&h, [Settlement::dead_letter_holding_key(again[0].lease, "still broken")]).await;
        assert!(claim(&h, 10).await.is_empty());
        assert!(h.store().requeue(first).await.expect("requeue"));
        assert_eq!(drained(&h, 2).await, ids(&a));
    }
}

/// 8.3 and 8.4: discarded, it holds nothing any more, and what waited for it goes on in order.
pub async fn a_discard_ends_the_hold<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    for all_at_once in [false, true] {
        let mut a = of_key("a", 4);
        save_all(&h, &a).await;
        let first = held(&h, 2).await;
        assert!(claim(&h, 10).await.is_empty());
        let late = keyed("a", "late");
        save(&h, &late).await;
        a.push(late);
        if all_at_once {
            assert_eq!(h.store().discard_all(&DeadLetterFilter::new()).await.expect("discard_all"), 1);
        } else {
            assert!(h.store().discard(first).await.expect("discard"));
        }
        assert!(dead(&h).await.is_empty());
        assert_eq!(drained(&h, 2).await, ids(&a[1..]));
    }
}

/// 8.4: of several that hold one key, it is free when the last is gone.
pub async fn a_key_is_free_when_the_last_that_holds_it_is_gone<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let a = of_key("a", 6);
    save_all(&h, &a).await;
    let Some(leased) = several(&h, &a[..4]).await else { return };
    let hold = |index: usize| Settlement::dead_letter_holding_key(leased[index].lease, "broken");
    settled(&h, [hold(0), hold(1), hold(2), Settlement::released(leased[3].lease)]).await;
    assert_eq!(holding(&h).await, ids(&a[..3]));
    assert!(h.store().requeue(a[1].id()).await.expect("requeue"));
    assert!(claim(&h, 10).await.is_empty(), "two hold it still");
    assert_eq!(holding(&h).await, [a[0].id(), a[2].id()]);
    assert!(h.store().discard(a[0].id()).await.expect("discard"));
    assert!(claim(&h, 10).await.is_empty(), "one holds it still");
    assert_eq!(pending_ids(&h).await, [a[1].id(), a[3].id(), a[4].id(), a[5].id()]);
    assert!(h.store().requeue(a[2].id()).await.expect("requeue"));
    assert_eq!(drained(&h, 2).await, ids(&a[1..]));
}

/// 7.5 and 8.4: a lease on an event of the key is a lease as before; once it ran out, that event waits too.
pub async fn leases_of_a_held_key_go_on_and_nothing_comes_after_them<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let a = of_key("a", 5);
    save_all(&h, &a).await;
    let Some(leased) = several(&h, &a[..4]).await else { return };
    settled(&h, [Settlement::dead_letter_holding_key(leased[0].lease, "broken")]).await;
    h.advance(LEASE / 2).await;
    let renewed = h.store().renew(&[leased[1].lease, leased[2].lease], LEASE).await.expect("renew");
    assert!(renewed.iter().all(Result::is_ok), "{renewed:?}");
    settled(&h, [Settlement::delivered(leased[1].lease)]).await;
    assert!(claim(&h, 10).await.is_empty());
    // The last one runs out, then the renewed one.
    h.advance(LEASE * 3 / 4).await;
    assert!(claim(&h, 10).await.is_empty());
    settled(&h, [Settlement::retry(leased[2].lease, LEASE, "failed")]).await;
    h.advance(LEASE * 2).await;
    assert!(claim(&h, 10).await.is_empty());
    assert_eq!(holding(&h).await, [a[0].id()]);
    assert!(h.store().discard(a[0].id()).await.expect("discard"));
    let rest = claim(&h, 10).await;
    assert_eq!(leased_ids(&rest), ids(&a[2..]));
    let counts: Vec<_> = rest.iter().map(|one| (one.attempts, one.failures)).collect();
    assert_eq!(counts, [(2, 1), (2, 0), (1, 0)]);
}

/// 7.9 and 8.4: many held keys with many events behind them hold up no other, and are all free in the end.
pub async fn many_held_keys_hold_up_no_other<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    const KEYS: usize = 150;
    let first: Vec<Event> = (0..KEYS).map(|key| keyed(&key.to_string(), "first")).collect();
    save_all(&h, &first).await;
    let leased = claim(&h, KEYS).await;
    assert_eq!(leased_ids(&leased), ids(&first));
    settled(&h, leased.iter().map(|one| Settlement::dead_letter_holding_key(one.lease, "broken"))).await;
    let behind: Vec<Event> =
        (0..20 * KEYS).map(|index| keyed(&(index % KEYS).to_string(), &index.to_string())).collect();
    save_all(&h, &behind).await;
    let free = events(10);
    save_all(&h, &free).await;
    for one in &free {
        let leased = claim(&h, 1).await;
        assert_eq!(leased_ids(&leased), [one.id()]);
        delivered(&h, &leased).await;
    }
    assert!(claim(&h, 100).await.is_empty());
    assert!(h.store().discard(first[0].id()).await.expect("discard"));
    let of_first: Vec<EventId> = ids(&behind).into_iter().step_by(KEYS).collect();
    assert_eq!(drained(&h, 2).await, of_first);
    assert_eq!(h.store().requeue_all(&DeadLetterFilter::new()).await.expect("requeue_all"), KEYS as u64 - 1);
    let mut next: HashMap<String, Vec<EventId>> = HashMap::new();
    let all = first[1..].iter().chain(behind.iter().filter(|one| one.partition_key() != Some("0")));
    for one in all {
        next.entry(one.partition_key().expect("a key").to_owned()).or_default().insert(0, one.id());
    }
    let mut left = 21 * (KEYS - 1);
    while left > 0 {
        let leased = claim(&h, 500).await;
        assert!(!leased.is_empty(), "{left} are forgotten");
        for one in &leased {
            let key = one.event.partition_key().expect("a key");
            assert_eq!(next.get_mut(key).and_then(Vec::pop), Some(one.event.id()), "the order of key {key}");
        }
        delivered(&h, &leased).await;
        left -= leased.len();
    }
}

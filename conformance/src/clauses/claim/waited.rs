//! Keys that wait for a retry, and keys that have waited.

use std::{sync::Arc, time::Duration};

use outbox_traits::{Claim, ClaimStore, DeadLetterStore, Event, OutboxStore, Settlement};

use super::{
    LEASE, assert_in_order, claim, delivered, drained, keyed, keys::all_delivered, leased_ids, of_key,
    settle_all, settle_all_by, settled,
};
use crate::{
    Harness,
    support::{event, events, ids, pending_ids, save, save_all},
};

/// 7.3: while an event waits for a retry, the later ones of its key wait too, and no others.
pub async fn a_key_waits_while_one_of_its_events_waits_for_a_retry<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let (a, b) = (of_key("a", 3), [keyed("b", "other"), keyed("c", "other")]);
    save_all(&h, &a).await;
    save_all(&h, &b).await;
    let first = claim(&h, 2).await;
    settled(
        &h,
        [
            Settlement::retry(first[0].lease, Duration::from_secs(60), "broken pipe"),
            Settlement::released(first[1].lease),
        ],
    )
    .await;
    let others = claim(&h, 10).await;
    assert_eq!(leased_ids(&others), ids(&b));
    assert!(!pending_ids(&h).await.contains(&a[0].id()), "it is not due");
    h.advance(Duration::from_secs(59)).await;
    // The leases of the others have run out by now.
    assert_eq!(leased_ids(&claim(&h, 10).await), ids(&b));
    h.advance(Duration::from_secs(2)).await;
    let again = settle_all_by(h.store(), 10, Settlement::delivered).await;
    assert_eq!(leased_ids(&again), ids(&a), "the one that failed comes first again");
    assert_eq!((again[0].attempts, again[0].failures), (2, 1));
    assert_eq!((again[1].attempts, again[1].failures), (1, 0), "released, it costs no attempt");
}

/// 7.3: of the many events of a key that have waited none is passed over for one that was saved later.
pub async fn many_events_of_a_key_that_has_waited_come_before_a_later_one<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let (mut many, one) = (of_key("many", 700), keyed("one", "one"));
    let dead = keyed("many", "dead");
    save(&h, &dead).await;
    let leased = claim(&h, 1).await;
    settled(&h, [Settlement::dead_letter(leased[0].lease, "broken")]).await;
    save_all(&h, &many).await;
    save(&h, &one).await;
    for waits in [many[0].id(), one.id()] {
        let leased = claim(&h, 1).await;
        assert_eq!(leased_ids(&leased), [waits]);
        settled(&h, [Settlement::retry(leased[0].lease, LEASE, "down")]).await;
    }
    assert!(claim(&h, 10).await.is_empty(), "both keys wait");
    h.advance(LEASE * 2).await;
    many.push(keyed("many", "late"));
    save(&h, &many[700]).await;
    // It takes its old place.
    assert!(h.store().requeue(dead.id()).await.expect("requeue"));
    many.insert(0, dead);
    let mut order = all_delivered(&h, many.len() + 1).await;
    order.retain(|id| *id != one.id());
    assert_eq!(order, ids(&many));
}

/// 7.1 and 7.3: what a claim leaves of keys that have waited, because of its limit or its types, comes next.
pub async fn what_a_claim_leaves_of_keys_that_have_waited_comes_next<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for limit in 1..=6 {
        let [one, other, last] =
            [("one", 2), ("other", 1), ("last", 2)].map(|(key, count)| of_key(key, count));
        let all = [&one[..], &other, &last].concat();
        save_all(&h, &all).await;
        let first = settle_all(&h, all.len(), |lease| Settlement::retry(lease, LEASE, "later")).await;
        h.advance(LEASE * 2).await;
        let of_none = Claim::new("a worker").with_types(["none.of.these"]);
        assert!(h.store().claim(&of_none).await.expect("claim").is_empty());
        let next = drained(&h, limit).await;
        // One that takes several of a key has met all of them before.
        if first == ids(&all) {
            assert_eq!(next, first, "{limit} at a time");
        }
        assert_in_order(&next, &[&one, &other, &last]);
    }
}

/// 7.9: many keys that wait for a retry hold up no other, and all of them come when they are due.
pub async fn many_waiting_keys_hold_up_no_other<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const KEYS: usize = 600;
    let waiting: Vec<_> =
        (0..2 * KEYS).map(|index| keyed(&format!("key {}", index % KEYS), &format!("{index}"))).collect();
    save_all(&h, &waiting).await;
    let leased = claim(&h, KEYS).await;
    assert_eq!(leased_ids(&leased), ids(&waiting[..KEYS]));
    settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, LEASE * 100, "down"))).await;
    let free = events(20);
    save_all(&h, &free).await;
    let mut claimed = Vec::new();
    for _ in 0..200 {
        claimed.extend(leased_ids(&claim(&h, 5).await));
        if claimed.len() == free.len() {
            break;
        }
    }
    assert_eq!(claimed, ids(&free));
    h.advance(LEASE * 101).await;
    h.store().acknowledge_all(&claimed).await.expect("acknowledge_all");
    let mut position = std::collections::HashMap::new();
    let mut count = 0;
    while count < waiting.len() {
        let leased = claim(&h, 250).await;
        assert!(!leased.is_empty(), "{} are forgotten", waiting.len() - count);
        for one in &leased {
            position.insert(one.event.id(), count);
            count += 1;
        }
        delivered(&h, &leased).await;
    }
    for index in 0..KEYS {
        let (first, second) = (waiting[index].id(), waiting[index + KEYS].id());
        assert!(position[&first] < position[&second], "the order of a key is lost");
    }
}

/// 7.1 and 7.4: what nothing is in the way of, one claim finds, whatever waits before it: many events of one key, or of many.
pub async fn one_claim_finds_what_comes_after_many_that_wait<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const BEHIND: usize = 9000;
    for keys in [1, 600] {
        let key = |index: usize| format!("key {} of {keys}", index % keys);
        let first: Vec<Event> = (0..keys).map(|index| keyed(&key(index), "first")).collect();
        save_all(&h, &first).await;
        let leased = claim(&h, keys).await;
        assert_eq!(leased_ids(&leased), ids(&first));
        settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, LEASE * 100, "down"))).await;
        let behind: Vec<Event> = (0..BEHIND).map(|index| keyed(&key(index), "behind")).collect();
        for batch in behind.chunks(1000) {
            save_all(&h, batch).await;
        }
        let free = event("free");
        save(&h, &free).await;
        let found = claim(&h, 10).await;
        assert_eq!(leased_ids(&found), [free.id()], "behind {BEHIND} events of {keys} keys that wait");
        delivered(&h, &found).await;
    }
}

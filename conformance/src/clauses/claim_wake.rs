//! Section 9.2 for what can be claimed again.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ClaimStore, DeadLetterFilter, DeadLetterStore, EventId, Lease, Settlement, WakeStore};
use tokio::time::{sleep, timeout};

use super::{
    claim::{claim, drained, keyed, settled},
    wake::{FEW, calm, listen, wakeups_within},
};
use crate::{
    WakeHarness, patience,
    support::{save, save_all},
};

/// An event of a key that has died, and one behind it.
async fn dead<H: WakeHarness>(h: &Arc<H>, settlement: fn(Lease) -> Settlement) -> (EventId, EventId)
where
    H::Store: ClaimStore,
{
    let first = keyed("key", "first");
    save(h, &first).await;
    let leased = claim(h, 1).await;
    settled(h, [settlement(leased[0].lease)]).await;
    let behind = keyed("key", "behind");
    save_all(h, std::slice::from_ref(&behind)).await;
    (first.id(), behind.id())
}

/// 9.2: a dead letter that was requeued wakes, through whatever handle, and so does a discard that frees its key.
pub async fn what_can_be_claimed_again_wakes<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore + ClaimStore + DeadLetterStore,
{
    let mut listener = listen(&h).await;
    let (peer, all) = (h.peer().await, DeadLetterFilter::new());
    // A store that hears of others by looking for what is new cannot see a discard.
    let all_ways = [(true, true), (false, true), (true, false), (false, false)];
    for (by, store, ways) in
        [("its own handle", h.store(), &all_ways[..]), ("another", &peer, &all_ways[..2])]
    {
        for &(is_alone, requeues) in ways {
            let holds = |lease| Settlement::dead_letter_holding_key(lease, "broken");
            let (first, behind) = dead(&h, holds).await;
            assert!(claim(&h, 10).await.is_empty(), "the key is held");
            calm(&mut listener).await;
            match (is_alone, requeues) {
                (true, true) => assert!(store.requeue(first).await.expect("requeue")),
                (true, false) => assert!(store.discard(first).await.expect("discard")),
                (false, true) => assert_eq!(store.requeue_all(&all).await.expect("requeue_all"), 1),
                (false, false) => assert_eq!(store.discard_all(&all).await.expect("discard_all"), 1),
            }
            let woken = timeout(patience::of_a_wakeup(), listener.wait()).await;
            assert!(woken.is_ok(), "nobody is woken: alone {is_alone}, requeued {requeues}, by {by}");
            let next = drained(&h, 10).await;
            assert_eq!(next, if requeues { vec![first, behind] } else { vec![behind] });
        }
    }
}

/// 9.2: what is done to dead letters wakes nobody all the time where there are none, though somebody does it again and again.
pub async fn what_finds_no_dead_letter_wakes_nobody<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore + DeadLetterStore,
{
    const TIMES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(30);
    let mut listener = listen(&h).await;
    let all = DeadLetterFilter::new();
    for requeues in [true, false] {
        for is_alone in [true, false] {
            calm(&mut listener).await;
            let calls = async {
                for _ in 0..TIMES {
                    let id = EventId::new();
                    let changed = match (is_alone, requeues) {
                        (true, true) => h.store().requeue(id).await.map(u64::from),
                        (true, false) => h.store().discard(id).await.map(u64::from),
                        (false, true) => h.store().requeue_all(&all).await,
                        (false, false) => h.store().discard_all(&all).await,
                    };
                    assert_eq!(changed.expect("a call about nothing"), 0);
                    sleep(PAUSE).await;
                }
            };
            let a_while = PAUSE * TIMES;
            let ((), wakeups) = tokio::join!(calls, wakeups_within(a_while, &mut listener));
            assert!(wakeups <= FEW, "woken {wakeups} times: alone {is_alone}, requeued {requeues}");
        }
    }
}

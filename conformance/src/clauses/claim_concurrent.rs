//! Claims while sessions are open that have written. An engine with one writer leaves this group out, as it does
//! `concurrent`.

use std::sync::Arc;

use outbox_traits::{ClaimStore, Event, OutboxStore};

use super::claim::{claim, claim_soon, delivered, drained, keyed, leased_ids, of_a_worker};
use crate::{
    Harness,
    support::{event, ids, save, save_all},
};

/// Without a key, and with the same one.
fn variants<const N: usize>(names: [&str; N]) -> [Vec<Event>; 2] {
    let events: Vec<Event> = names.map(event).into();
    let keyed = names.map(|name| event(name).with_partition_key("k"));
    [events, keyed.into()]
}

/// 3.3: a transaction held open for long delays no claim of what others have committed.
pub async fn a_long_transaction_delays_no_claim_of_others<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for all in variants(["slow", "quick", "quick, in a session"]) {
        let mut long = h.begin().await;
        h.write_row("slow", h.session(&mut long)).await;
        h.store().save_in_session(&all[0], h.session(&mut long)).await.expect("save_in_session");
        save(&h, &all[1]).await;
        let mut short = h.begin().await;
        h.store().save_in_session(&all[2], h.session(&mut short)).await.expect("save_in_session");
        h.commit(short).await;
        assert_eq!(drained(&h, 10).await, ids(&all[1..]));
        h.rollback(long).await;
        assert!(claim(&h, 10).await.is_empty());
    }
}

/// 3.1: no event is ever passed over by claims because another, saved later, was committed and claimed first.
pub async fn claims_do_not_skip_an_event_that_commits_late<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for all in variants(["late", "early"]) {
        let mut first = h.begin().await;
        h.store().save_in_session(&all[0], h.session(&mut first)).await.expect("save_in_session");
        let mut second = h.begin().await;
        h.store().save_in_session(&all[1], h.session(&mut second)).await.expect("save_in_session");
        h.commit(second).await;
        let early = claim(&h, 10).await;
        assert_eq!(leased_ids(&early), [all[1].id()]);
        delivered(&h, &early).await;
        assert!(claim(&h, 10).await.is_empty());
        h.commit(first).await;
        let late = claim(&h, 10).await;
        assert_eq!(leased_ids(&late), [all[0].id()]);
        delivered(&h, &late).await;
    }
}

/// 3.1: also where claims have come past the many events of a busy key that were saved after it, an event that commits late comes
/// before what is saved then of its key.
pub async fn what_commits_late_in_front_of_a_busy_key_is_not_overtaken<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let [late, last] = ["late", "last"].map(|name| keyed("k", name));
    let hot: Vec<Event> = (0..6000).map(|index| keyed("hot", &index.to_string())).collect();
    let mut open = h.begin().await;
    h.store().save_in_session(&late, h.session(&mut open)).await.expect("save_in_session");
    save_all(&h, &hot).await;
    let blocking = claim(&h, 1).await;
    assert_eq!(leased_ids(&blocking), [hot[0].id()]);
    for _ in 0..2 {
        assert!(claim(&h, 10).await.is_empty(), "the key is busy");
    }
    h.commit(open).await;
    save(&h, &last).await;
    for next in [late, last] {
        let leased = claim_soon(h.store(), &of_a_worker(1)).await;
        assert_eq!(leased_ids(&leased), [next.id()]);
        delivered(&h, &leased).await;
    }
    assert!(claim(&h, 10).await.is_empty(), "the key is busy");
    delivered(&h, &blocking).await;
}

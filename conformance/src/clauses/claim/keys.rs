//! The order of each partition key, and nobody held up by another's.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::TimeDelta;
use outbox_traits::{Claim, ClaimStore, DeadLetterStore, Event, EventId, Saved, Settlement};
use serde_json::json;

use super::{
    LEASE, assert_first_of, assert_in_order, assert_lost, claim, claim_as, claim_soon, delivered, drained,
    keyed, leased_ids, of_a_worker, of_key, settle, settled, several,
};
use crate::{
    Harness,
    support::{IN_SESSION, acknowledge, event, events, ids, pending_ids, save, save_all, saved_all_by},
};

/// 7.3: while an event of a key is leased, no other of that key is handed to anyone; one claim may take several.
pub async fn a_key_waits_while_one_of_its_events_is_leased<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let a = of_key("a", 4);
    let b = of_key("b", 1);
    save_all(&h, &a).await;
    let first = claim(&h, 2).await;
    assert_first_of(&first, &ids(&a[..2]));
    save_all(&h, &b).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [b[0].id()], "the key of another is not held up");
    for one in first.chunks(1) {
        assert!(claim(&h, 10).await.is_empty(), "one of the key is still leased");
        delivered(&h, one).await;
    }
    assert_eq!(drained(&h, 10).await, ids(&a[first.len()..]));
}

/// 7.3: so it is with events that were saved in a caller's session, one by one or as a batch.
pub async fn a_key_waits_for_an_event_that_was_saved_in_a_session<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for way in IN_SESSION {
        let all = of_key("k", 2);
        assert_eq!(saved_all_by(&h, &all, way).await.expect("save"), [Saved::Stored; 2]);
        let first = claim(&h, 1).await;
        assert_eq!(leased_ids(&first), [all[0].id()]);
        assert!(claim(&h, 10).await.is_empty(), "one of the key is leased");
        delivered(&h, &first).await;
        assert_eq!(drained(&h, 10).await, [all[1].id()]);
    }
}

/// 7.3: and with one that was hidden until a time, whether it was saved before the one that is leased or after it.
pub async fn a_hidden_event_waits_for_its_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for is_first in [true, false] {
        let until = h.now().await + TimeDelta::seconds(60);
        let (hidden, due) = (keyed("k", "hidden").with_not_before(until), keyed("k", "due"));
        let mut all = [due.clone(), hidden.clone()];
        if is_first {
            all.reverse();
        }
        save_all(&h, &all).await;
        let long = Claim::new("a worker").with_lease(Duration::from_secs(300));
        let leased = h.store().claim(&long).await.expect("claim");
        assert_eq!(leased_ids(&leased), [due.id()]);
        h.advance(Duration::from_secs(61)).await;
        assert!(claim(&h, 10).await.is_empty(), "one of the key is leased");
        delivered(&h, &leased).await;
        let shown = claim(&h, 10).await;
        assert_eq!(leased_ids(&shown), [hidden.id()]);
        delivered(&h, &shown).await;
    }
}

/// 3.1 and 7.1: however an earlier event of a key comes back beside a later one that has waited, it comes first, however
/// little a claim asks for.
pub async fn an_earlier_event_comes_back_before_a_later_one_of_its_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    // Given back, while the later one waits.
    let all = of_key("given back", 2);
    save_all(&h, &all).await;
    if let Some(leased) = several(&h, &all).await {
        settled(&h, [Settlement::released(leased[0].lease)]).await;
        settled(&h, [Settlement::retry(leased[1].lease, Duration::ZERO, "failed")]).await;
    }
    assert_eq!(drained(&h, 1).await, ids(&all), "one was given back");

    // Its lease runs out, and that of the later one does not.
    let all = of_key("ran out", 2);
    save_all(&h, &all).await;
    if let Some(leased) = several(&h, &all).await {
        let renewed = h.store().renew(&[leased[1].lease], LEASE * 10).await.expect("renew");
        renewed[0].as_ref().expect("it is held");
        h.advance(LEASE * 2).await;
        settled(&h, [Settlement::retry(leased[1].lease, Duration::ZERO, "failed")]).await;
    }
    assert_eq!(drained(&h, 1).await, ids(&all), "a lease has run out");

    // Hidden until a time, when others of its key have been tried. With that many, a claim reads not all of them.
    for count in [2, 40] {
        let mut all = of_key("hidden", count);
        all[0] = all[0].clone().with_not_before(h.now().await + LEASE);
        save_all(&h, &all).await;
        let leased = claim(&h, 100).await;
        assert_first_of(&leased, &ids(&all[1..]));
        let ends = leased[1..].iter().map(|one| Settlement::released(one.lease));
        let first = Settlement::retry(leased[0].lease, LEASE, "failed");
        settled(&h, [first].into_iter().chain(ends)).await;
        h.advance(LEASE * 2).await;
        assert_eq!(drained(&h, 1).await, ids(&all), "one of {count} was hidden");
    }
}

/// 3.1 and 7.1: so it does where claims leave both to the next one, behind the events of a key that was leased only just now.
pub async fn what_comes_back_behind_a_lease_that_has_just_begun_keeps_its_order<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    const OTHER: &str = "suite.other";
    let of_type = |wanted: &str| Claim::new("a worker").with_types([wanted]).with_limit(1).with_lease(LEASE);
    let busy = of_key("busy", 600);
    let other = |index: usize| Event::new(OTHER, json!({ "name": index })).expect("valid");
    let mut all = [0, 1, 2].map(|index| other(index).with_partition_key("key"));
    all[0] = all[0].clone().with_not_before(h.now().await + LEASE);
    save_all(&h, &busy).await;
    save_all(&h, &all).await;
    let failed = h.store().claim(&of_type(OTHER)).await.expect("claim");
    assert_eq!(leased_ids(&failed), [all[1].id()], "the first of the key is hidden");
    settled(&h, [Settlement::retry(failed[0].lease, LEASE, "failed")]).await;
    h.advance(LEASE * 2).await;
    let first = h.store().claim(&of_type("suite.happened")).await.expect("claim");
    assert_eq!(leased_ids(&first), [busy[0].id()]);
    let next = claim(&h, 10).await;
    assert!(
        ids(&all).starts_with(&leased_ids(&next)),
        "an earlier event of the key was passed over: {next:?}"
    );
    settled(&h, next.iter().chain(&first).map(|one| Settlement::released(one.lease))).await;
    let came = drained(&h, 100).await;
    // One that takes several of a key has come to the end of the first before the other.
    if came.get(1) == Some(&busy[1].id()) {
        assert_eq!(came, [ids(&busy), ids(&all)].concat());
    }
    assert_in_order(&came, &[&busy, &all]);
}

/// 3.1 and 7.1: what is given back in front of the many events of a busy key, which claims have come past, comes before what is
/// behind them of its own key.
pub async fn what_comes_back_in_front_of_a_busy_key_keeps_its_order<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let (hot, both) = (of_key("hot", 6000), of_key("both", 3));
    save(&h, &both[0]).await;
    save_all(&h, &hot).await;
    save_all(&h, &both[1..]).await;
    let mut first = claim(&h, 1).await;
    assert_eq!(leased_ids(&first), [both[0].id()]);
    let blocking = claim(&h, 1).await;
    assert_eq!(leased_ids(&blocking), [hot[0].id()]);
    for round in 0..8 {
        // As it may put some of them aside each time.
        for _ in 0..=round % 3 {
            assert!(claim(&h, 10).await.is_empty(), "both keys are busy");
        }
        settled(&h, [Settlement::released(first[0].lease)]).await;
        first = claim(&h, 1).await;
        assert_eq!(leased_ids(&first), [both[0].id()], "round {round}: it was overtaken");
    }
    delivered(&h, &first).await;
    assert_eq!(drained(&h, 10).await, ids(&both[1..]));
    // The key itself too, once it is free.
    let behind = event("behind");
    save(&h, &behind).await;
    delivered(&h, &blocking).await;
    let next = claim(&h, 1).await;
    assert_eq!(leased_ids(&next), [hot[1].id()], "it was overtaken");
    delivered(&h, &next).await;
    let mut rest = all_delivered(&h, hot.len() - 1).await;
    rest.retain(|id| *id != behind.id());
    assert_eq!(rest, ids(&hot[2..]));
}

/// 7.1: what claims of some types have come past, those of others have not.
pub async fn a_claim_of_some_types_has_come_past_nothing_of_others<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let other = |name: &str| Event::new("suite.other", json!({ "name": name })).expect("valid");
    let (front, behind) = (other("in front").with_partition_key("front"), other("behind"));
    let (hot, cold) = (of_key("hot", 6000), of_key("cold", 1));
    save(&h, &front).await;
    save_all(&h, &hot).await;
    save_all(&h, &cold).await;
    save(&h, &behind).await;
    for expected in [&hot[0], &cold[0], &front, &behind] {
        let wanted = [expected.event_type()];
        let request = Claim::new("a worker").with_types(wanted).with_limit(1).with_lease(LEASE * 10);
        assert_eq!(leased_ids(&claim_soon(h.store(), &request).await), [expected.id()]);
    }
}

/// 7.4: a key of no characters is a key.
pub async fn an_empty_key_is_a_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = [keyed("", "one"), keyed("", "two"), event("without")];
    save_all(&h, &all).await;
    assert_eq!(leased_ids(&claim(&h, 1).await), [all[0].id()]);
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[2].id()], "the second of the key waits for the first");
}

/// 7.4: events without a key do not wait for one another.
pub async fn events_without_a_key_do_not_wait_for_one_another<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = events(80);
    save_all(&h, &all).await;
    let mut claimed = Vec::new();
    for _ in 0..80 {
        let leased = claim(&h, 1).await;
        claimed.extend(leased_ids(&leased));
        // One of them fails, and the others go on.
        if claimed.len() == 3 {
            settled(&h, [Settlement::retry(leased[0].lease, LEASE * 10, "failed")]).await;
        }
    }
    assert_eq!(claimed, ids(&all));
}

/// 7.3 and 7.4: keys do not wait for one another, however many there are.
pub async fn keys_do_not_wait_for_one_another<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all: Vec<_> = (0..200).map(|index| keyed(&format!("key {index}"), "first")).collect();
    save_all(&h, &all).await;
    let mut claimed = Vec::new();
    while claimed.len() < 200 {
        let leased = claim(&h, 3).await;
        assert!(!leased.is_empty(), "a key waits that has nothing to wait for, after {}", claimed.len());
        claimed.extend(leased_ids(&leased));
    }
    assert_eq!(claimed, ids(&all));
}

/// 7.1 and 7.3: a claim of some types waits for a busy key too, of whatever type the event is that keeps it busy.
pub async fn a_claim_of_some_types_waits_for_busy_keys<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let of_type = |name: &str| Event::new(name, json!(null)).expect("valid");
    let first = of_type("a.x").with_partition_key("k");
    let second = of_type("b.x").with_partition_key("k");
    let others = [of_type("b.x").with_partition_key("another"), of_type("b.x")];
    save_all(&h, &[first.clone(), second]).await;
    save_all(&h, &others).await;
    let busy = claim(&h, 1).await;
    assert_eq!(leased_ids(&busy), [first.id()]);
    let request = Claim::new("a worker").with_types(["b.x"]).with_lease(LEASE);
    assert_eq!(leased_ids(&h.store().claim(&request).await.expect("claim")), ids(&others));
    settled(&h, [Settlement::retry(busy[0].lease, LEASE, "failed")]).await;
    assert!(h.store().claim(&request).await.expect("claim").is_empty(), "the key waits for a retry");
}

/// 7.3: the resource id is the key where there is no other, and the same key as a partition key that is equal.
pub async fn the_resource_id_is_the_key_where_there_is_no_other<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let of = |name: &str| crate::support::event(name).with_resource("order", "o-1");
    let all = [of("one"), of("two"), of("three").with_partition_key("another"), keyed("o-1", "four")];
    save_all(&h, &all).await;
    assert_eq!(leased_ids(&claim(&h, 1).await), [all[0].id()]);
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[2].id()]);
}

/// 7.3 and 7.4: keys are compared exactly: what differs by its case, a space, its form in Unicode or its end alone is another key,
/// and waits for nobody.
pub async fn partition_keys_are_compared_exactly<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let long = "k".repeat(2000);
    let (long_a, long_b) = (format!("{long}a"), format!("{long}b"));
    let keys = [
        "Key",
        "key",
        "key ",
        " key",
        "kéy",
        "ke\u{301}y",
        "KEY",
        "key\n",
        "straße",
        "strasse",
        "1",
        "01",
        "1.0",
        "null",
        "",
        &long,
        &long_a,
        &long_b,
    ];
    let of = |name: &str| keys.iter().map(|key| keyed(key, name)).collect::<Vec<Event>>();
    let (first, second) = (of("first"), of("second"));
    save_all(&h, &first).await;
    save_all(&h, &second).await;
    // One of each key, and then none: whatever one waits for, the others do not.
    let mut leased = Vec::new();
    for _ in &keys {
        leased.extend(claim(&h, 1).await);
    }
    assert_eq!(leased_ids(&leased), ids(&first), "one key is taken for another");
    assert!(claim(&h, 100).await.is_empty(), "the keys are busy");
    let outcome = |(index, lease)| match index % 3 {
        0 => Settlement::retry(lease, LEASE * 100, "failed"),
        1 => Settlement::dead_letter_holding_key(lease, "failed"),
        _ => Settlement::delivered(lease),
    };
    settled(&h, leased.iter().map(|one| one.lease).enumerate().map(outcome)).await;
    let free: Vec<EventId> = ids(&second).into_iter().skip(2).step_by(3).collect();
    assert_eq!(leased_ids(&claim(&h, 100).await), free, "a key waits for another");
}

/// 7.3: an event that is saved while its key is leased or waits is handed out after it, and not forgotten.
pub async fn an_event_saved_while_its_key_is_busy_comes_after<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = of_key("a", 4);
    save(&h, &all[0]).await;
    let first = claim(&h, 10).await;
    save(&h, &all[1]).await;
    assert!(claim(&h, 10).await.is_empty());
    settled(&h, [Settlement::retry(first[0].lease, Duration::from_secs(60), "failed")]).await;
    save(&h, &all[2]).await;
    assert!(claim(&h, 10).await.is_empty());
    h.advance(Duration::from_secs(61)).await;
    let again = claim(&h, 1).await;
    assert_eq!(leased_ids(&again), [all[0].id()]);
    save(&h, &all[3]).await;
    assert!(claim(&h, 10).await.is_empty());
    delivered(&h, &again).await;
    assert_eq!(drained(&h, 10).await, ids(&all[1..]));
}

/// 7.5: the events of a lease that ran out come before the later ones of their key.
pub async fn a_key_keeps_its_order_when_a_lease_runs_out<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = of_key("a", 5);
    save_all(&h, &all).await;
    let first = claim(&h, 3).await;
    assert_first_of(&first, &ids(&all[..3]));
    assert!(claim(&h, 10).await.is_empty());
    delivered(&h, &first[..1]).await;
    h.advance(LEASE * 2).await;
    assert_first_of(&claim(&h, 2).await, &ids(&all[1..3]));
    assert!(claim(&h, 10).await.is_empty());
    h.advance(LEASE * 2).await;
    assert_eq!(drained(&h, 10).await, ids(&all[1..]));
}

/// 7.3 and 7.9: a busy key with many events behind it holds up no other; free again, its events come in order.
pub async fn a_busy_key_with_many_events_holds_up_no_other<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let hot = of_key("hot", 6000);
    let cold: Vec<_> = (0..60).map(|index| keyed(&format!("cold {}", index % 10), "cold")).collect();
    save_all(&h, &hot).await;
    save_all(&h, &cold).await;
    let blocking = claim(&h, 1).await;
    assert_eq!(leased_ids(&blocking), [hot[0].id()]);
    let mut claimed: Vec<EventId> = Vec::new();
    for round in 0..600 {
        if round == 3 {
            // Leased at first, and then it waits for a retry.
            settled(&h, [Settlement::retry(blocking[0].lease, LEASE * 100, "down")]).await;
        }
        let leased = claim(&h, 10).await;
        delivered(&h, &leased).await;
        claimed.extend(leased_ids(&leased));
        if claimed.len() == cold.len() {
            break;
        }
    }
    assert_eq!(claimed.iter().collect::<HashSet<_>>(), ids(&cold).iter().collect(), "the others are held up");
    assert_eq!(pending_ids(&h).await, ids(&hot[1..]), "those behind it are pending");
    h.advance(LEASE * 101).await;
    assert_eq!(all_delivered(&h, hot.len()).await, ids(&hot));
}

/// Claims so many events and delivers them. Returns them as they came.
pub(super) async fn all_delivered<H: Harness>(h: &Arc<H>, count: usize) -> Vec<EventId>
where
    H::Store: ClaimStore,
{
    let mut order = Vec::new();
    while order.len() < count {
        let leased = claim(h, 1000).await;
        assert!(!leased.is_empty(), "{} are forgotten", count - order.len());
        delivered(h, &leased).await;
        order.extend(leased_ids(&leased));
    }
    order
}

/// 7.3: a key waits no more for a retry of what is acknowledged, nor for a lease on it.
pub async fn an_acknowledgement_frees_the_key_that_waits_for_its_event<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let all = of_key("k", 4);
    save_all(&h, &all).await;
    let leased = claim(&h, 1).await;
    settled(&h, [Settlement::retry(leased[0].lease, LEASE * 100, "down")]).await;
    assert!(claim(&h, 10).await.is_empty(), "the key waits");
    acknowledge(&h, all[0].id()).await;
    // It is free, and then leased: an acknowledgement that comes once more changes nothing of that.
    let second = claim(&h, 1).await;
    assert_eq!(leased_ids(&second), [all[1].id()]);
    acknowledge(&h, all[0].id()).await;
    assert!(claim(&h, 10).await.is_empty(), "the key is leased");
    delivered(&h, &second).await;
    assert_eq!(leased_ids(&claim(&h, 1).await), [all[2].id()]);
    assert!(claim(&h, 10).await.is_empty(), "the key is leased");
    acknowledge(&h, all[2].id()).await;
    assert_eq!(leased_ids(&claim(&h, 10).await), [all[3].id()]);
}

/// 7.5: also where it meets the claim of that event in the same moment, whichever is first, while others are leased.
pub async fn an_acknowledgement_that_meets_a_claim_frees_the_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    save(&h, &event("leased")).await;
    // All the time, however busy the machine is.
    let other = claim_as(h.store(), &of_a_worker(1).with_lease(LEASE * 100)).await;
    for round in 0..60 {
        let both = of_key(&format!("key {round}"), 2);
        save_all(&h, &both).await;
        let (acknowledging, first) = (Arc::clone(&h), both[0].id());
        let acknowledging = tokio::spawn(async move {
            // Sooner and later.
            tokio::time::sleep(Duration::from_micros(200 * round)).await;
            acknowledge(&acknowledging, first).await;
        });
        let leased = claim(&h, 1).await;
        acknowledging.await.expect("acknowledge");
        assert_eq!(leased.len(), 1, "one of the two is there all the time");
        let second = if leased[0].event.id() == both[1].id() {
            leased
        } else {
            assert_eq!(leased_ids(&leased), [first]);
            let second = claim(&h, 10).await;
            let late = [Settlement::delivered(leased[0].lease)];
            assert_lost(&settle(&h, &late).await[0], &leased[0].lease);
            second
        };
        assert_eq!(leased_ids(&second), [both[1].id()], "the key waits for nothing");
        delivered(&h, &second).await;
    }
    delivered(&h, &other).await;
}

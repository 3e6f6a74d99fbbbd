//! Section 7, one message at a time: each call is held up before each of its messages in turn, and another one is made
//! meanwhile, as by a process that is quicker. What the first has seen before it was held up may not be so any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use outbox_traits::{
    Claim, ClaimStore, DeadLetterStore, Event, EventId, Lease, Leased, OutboxStore, Settlement,
};

use super::{
    claim::{LEASE, claim, delivered, keyed, leased_ids, settled},
    outage::Away,
};
use crate::{
    OutageHarness,
    support::{acknowledge, acknowledge_all, ids, pending_ids, save_all},
};

/// Of the lease that does not run out by itself.
const LONG: Duration = Duration::from_secs(3600);
/// More than there are events.
const ALL: usize = 50;

/// Events of several keys, in their order, of which each first one is in another state.
struct Scene {
    /// Leased, by [`lease`](Self::lease).
    held: [Event; 3],
    /// Its lease has run out.
    expired: [Event; 2],
    /// It has failed, and is ready to be tried again.
    failed: [Event; 2],
    /// A dead letter that holds the key.
    dead: [Event; 2],
    free: [Event; 2],
    /// It was hidden, and its time has come.
    due: [Event; 2],
    lease: Lease,
    /// How often events were handed out, but for what was given back.
    handed_out: HashMap<EventId, u32>,
    /// What is delivered, or a dead letter, or discarded.
    ended: HashSet<EventId>,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Claim,
    /// After a time in which all leases run out.
    ClaimLate,
    Fetch,
    Renew,
    Deliver,
    Retry,
    Release,
    Bury,
    AcknowledgeHeld,
    AcknowledgeFailed,
    AcknowledgeFree,
    Requeue,
    Discard,
}

/// What came of a call.
enum Done {
    Claimed(Vec<Leased>),
    /// Whether it took.
    Answered(bool),
}

use Call::{
    AcknowledgeFailed, AcknowledgeFree, AcknowledgeHeld, Bury, ClaimLate, Deliver, Discard, Fetch, Release,
    Renew, Requeue, Retry,
};

impl Scene {
    async fn set<H: OutageHarness>(h: &Arc<H>) -> Self
    where
        H::Store: ClaimStore,
    {
        let two = |key: &str| ["first", "second"].map(|name| keyed(key, name));
        let held = ["first", "second", "third"].map(|name| keyed("held", name));
        let (expired, failed, dead, free) = (two("expired"), two("failed"), two("dead"), two("free"));
        let mut due = two("due");
        due[0] = due[0].clone().with_not_before(h.now().await - LEASE);
        save_all(h, &held[..1]).await;
        let long = Claim::new("a worker").with_limit(ALL).with_lease(LONG);
        let lease = h.store().claim(&long).await.expect("claim")[0].lease;
        save_all(h, &expired[..1]).await;
        assert_eq!(leased_ids(&claim(h, ALL).await), [expired[0].id()]);
        save_all(h, &[failed[0].clone(), dead[0].clone()]).await;
        let tried = claim(h, ALL).await;
        let ends = [
            Settlement::retry(tried[0].lease, Duration::ZERO, "once"),
            Settlement::dead_letter_holding_key(tried[1].lease, "for ever"),
        ];
        settled(h, ends).await;
        h.advance(LEASE * 2).await;
        let rest = [&held[1..], &expired[1..], &failed[1..], &dead[1..], &free, &due].concat();
        save_all(h, &rest).await;
        let handed_out = [&held[0], &expired[0], &failed[0]].map(|event| (event.id(), 1)).into();
        let ended = HashSet::new();
        Self { held, expired, failed, dead, free, due, lease, handed_out, ended }
    }

    fn keys(&self) -> [&[Event]; 6] {
        [&self.held, &self.expired, &self.failed, &self.dead, &self.free, &self.due]
    }

    /// Which event a call is about, if it is about one.
    fn about(&self, call: Call) -> Option<EventId> {
        let event = match call {
            Call::Claim | ClaimLate | Fetch => return None,
            Renew | Deliver | Retry | Release | Bury | AcknowledgeHeld => &self.held[0],
            AcknowledgeFailed => &self.failed[0],
            AcknowledgeFree => &self.free[0],
            Requeue | Discard => &self.dead[0],
        };
        Some(event.id())
    }

    /// By any handle.
    async fn make<H: OutageHarness>(&self, call: Call, h: &Arc<H>) -> Done
    where
        H::Store: ClaimStore + DeadLetterStore,
    {
        let settlement = match call {
            Call::Claim => return Done::Claimed(claim(h, ALL).await),
            ClaimLate => {
                h.advance(LONG * 2).await;
                return Done::Claimed(claim(h, ALL).await);
            }
            Fetch => {
                pending_ids(h).await;
                return Done::Answered(true);
            }
            Renew => {
                let renewed = h.store().renew(&[self.lease], LONG * 3).await.expect("renew");
                return Done::Answered(renewed[0].is_ok());
            }
            AcknowledgeHeld | AcknowledgeFailed | AcknowledgeFree => {
                let id = self.about(call).expect("an event");
                acknowledge(h, id).await;
                return Done::Answered(true);
            }
            Requeue => {
                return Done::Answered(h.store().requeue(self.dead[0].id()).await.expect("requeue"));
            }
            Discard => {
                return Done::Answered(h.store().discard(self.dead[0].id()).await.expect("discard"));
            }
            Deliver => Settlement::delivered(self.lease),
            Retry => Settlement::retry(self.lease, Duration::ZERO, "again"),
            Release => Settlement::released(self.lease),
            Bury => Settlement::dead_letter(self.lease, "never"),
        };
        Done::Answered(h.store().settle(&[settlement]).await.expect("settle")[0].is_ok())
    }

    /// Notes what a call has done.
    fn note(&mut self, call: Call, done: &Done) {
        match (call, done) {
            (_, Done::Claimed(leased)) => {
                for one in leased {
                    *self.handed_out.entry(one.event.id()).or_default() += 1;
                }
            }
            (Release, Done::Answered(true)) => {
                // It is as if it had never been handed out.
                self.handed_out.entry(self.held[0].id()).and_modify(|count| *count -= 1);
            }
            (
                Deliver | Bury | AcknowledgeHeld | AcknowledgeFailed | AcknowledgeFree | Discard,
                Done::Answered(true),
            ) => {
                self.ended.extend(self.about(call));
            }
            _ => {}
        }
    }

    /// 7.3: none of a key is handed out before an earlier one, unless that is at an end.
    fn assert_order(&self, leased: &[Leased], how: &str) {
        let taken = leased_ids(leased);
        for events in self.keys() {
            let of_key: Vec<EventId> =
                taken.iter().copied().filter(|id| events.iter().any(|event| event.id() == *id)).collect();
            let Some(last) = of_key.last() else { continue };
            let mut due: Vec<EventId> = events.iter().map(Event::id).collect();
            due.truncate(due.iter().position(|id| id == last).expect("it is one of them") + 1);
            due.retain(|id| of_key.contains(id) || !self.ended.contains(id));
            assert_eq!(of_key, due, "{how}: of a key, some were handed out before others, or by themselves");
        }
    }

    /// 7.7: each time that an event was handed out counts, and nothing else.
    fn assert_counts(&self, leased: &[Leased], how: &str) {
        for one in leased.iter().filter(|one| one.event.id() != self.dead[0].id()) {
            let count = self.handed_out.get(&one.event.id()).copied().unwrap_or(0);
            assert_eq!(one.attempts, count, "{how}: it is told to be tried so often: {:?}", one.event);
        }
    }
}

/// Whether it is as if one of the calls had been made after the other, whichever came first.
fn assert_apart(scene: &Scene, calls: [Call; 2], done: [&Done; 2], how: &str) {
    match (calls, done) {
        (_, [Done::Claimed(first), Done::Claimed(second)]) => {
            let keys: HashSet<_> = first.iter().map(|one| one.event.partition_key()).collect();
            let again: Vec<_> =
                second.iter().filter(|one| keys.contains(&one.event.partition_key())).collect();
            assert!(again.is_empty(), "{how}: events of a key were handed out to two: {again:?}");
        }
        ([Retry | Release, ClaimLate], _) => {}
        ([_, ClaimLate], [Done::Answered(took), Done::Claimed(leased)]) => {
            let is_claimed = leased_ids(leased).contains(&scene.held[0].id());
            assert!(!(*took && is_claimed), "{how}: what was settled or renewed was handed out");
        }
        (
            [Deliver | Retry | Release | Bury, Deliver | Retry | Release | Bury]
            | [Requeue | Discard, Requeue | Discard],
            [Done::Answered(first), Done::Answered(second)],
        ) => assert!(first != second, "{how}: of two, one takes: {first}, {second}"),
        _ => {}
    }
}

/// What nothing is in the way of takes: of its event others end nothing by a claim or a renewal.
fn assert_taken(scene: &Scene, all: &[(Call, Done)], how: &str) {
    for (index, (call, done)) in all.iter().enumerate() {
        let mut others =
            all.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, (call, _))| *call);
        let is_free = others.all(|other| {
            matches!(other, Call::Claim | Renew)
                || scene.about(other).is_some_and(|event| scene.about(*call) != Some(event))
        });
        if let Done::Answered(took) = done {
            assert!(*took || !is_free, "{how}: {call:?} did not take");
        }
    }
}

/// A call is held up at each of its messages, while others are made, one after the other.
async fn assert_in_any_order<H: OutageHarness>(h: &Arc<H>, away: &mut Away<H>, call: Call, others: &[Call])
where
    H::Store: ClaimStore + DeadLetterStore,
{
    away.again();
    while away.goes_on().await {
        let how = format!("{others:?} at message {} of {call:?}", away.at);
        let (mut scene, there) = (Scene::set(h).await, Arc::clone(&away.h));
        let meanwhile = async {
            let mut all = Vec::new();
            for other in others {
                all.push(scene.make(*other, h).await);
            }
            all
        };
        let (done, others_done) = away.meet(scene.make(call, &there), meanwhile).await;
        let all: Vec<(Call, Done)> =
            [(call, done)].into_iter().chain(others.iter().copied().zip(others_done)).collect();
        for (call, done) in &all {
            scene.note(*call, done);
        }
        for (other, other_done) in &all[1..] {
            assert_apart(&scene, [call, *other], [&all[0].1, other_done], &how);
        }
        assert_taken(&scene, &all, &how);
        for (_, done) in &all {
            if let Done::Claimed(leased) = done {
                scene.assert_order(leased, &how);
            }
        }
        assert_rest(h, &mut scene, &how).await;
    }
}

/// What is not at an end comes once more, in order, and nothing else does.
async fn assert_rest<H: OutageHarness>(h: &Arc<H>, scene: &mut Scene, how: &str)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    h.advance(LONG * 4).await;
    for round in 0..2 {
        loop {
            let leased = claim(h, ALL).await;
            if leased.is_empty() {
                break;
            }
            let over: Vec<_> = leased.iter().filter(|one| scene.ended.contains(&one.event.id())).collect();
            assert!(over.is_empty(), "{how}: what is at an end comes again: {over:?}");
            scene.note(Call::Claim, &Done::Claimed(leased.clone()));
            scene.assert_order(&leased, how);
            scene.assert_counts(&leased, how);
            delivered(h, &leased).await;
            scene.ended.extend(leased_ids(&leased));
        }
        // If it is still there, it holds its key.
        if h.store().discard(scene.dead[0].id()).await.expect("discard") {
            let is_behind = round == 0 && scene.ended.contains(&scene.dead[1].id());
            assert!(!is_behind, "{how}: it came behind a dead letter that holds the key");
            scene.ended.insert(scene.dead[0].id());
        }
    }
    for events in scene.keys() {
        for event in events {
            assert!(scene.ended.contains(&event.id()), "{how}: it does not come: {event:?}");
        }
    }
    h.store().discard(scene.held[0].id()).await.expect("discard");
    assert!(pending_ids(h).await.is_empty(), "{how}: something is left");
}

/// 7.2, 7.3 and 7.7: a claim hands out nothing that another one has, or that is at an end, and nothing before an earlier one of
/// its key, whatever is done while it looks.
pub async fn whatever_is_done_during_a_claim_it_keeps_the_order<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    let ends = [Deliver, AcknowledgeFailed, AcknowledgeFree, Requeue];
    for others in [&[Call::Claim] as &[Call], &[Fetch], &ends, &[Retry, Discard], &[Bury], &[Release]] {
        assert_in_any_order(&h, &mut away, Call::Claim, others).await;
    }
}

/// 7.3 and 7.7: what fails while a claim looks comes again, also where the claim has seen that nothing of the key waits any more.
pub async fn what_fails_while_a_claim_looks_comes_again<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut away = Away::open(&h).await;
    let fails = async || {
        let leased = claim(&h, 1).await;
        settled(&h, leased.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "failed"))).await;
        leased_ids(&leased)
    };
    while away.goes_on().await {
        let (before, one) = (keyed("key", "it has waited"), keyed("key", "it fails meanwhile"));
        save_all(&h, std::slice::from_ref(&before)).await;
        assert_eq!(fails().await, [before.id()]);
        let again = claim(&h, 1).await;
        assert_eq!(leased_ids(&again), [before.id()]);
        delivered(&h, &again).await;
        save_all(&h, std::slice::from_ref(&one)).await;
        let there = Arc::clone(&away.h);
        let (leased, _) = away.meet(claim(&there, ALL), fails()).await;
        let how = format!("at message {} of the claim", away.at);
        delivered(&h, &leased).await;
        h.advance(LEASE * 2).await;
        let rest = claim(&h, ALL).await;
        let came = [leased_ids(&leased), leased_ids(&rest)].concat();
        assert_eq!(came, [one.id()], "{how}: it does not come again, or comes twice");
        delivered(&h, &rest).await;
    }
}

/// 7.5 and 7.6: a settlement takes once, or not at all where the lease is gone, whatever is done while it is made.
pub async fn whatever_is_done_during_a_settlement_it_takes_once<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    for others in [&[ClaimLate] as &[Call], &[Retry], &[AcknowledgeHeld, Call::Claim]] {
        assert_in_any_order(&h, &mut away, Deliver, others).await;
    }
    for others in [&[ClaimLate] as &[Call], &[Renew, Deliver]] {
        assert_in_any_order(&h, &mut away, Retry, others).await;
    }
}

/// 7.5: a renewal brings no lease back, and takes none away, whatever is done while it is made.
pub async fn whatever_is_done_during_a_renewal_a_lease_ends_once<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    for others in [&[ClaimLate] as &[Call], &[Deliver, Call::Claim], &[AcknowledgeHeld]] {
        assert_in_any_order(&h, &mut away, Renew, others).await;
    }
}

/// 5.1 and 7.5: what was acknowledged is delivered, and nothing of its key waits for it, whatever is done meanwhile.
pub async fn whatever_is_done_during_an_acknowledgement_it_counts<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    assert_in_any_order(&h, &mut away, AcknowledgeHeld, &[Retry, Call::Claim]).await;
    for call in [AcknowledgeFailed, AcknowledgeFree] {
        assert_in_any_order(&h, &mut away, call, &[Call::Claim]).await;
    }
}

/// 8.3: a dead letter is requeued or discarded once, and frees its key, whatever is done meanwhile.
pub async fn whatever_is_done_during_a_requeue_it_is_done_once<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let mut away = Away::open(&h).await;
    for (call, other) in [
        (Requeue, Call::Claim),
        (Requeue, Requeue),
        (Requeue, Discard),
        (Discard, Call::Claim),
        (Discard, Requeue),
    ] {
        assert_in_any_order(&h, &mut away, call, &[other]).await;
    }
}

/// 7.1: a claim has an answer, though others acknowledge all the time, whatever they acknowledge.
pub async fn a_claim_comes_to_an_end_beside_others_that_are_quicker<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + DeadLetterStore,
{
    let away = Away::open(&h).await;
    let first = keyed("first", "it is there before");
    save_all(&h, std::slice::from_ref(&first)).await;
    // It is connected then, and knows that there is something.
    let leased = claim(&away.h, 1).await;
    settled(&h, leased.iter().map(|one| Settlement::released(one.lease))).await;
    for others_are_stored in [false, true] {
        let another = || {
            let h = Arc::clone(&h);
            async move {
                let other = keyed("other", "it is acknowledged at once");
                if others_are_stored {
                    save_all(&h, std::slice::from_ref(&other)).await;
                }
                acknowledge(&h, other.id()).await;
            }
        };
        let leased = away.meet_always(claim(&away.h, 1), || Box::pin(another())).await;
        assert_eq!(
            leased_ids(&leased),
            [first.id()],
            "what has waited for the longest time is not handed out"
        );
        settled(&h, leased.iter().map(|one| Settlement::released(one.lease))).await;
    }
}

/// Of a busy key, in front of what commits and behind it: so that this is in the first page of a look, and what is saved then in
/// a later one.
const AROUND: [usize; 2] = [50, 150];

/// 3.1 and 7.3: an event that commits while a claim looks, in a place that this has passed, is not overtaken by what is saved of
/// its key after that.
pub async fn what_commits_while_a_claim_looks_comes_before_what_is_saved_then<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    let mut away = Away::open(&h).await;
    let busy = |count: usize| (0..count).map(|_| keyed("busy", "it waits")).collect::<Vec<_>>();
    save_all(&h, &busy(1)).await;
    let long = Claim::new("a worker").with_limit(1).with_lease(LONG);
    let first = h.store().claim(&long).await.expect("claim");
    while away.goes_on().await {
        let (early, late) = (keyed("key", "early"), keyed("key", "late"));
        let around = AROUND.map(busy);
        save_all(&h, &around[0]).await;
        let mut transaction = h.begin().await;
        h.store().save_in_session(&early, h.session(&mut transaction)).await.expect("save_in_session");
        save_all(&h, &around[1]).await;
        let meanwhile = async {
            h.commit(transaction).await;
            save_all(&h, std::slice::from_ref(&late)).await;
        };
        let there = Arc::clone(&away.h);
        let (mut leased, ()) = away.meet(claim(&there, 2), meanwhile).await;
        let mut order = Vec::new();
        for _ in 0..3 {
            order.extend(leased_ids(&leased));
            delivered(&h, &leased).await;
            leased = claim(&h, 2).await;
        }
        let how = format!("at message {} of the claim", away.at);
        assert_eq!(order, [early.id(), late.id()], "{how}: of a key, what is handed out is not in order");
        acknowledge_all(&h, &ids(&around.concat())).await;
    }
    settled(&h, first.iter().map(|one| Settlement::released(one.lease))).await;
}

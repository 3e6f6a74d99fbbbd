//! Section 9.6: what the engine answers at times, such as a deadlock.

use std::{future::Future, sync::Arc, time::Duration};

use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, Saved};

use super::outage::bounded;
use crate::{
    Fault, FaultHarness,
    support::{acknowledge_all, event, events, ids, kept, pending_ids, rows, save, save_all},
};

/// How often a conflict comes that passes.
pub(crate) const FEW: u32 = 3;

/// Longer than any clause.
pub(crate) const WITHOUT_END: u32 = u32::MAX;

/// The first one of each kind that all calls can meet.
pub(crate) fn of_each_kind<H: FaultHarness>(h: &Arc<H>) -> Vec<Fault> {
    let mut first: Vec<Fault> = Vec::new();
    for fault in h.faults().into_iter().filter(Fault::is_everywhere) {
        if first.iter().all(|one| one.kind() != fault.kind()) {
            first.push(fault);
        }
    }
    assert!(!first.is_empty(), "the engine has no faults");
    first
}

pub(crate) fn conflicts<H: FaultHarness>(h: &Arc<H>) -> Vec<Fault> {
    h.faults().into_iter().filter(|fault| fault.kind() == ErrorKind::Conflict).collect()
}

/// Ends whatever fault is left.
pub(crate) async fn heal<H: FaultHarness>(h: &Arc<H>, fault: &Fault) {
    h.fail(fault, 0).await;
}

/// That the error says what a caller can do.
#[track_caller]
pub(crate) fn assert_is(error: &Error, fault: &Fault) {
    assert_eq!(error.kind(), fault.kind(), "{fault:?}: {error}");
    assert!(std::error::Error::source(error).is_some(), "the driver's error is gone: {error:?}");
    assert_eq!(error.is_retryable(), may_pass(fault), "{fault:?}: {error}");
}

/// Whether another try may help.
fn may_pass(fault: &Fault) -> bool {
    matches!(fault.kind(), ErrorKind::Conflict | ErrorKind::Unavailable)
}

pub(crate) fn lasting<H: FaultHarness>(h: &Arc<H>) -> impl Iterator<Item = Fault> {
    h.faults().into_iter().filter(|fault| !may_pass(fault))
}

/// The error of a call that meets a fault so many times, if it has one.
pub(crate) async fn failure<H: FaultHarness, T>(
    h: &Arc<H>,
    fault: &Fault,
    times: u32,
    call: impl Future<Output = Result<T>>,
) -> Option<Error> {
    h.fail(fault, times).await;
    let answer = bounded(call).await;
    heal(h, fault).await;
    answer.err()
}

/// That whatever call fails where a fault has no end has failed where it came once.
#[track_caller]
pub(crate) fn assert_said_at_once<const CALLS: usize>(
    fault: &Fault,
    without_end: [(&str, Option<Error>); CALLS],
    once: [(&str, Option<Error>); CALLS],
) {
    let is_met = without_end.iter().any(|(_, error)| error.is_some());
    assert!(is_met || !fault.is_everywhere(), "{fault:?} is met nowhere");
    for ((call, stays), (_, once)) in without_end.into_iter().zip(once) {
        let Some(stays) = stays else { continue };
        assert_is(&stays, fault);
        let once = once.unwrap_or_else(|| panic!("{fault:?}: `{call}` has tried again, and does not say it"));
        assert_is(&once, fault);
    }
}

/// 9.6 and 2.8: in a caller's session a fault is an error at once, and the caller's to deal with: rolled back, it leaves nothing,
/// and the same handle goes on.
pub async fn a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing<H: FaultHarness>(h: Arc<H>) {
    let mut committed = Vec::new();
    for fault in h.faults().iter().filter(|fault| fault.is_of_sessions()) {
        heal(&h, fault).await;
        for batch in [events(1), events(3)] {
            let mut transaction = h.begin().await;
            let session = h.session(&mut transaction);
            h.write_row("beside", session).await;
            h.fail(fault, 1).await;
            let saved = match batch.as_slice() {
                [one] => h.store().save_in_session(one, session).await.map(|saved| vec![saved]),
                all => h.store().save_all_in_session(all, session).await,
            };
            assert_is(&saved.expect_err("the engine has a fault"), fault);
            h.rollback(transaction).await;
            heal(&h, fault).await;
            assert!(rows(&h).await.is_empty(), "{fault:?}: the store has committed");
            assert!(pending_ids(&h).await == committed, "{fault:?}: something of it is stored");
        }
        let again = event(fault.name());
        let mut transaction = h.begin().await;
        let saved = h.store().save_in_session(&again, h.session(&mut transaction)).await;
        assert_eq!(saved.expect("the fault is over"), Saved::Stored);
        h.commit(transaction).await;
        committed.push(again.id());
    }
}

/// Saves, one by itself and more as a batch.
async fn try_to_save<H: FaultHarness>(h: &Arc<H>, batch: &[Event]) -> Result<Vec<Saved>> {
    match batch {
        [one] => bounded(h.store().save(one)).await.map(|saved| vec![saved]),
        all => bounded(h.store().save_all(all)).await,
    }
}

/// 9.6 and 2.5: a save that met a fault and failed has stored nothing, and can be made again. Where the fault may pass, the store
/// may try again by itself.
pub async fn a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all<H: FaultHarness>(h: Arc<H>) {
    let mut stored = Vec::new();
    for fault in h.faults() {
        for batch in [events(1), events(3), events(300)] {
            h.fail(&fault, 1).await;
            let answer = try_to_save(&h, &batch).await;
            heal(&h, &fault).await;
            match answer {
                Ok(saved) => {
                    // One that is not everywhere may not have been met.
                    assert!(may_pass(&fault) || !fault.is_everywhere(), "{fault:?}: it is not said");
                    assert_eq!(saved, vec![Saved::Stored; batch.len()], "{fault:?}");
                }
                Err(error) => {
                    assert_is(&error, &fault);
                    assert!(pending_ids(&h).await == stored, "{fault:?}: a part of it is stored");
                    save_all(&h, &batch).await;
                }
            }
            stored.extend(ids(&batch));
            assert!(pending_ids(&h).await == stored, "{fault:?}: what was saved is not there");
        }
    }
}

/// 9.6: what the store does in its own transactions it tries again, where a concurrent one is in the way and goes.
pub async fn a_conflict_that_passes_is_tried_again<H: FaultHarness>(h: Arc<H>) {
    for fault in conflicts(&h) {
        let batch = events(5);
        save_all(&h, &batch).await;
        h.fail(&fault, FEW).await;
        bounded(h.store().acknowledge(batch[0].id())).await.expect("the conflict passes");
        heal(&h, &fault).await;
        assert_eq!(pending_ids(&h).await, ids(&batch[1..]));
        h.fail(&fault, FEW).await;
        bounded(h.store().acknowledge_all(&ids(&batch[1..]))).await.expect("the conflict passes");
        heal(&h, &fault).await;
        assert!(pending_ids(&h).await.is_empty());
        h.fail(&fault, FEW).await;
        let purged = bounded(h.store().purge(Duration::ZERO)).await;
        heal(&h, &fault).await;
        assert_eq!(purged.expect("the conflict passes"), kept(&h, 5), "{fault:?}");

        let hour = Duration::from_secs(3600);
        let hidden = event("hidden").with_not_before(h.now().await + hour);
        save(&h, &hidden).await;
        h.advance(hour * 2).await;
        h.fail(&fault, FEW).await;
        let fetched = bounded(h.store().get_pending(10)).await.expect("the conflict passes");
        heal(&h, &fault).await;
        assert_eq!(ids(&fetched), [hidden.id()]);
        acknowledge_all(&h, &[hidden.id()]).await;
        h.store().purge(Duration::ZERO).await.expect("purge");
    }
}

/// 9.6: a fault that does not pass is an error, in the end, and nothing of the call is done, which can be made when it is over.
pub async fn a_fault_that_stays_is_an_error_and_nothing_is_done<H: FaultHarness>(h: Arc<H>) {
    for fault in of_each_kind(&h) {
        let (done, batch, new) = (events(2), events(3), events(2));
        save_all(&h, &done).await;
        acknowledge_all(&h, &ids(&done)).await;
        save_all(&h, &batch).await;

        h.fail(&fault, WITHOUT_END).await;
        let store = h.store();
        let mut errors = vec![
            ("save", bounded(store.save(&new[0])).await.map(drop)),
            ("save_all", bounded(store.save_all(&new)).await.map(drop)),
            ("acknowledge", bounded(store.acknowledge(batch[0].id())).await),
            ("acknowledge_all", bounded(store.acknowledge_all(&ids(&batch[..2]))).await),
        ];
        if kept(&h, 1) == 1 {
            errors.push(("purge", bounded(store.purge(Duration::ZERO)).await.map(drop)));
        }
        heal(&h, &fault).await;
        for (call, answer) in errors {
            assert_is(&answer.expect_err(call), &fault);
        }

        assert_eq!(pending_ids(&h).await, ids(&batch), "{fault:?}: what failed was done");
        save_all(&h, &new).await;
        acknowledge_all(&h, &[ids(&batch), ids(&new)].concat()).await;
        assert!(pending_ids(&h).await.is_empty());
        assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, 7), "{fault:?}");
    }
}

/// 9.6: a fault that no other try helps is said where it comes for the first time, and nothing of the call is done. So it is by a fetch
/// that sets aside what cannot be decoded.
pub async fn a_fault_that_no_other_try_helps_is_said_at_once<H: FaultHarness>(h: Arc<H>) {
    for fault in lasting(&h) {
        let (done, batch) = (events(1), events(2));
        save_all(&h, &done).await;
        acknowledge_all(&h, &ids(&done)).await;
        save_all(&h, &batch).await;
        h.insert_undecodable(EventId::new()).await;
        let (without_end, once) =
            (failures(&h, &batch, &fault, WITHOUT_END), failures(&h, &batch, &fault, 1));
        assert_said_at_once(&fault, without_end.await, once.await);
        acknowledge_all(&h, &ids(&batch)).await;
        h.store().purge(Duration::ZERO).await.expect("purge");
    }
}

async fn failures<H: FaultHarness>(
    h: &Arc<H>,
    batch: &[Event],
    fault: &Fault,
    times: u32,
) -> [(&'static str, Option<Error>); 4] {
    let store = h.store();
    [
        ("acknowledge", failure(h, fault, times, store.acknowledge(batch[0].id())).await),
        ("acknowledge_all", failure(h, fault, times, store.acknowledge_all(&ids(batch))).await),
        ("purge", failure(h, fault, times, store.purge(Duration::ZERO)).await),
        ("get_pending", failure(h, fault, times, store.get_pending(10)).await),
    ]
}

//! Section 3: order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use outbox_traits::{Event, EventId, OutboxStore, Result};

use crate::{
    Harness,
    support::{acknowledge_all, backwards, drain, event, events, ids, pending_ids, retried, save, save_all},
};

/// What one committed save did, stamped by one clock that all of them share.
struct Committed {
    ids: Vec<EventId>,
    save_began: u64,
    commit_returned: u64,
}

/// 3.1, 3.2 and 3.4, as a check of a recorded history: if the commit of A returned before the save of B began, A
/// is delivered before B; nothing is skipped, nothing comes twice, nothing that was rolled back comes at all.
pub async fn a_history_of_many_writers_is_delivered_in_causal_order<H: Harness>(h: Arc<H>) {
    const WRITERS: u64 = 6;
    const ROUNDS: u64 = 60;
    let stamp = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));

    let reader = tokio::spawn({
        let (h, done) = (Arc::clone(&h), Arc::clone(&done));
        async move { drain(&h, 7, || done.load(SeqCst)).await }
    });
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (h, stamp) = (Arc::clone(&h), Arc::clone(&stamp));
        writers.spawn(async move {
            let mut history = Vec::new();
            for round in 0..ROUNDS {
                // A mixture that differs from writer to writer and is the same in each run.
                let dice = (writer * 7 + round * 13) % 11;
                history.extend(write_once(&h, &stamp, dice).await);
            }
            history
        });
    }
    let mut history = Vec::new();
    while let Some(of_one) = writers.join_next().await {
        history.extend(of_one.expect("a writer"));
    }
    done.store(true, SeqCst);
    let delivered = reader.await.expect("the reader");
    check_history(&history, &delivered);
}

/// One transaction; `None` if it was rolled back. Where another was in the way, it begins anew.
async fn write_once<H: Harness>(h: &Arc<H>, stamp: &AtomicU64, dice: u64) -> Option<Committed> {
    let batch = events(1 + usize::try_from(dice % 3).expect("small"));
    retried(|| try_to_write(h, stamp, dice, &batch)).await
}

async fn try_to_write<H: Harness>(
    h: &Arc<H>,
    stamp: &AtomicU64,
    dice: u64,
    batch: &[Event],
) -> Result<Option<Committed>> {
    // The transaction is open before the save begins, so that its start says nothing about the order.
    let mut transaction = h.begin().await;
    h.write_row(&batch[0].id().to_string(), h.session(&mut transaction)).await;
    if dice == 3 {
        tokio::task::yield_now().await;
    }
    let save_began = stamp.fetch_add(1, SeqCst);
    for one in batch {
        h.store().save_in_session(one, h.session(&mut transaction)).await?;
    }
    if dice.is_multiple_of(4) {
        tokio::time::sleep(std::time::Duration::from_millis(dice)).await;
    }
    if dice == 5 {
        h.rollback(transaction).await;
        return Ok(None);
    }
    h.try_commit(transaction).await?;
    Ok(Some(Committed { ids: ids(batch), save_began, commit_returned: stamp.fetch_add(1, SeqCst) }))
}

fn check_history(history: &[Committed], delivered: &[EventId]) {
    let save_of: std::collections::HashMap<EventId, (usize, &Committed)> = history
        .iter()
        .flat_map(|save| save.ids.iter().enumerate().map(move |(index, id)| (*id, (index, save))))
        .collect();
    assert_eq!(delivered.len(), save_of.len(), "each committed event is delivered once");
    let mut latest_begin = 0;
    let mut previous: std::collections::HashMap<u64, usize> = std::collections::HashMap::new();
    for id in delivered {
        let (index, save) =
            save_of.get(id).unwrap_or_else(|| panic!("{id} was delivered and never committed"));
        // Each pair at once: some event before this one in the delivery had begun after this one's commit.
        assert!(
            save.commit_returned > latest_begin,
            "{id} was committed before the save of an event began that was delivered before it"
        );
        latest_begin = latest_begin.max(save.save_began);
        let next = previous.entry(save.save_began).or_insert(0);
        assert_eq!(*index, *next, "events of one session come in the order in which they were saved");
        *next += 1;
    }
}

/// 3.1: the order never rests on an application's clock, nor on the ids that it makes.
pub async fn order_does_not_rest_on_the_application_s_clock<H: Harness>(h: Arc<H>) {
    let backwards = backwards(10);
    for one in &backwards[..5] {
        save(&h, one).await;
    }
    save_all(&h, &backwards[5..]).await;
    assert_eq!(pending_ids(&h).await, ids(&backwards));
}

/// 3.1: the order is kept when the newest events go: their sequence numbers never come again.
pub async fn the_order_outlives_the_purge_of_the_newest<H: Harness>(h: Arc<H>) {
    let (old, newest, after) = (event("old"), event("newest"), event("after"));
    save_all(&h, &[old.clone(), newest.clone()]).await;
    acknowledge_all(&h, &[newest.id()]).await;
    h.store().purge(std::time::Duration::ZERO).await.expect("purge");
    save(&h, &after).await;
    assert_eq!(pending_ids(&h).await, [old.id(), after.id()]);
}

/// 3.2: a rolled-back save leaves no gap that anything waits for.
pub async fn a_rolled_back_save_leaves_no_gap<H: Harness>(h: Arc<H>) {
    let (before, after) = (event("before"), event("after"));
    save(&h, &before).await;
    let mut transaction = h.begin().await;
    h.store().save_all_in_session(&events(3), h.session(&mut transaction)).await.expect("save");
    h.rollback(transaction).await;
    save(&h, &after).await;
    assert_eq!(pending_ids(&h).await, [before.id(), after.id()]);
    assert_eq!(ids(&h.store().get_pending(2).await.expect("get_pending")), [before.id(), after.id()]);
}

/// 3.3: an open transaction hides nothing that is committed.
pub async fn an_open_session_hides_nothing_that_is_committed<H: Harness>(h: Arc<H>) {
    let (committed, open) = (event("committed"), event("open"));
    save(&h, &committed).await;
    let mut transaction = h.begin().await;
    h.store().save_in_session(&open, h.session(&mut transaction)).await.expect("save_in_session");
    assert_eq!(pending_ids(&h).await, [committed.id()]);
    h.commit(transaction).await;
    assert_eq!(pending_ids(&h).await, [committed.id(), open.id()]);
}

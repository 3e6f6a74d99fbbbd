//! Section 9.2 for what is under way at the same time.

use std::{sync::Arc, time::Duration};

use outbox_traits::{OutboxStore, WakeStore};
use tokio::{
    runtime::Builder,
    task::{JoinSet, spawn_blocking, yield_now},
    time::sleep,
};

use super::wake::{calm, listen, told_of, woken_by};
use crate::{
    WakeHarness,
    support::{event, retried},
};

/// 9.2: a commit wakes however many others were saved later and committed before, and are pending still.
pub async fn a_commit_wakes_after_others_that_were_saved_later<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = h.peer().await;
    let mut listener = listen(&h).await;
    for _ in 0..3 {
        let (early, late) = (event("early"), event("late"));
        let mut transaction = h.begin().await;
        peer.save_in_session(&early, h.session(&mut transaction)).await.expect("save_in_session");
        peer.save(&late).await.expect("save");
        told_of(&h, &mut listener, &late).await;
        // Whatever looks has seen the later one by then.
        calm(&mut listener).await;
        h.commit(transaction).await;
        told_of(&h, &mut listener, &early).await;
    }
}

/// 9.2: of several sessions of one process, each wakes with its own commit, while the others are open still.
pub async fn each_of_several_open_sessions_wakes_by_itself<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = h.peer().await;
    let mut listener = listen(&h).await;
    let mut open = Vec::new();
    for name in ["one", "two", "three"] {
        let event = event(name);
        let mut transaction = h.begin().await;
        peer.save_in_session(&event, h.session(&mut transaction)).await.expect("save_in_session");
        open.push((event, transaction));
    }
    for (event, transaction) in open {
        let writer = async {
            sleep(Duration::from_millis(100)).await;
            h.commit(transaction).await;
        };
        tokio::join!(writer, woken_by(&h, &mut listener, &event));
    }
}

/// 9.2: a commit wakes others though its process asks for something all the time, and never has a moment to spare.
pub async fn a_commit_of_a_busy_process_wakes_others<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = Arc::new(h.peer().await);
    let mut listener = listen(&h).await;
    let mut busy = JoinSet::new();
    for _ in 0..16 {
        let peer = Arc::clone(&peer);
        busy.spawn(async move {
            loop {
                peer.get_pending(1).await.expect("get_pending");
                yield_now().await;
            }
        });
    }
    for name in ["one", "two"] {
        let event = event(name);
        let mut transaction = h.begin().await;
        peer.save_in_session(&event, h.session(&mut transaction)).await.expect("save_in_session");
        h.commit(transaction).await;
        woken_by(&h, &mut listener, &event).await;
    }
}

/// 9.2: a commit wakes though one before it was made on a runtime that has ended before it could tell of it.
pub async fn a_commit_wakes_after_a_runtime_of_its_handle_has_ended<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let (peer, mut listener) = (Arc::new(h.peer().await), listen(&h).await);
    let there = Arc::clone(&peer);
    let elsewhere = move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(there.save(&event("elsewhere"))).expect("save");
    };
    spawn_blocking(elsewhere).await.expect("a save on another runtime");
    for name in ["one", "two"] {
        let event = event(name);
        // A connection of the handle may have ended with the runtime.
        retried(|| peer.save(&event)).await;
        woken_by(&h, &mut listener, &event).await;
    }
}

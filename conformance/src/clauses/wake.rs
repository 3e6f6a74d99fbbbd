//! Section 9.2: wake-ups.

use std::{sync::Arc, time::Duration};

use outbox_traits::{Event, OutboxStore, WakeStore, Wakeups};
use tokio::{
    runtime::Builder,
    task::spawn_blocking,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    Harness, WakeHarness, patience,
    support::{acknowledge, event, events, pending_ids, save, save_all},
};

pub(crate) async fn listen<H: Harness>(h: &Arc<H>) -> Box<dyn Wakeups>
where
    H::Store: WakeStore,
{
    h.store().wakeups().await.expect("wakeups")
}

/// To be woken so often for nothing is not to be woken all the time.
pub(crate) const FEW: usize = 5;

/// How often one is woken in this time; more than a few are counted no further.
pub(crate) async fn wakeups_within(time: Duration, listener: &mut Box<dyn Wakeups>) -> usize {
    let end = Instant::now() + time;
    let mut wakeups = 0;
    while wakeups <= FEW && timeout_at(end, listener.wait()).await.is_ok() {
        wakeups += 1;
    }
    wakeups
}

async fn woken(listener: &mut Box<dyn Wakeups>) {
    timeout(patience::of_a_wakeup(), listener.wait()).await.expect("nobody was woken by a commit");
}

/// Waits until nothing of the commits before is left to be told.
pub(crate) async fn calm(listener: &mut Box<dyn Wakeups>) {
    sleep(Duration::from_millis(200)).await;
    for _ in 0..10 {
        if timeout(Duration::from_millis(30), listener.wait()).await.is_err() {
            return;
        }
    }
    panic!("woken again and again, and nothing is committed any more");
}

/// Waits until it was woken and finds the event. It may be woken for nothing first.
pub(crate) async fn told_of<H: Harness>(h: &Arc<H>, listener: &mut Box<dyn Wakeups>, event: &Event) {
    let end = Instant::now() + patience::of_a_wakeup();
    loop {
        timeout_at(end, listener.wait())
            .await
            .expect("a commit wakes no one, or only before it is to be seen");
        if pending_ids(h).await.contains(&event.id()) {
            return;
        }
    }
}

/// The same as a relay does, which delivers it then.
pub(crate) async fn woken_by<H: Harness>(h: &Arc<H>, listener: &mut Box<dyn Wakeups>, event: &Event) {
    told_of(h, listener, event).await;
    acknowledge(h, event.id()).await;
}

/// 9.2: a save in a transaction of its own wakes.
pub async fn a_save_wakes_a_listener<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let mut listener = listen(&h).await;
    let one = event("one");
    save(&h, &one).await;
    woken_by(&h, &mut listener, &one).await;
    let batch = [event("two"), event("three")];
    h.store().save_all(&batch).await.expect("save_all");
    woken_by(&h, &mut listener, &batch[1]).await;
    assert!(!format!("{listener:?}").is_empty(), "what is printed of it says nothing");
}

/// 9.2: a commit of the caller's session wakes, of one event or of a batch, however long after the save it comes.
pub async fn a_session_wakes_when_it_commits<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let mut listener = listen(&h).await;
    for (pause, is_batch) in [(0, false), (5, true), (400, false), (0, true)] {
        let [one, first] = ["one", "the first of two"].map(event);
        let writer = async {
            let mut transaction = h.begin().await;
            let session = h.session(&mut transaction);
            if is_batch {
                let saved = h.store().save_all_in_session(&[first.clone(), one.clone()], session).await;
                saved.expect("save_all_in_session");
            } else {
                h.store().save_in_session(&one, session).await.expect("save_in_session");
            }
            sleep(Duration::from_millis(pause)).await;
            h.commit(transaction).await;
        };
        // Who listens looks at once, and so in vain if it is woken by the save.
        tokio::join!(writer, woken_by(&h, &mut listener, &one));
    }
}

/// 9.2: so does a commit of another process, where the engine lets several in.
pub async fn a_commit_through_another_handle_wakes<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let mut listener = listen(&h).await;
    let peer = h.peer().await;
    let one = event("one");
    peer.save(&one).await.expect("save");
    woken_by(&h, &mut listener, &one).await;
    let two = event("two");
    let mut transaction = h.begin().await;
    peer.save_in_session(&two, h.session(&mut transaction)).await.expect("save_in_session");
    h.commit(transaction).await;
    woken_by(&h, &mut listener, &two).await;
}

/// 9.2: every one who listens is woken, and one who has gone is in nobody's way.
pub async fn every_listener_is_woken<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = h.peer().await;
    let (mut one, mut two, gone) = (listen(&h).await, listen(&h).await, listen(&h).await);
    let mut three = peer.wakeups().await.expect("wakeups");
    drop(gone);
    for _ in 0..3 {
        save(&h, &event("for all")).await;
        for listener in [&mut one, &mut two, &mut three] {
            woken(listener).await;
        }
        // Nothing of one save is left for the next.
        for listener in [&mut one, &mut two, &mut three] {
            calm(listener).await;
        }
    }
}

/// 9.2: what is committed after one began to listen wakes, also if one only waits later.
pub async fn a_commit_before_the_wait_is_not_missed<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let mut listener = listen(&h).await;
    for _ in 0..2 {
        let one = event("one");
        save(&h, &one).await;
        sleep(Duration::from_millis(200)).await;
        woken_by(&h, &mut listener, &one).await;
    }
}

/// 9.2: a wait that is dropped, because something else came first, loses no wake-up.
pub async fn a_wait_that_is_dropped_loses_nothing<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let mut listener = listen(&h).await;
    for round in 0..3 {
        let writer = tokio::spawn({
            let h = Arc::clone(&h);
            async move {
                sleep(Duration::from_millis(20 + 7 * round)).await;
                save(&h, &event("one")).await;
            }
        });
        let end = Instant::now() + patience::of_a_wakeup();
        let mut is_woken = false;
        while !is_woken || !writer.is_finished() {
            assert!(Instant::now() < end, "a wait that was dropped has lost the wake-up");
            is_woken |= timeout(Duration::from_millis(1), listener.wait()).await.is_ok();
        }
        writer.await.expect("the writer");
        calm(&mut listener).await;
    }
}

/// 9.2: one who waits and looks, again and again, finds each commit by wake-ups alone.
pub async fn each_of_many_commits_is_noticed<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    const EVENTS: usize = 60;
    let mut listener = listen(&h).await;
    let writer = tokio::spawn({
        let h = Arc::clone(&h);
        async move {
            for index in 0..EVENTS {
                save(&h, &event("one of many")).await;
                sleep(Duration::from_millis((index % 7) as u64)).await;
            }
        }
    });
    let end = Instant::now() + patience::of_a_wakeup();
    let mut seen = 0;
    while seen < EVENTS {
        timeout_at(end, listener.wait()).await.unwrap_or_else(|_| panic!("{seen} of {EVENTS} were noticed"));
        let pending = pending_ids(&h).await;
        seen += pending.len();
        h.store().acknowledge_all(&pending).await.expect("acknowledge_all");
    }
    writer.await.expect("the writer");
}

/// 9.2: where nothing is committed nobody is woken all the time; now and then is no harm.
pub async fn nobody_is_woken_for_nothing<H: Harness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    save(&h, &event("before")).await;
    let mut listener = listen(&h).await;
    let wakeups = wakeups_within(Duration::from_millis(600), &mut listener).await;
    assert!(wakeups <= FEW, "woken again and again, and nothing was committed");
}

/// 9.2: an open session wakes nobody all the time, be it of this process or of another; neither does its commit, once it was
/// told, whether it comes late or at once.
pub async fn a_session_wakes_nobody_all_the_time<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    const A_WHILE: Duration = Duration::from_millis(1200);
    let peer = h.peer().await;
    let (mut here, mut there) = (listen(&h).await, peer.wakeups().await.expect("wakeups"));
    let mut committed = Vec::new();
    for pause in [A_WHILE, Duration::ZERO] {
        let one = event("one");
        let mut transaction = h.begin().await;
        h.store().save_in_session(&one, h.session(&mut transaction)).await.expect("save_in_session");
        let open = tokio::join!(wakeups_within(pause, &mut here), wakeups_within(pause, &mut there));
        assert!(open.0.max(open.1) <= FEW, "woken {open:?} times, and nothing is committed");
        let writer = h.commit(transaction);
        let ((), told) = tokio::join!(writer, async {
            tokio::join!(wakeups_within(A_WHILE, &mut here), wakeups_within(A_WHILE, &mut there))
        });
        assert!(told.0.max(told.1) <= FEW, "woken {told:?} times by one commit");
        committed.push(one.id());
        assert_eq!(pending_ids(&h).await, committed);
    }
}

/// 9.2: what others deliver wakes nobody all the time.
pub async fn deliveries_wake_nobody_all_the_time<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let all = events(140);
    save_all(&h, &all).await;
    let peer = h.peer().await;
    let mut listener = listen(&h).await;
    calm(&mut listener).await;
    let deliveries = async {
        // The last ones first.
        for event in all.iter().rev().take(40) {
            peer.acknowledge(event.id()).await.expect("acknowledge");
            sleep(Duration::from_millis(30)).await;
        }
    };
    let ((), wakeups) = tokio::join!(deliveries, wakeups_within(Duration::from_millis(1500), &mut listener));
    assert!(wakeups <= FEW, "woken {wakeups} times, and nothing was saved");
}

/// 9.2: who has listened on a runtime that has ended, is in the way of nobody who listens on another.
pub async fn a_runtime_that_ends_takes_no_wakeups_with_it<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = h.peer().await;
    let there = Arc::clone(&h);
    let elsewhere = move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = listen(&there).await;
            // What it was given for this long is given back by then.
            sleep(Duration::from_millis(100)).await;
            listener
        })
    };
    let gone = spawn_blocking(elsewhere).await.expect("a listener of another runtime");
    let mut listener = listen(&h).await;
    let one = event("one");
    peer.save(&one).await.expect("save");
    woken_by(&h, &mut listener, &one).await;
    drop(gone);
    let two = event("two");
    peer.save(&two).await.expect("save");
    woken_by(&h, &mut listener, &two).await;
}

/// 9.2: a listener whose connection dies notices, and listens again: also to others, of whom this process knows nothing.
pub async fn a_listener_survives_its_connection<H: WakeHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let peer = h.peer().await;
    let mut listener = listen(&h).await;
    for _ in 0..3 {
        h.cut_connections().await;
        for _ in 0..3 {
            let one = event("one");
            save(&h, &one).await;
            woken_by(&h, &mut listener, &one).await;
        }
        let one = event("one of another");
        peer.save(&one).await.expect("save");
        woken_by(&h, &mut listener, &one).await;
    }
}

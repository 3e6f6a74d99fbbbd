//! Section 9.5 for wake-ups.

use std::{sync::Arc, time::Duration};

use outbox_traits::{OutboxStore, WakeStore, Wakeups};
use tokio::time::{Instant, sleep};

use super::{
    outage::{Away, exchanged},
    wake::{calm, listen, woken_by},
};
use crate::{
    OutageHarness, patience,
    support::{event, retried, save},
};

/// Waits as a relay does, which goes on while the server is away. It may be woken then, though not all the time.
async fn waits(listener: &mut Box<dyn Wakeups>) {
    let mut wakeups = 0;
    loop {
        listener.wait().await;
        wakeups += 1;
        assert!(wakeups < 100, "woken again and again, and its server is away");
    }
}

/// 9.2 and 9.5: a listener whose server is away tries to reach it again and again, though not all the time, and then hears of
/// what came meanwhile, and of what comes.
pub async fn a_listener_hears_again_after_an_outage<H: OutageHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    let away = Away::open(&h).await;
    let mut listener = listen(&away.h).await;
    let before = event("before");
    save(&h, &before).await;
    woken_by(&h, &mut listener, &before).await;
    for _ in 0..2 {
        calm(&mut listener).await;
        let connected = away.proxy.connections();
        away.proxy.go_down();
        let meanwhile = event("meanwhile");
        save(&h, &meanwhile).await;
        let outage = async {
            let end = Instant::now() + patience::of_a_call();
            while away.proxy.connections() < connected + 3 {
                assert!(Instant::now() < end, "it does not try to connect again");
                sleep(Duration::from_millis(5)).await;
            }
            let tried = away.proxy.connections();
            sleep(Duration::from_millis(300)).await;
            assert!(away.proxy.connections() < tried + 100, "it tries to connect without a pause");
        };
        tokio::select! {
            () = outage => {}
            () = waits(&mut listener) => {}
        }
        away.proxy.come_back();
        woken_by(&h, &mut listener, &meanwhile).await;
        calm(&mut listener).await;
        let after = event("after");
        save(&h, &after).await;
        woken_by(&h, &mut listener, &after).await;
    }
}

/// 9.2: who listens costs the engine little, where nothing is committed or a session is open for long; and no more for each one
/// who listens on clones of one store.
pub async fn listeners_cost_little<H: OutageHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    const A_WHILE: Duration = Duration::from_millis(1500);
    let away = Away::open(&h).await;
    let mut listener = listen(&away.h).await;
    let before = event("before");
    save(&away.h, &before).await;
    woken_by(&away.h, &mut listener, &before).await;
    let connections = away.proxy.connections();
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(listen(&away.h).await);
    }
    let more = away.proxy.connections() - connections;
    assert!(more < 10, "20 who listen take {more} connections");
    calm(&mut listener).await;
    let ((), idle) = exchanged(&away.proxy, sleep(A_WHILE)).await;
    assert!(idle < 150, "{idle} round trips within {A_WHILE:?}, and nothing happens");
    let there = away.h.store();
    let mut transaction = away.h.begin().await;
    there.save_in_session(&event("open"), away.h.session(&mut transaction)).await.expect("save_in_session");
    let ((), open) = exchanged(&away.proxy, sleep(A_WHILE)).await;
    assert!(open < 150, "{open} round trips within {A_WHILE:?}, while a session is open");
    away.h.rollback(transaction).await;
}

/// 9.2 and 9.5: a commit wakes those who listen elsewhere, though its process is cut off at any time after it, or before it hears
/// of it.
pub async fn a_commit_wakes_though_its_process_is_cut_off_then<H: OutageHarness>(h: Arc<H>)
where
    H::Store: WakeStore,
{
    // In which what is to be told is told, or cut off.
    const SOON: Duration = Duration::from_millis(60);
    let mut away = Away::open(&h).await;
    let mut listener = listen(&h).await;
    while away.goes_on().await {
        calm(&mut listener).await;
        let (there, one) = (Arc::clone(&away.h), event("one"));
        let call = async {
            let saved = there.store().save(&one).await;
            sleep(SOON).await;
            saved
        };
        // Whoever is told that it failed makes it again. It may be there by then.
        if away.cut(call).await.is_err() {
            retried(|| away.h.store().save(&one)).await;
        }
        woken_by(&h, &mut listener, &one).await;
    }
}

//! Section 9.5 for wake-ups.

use std::{sync::Arc, time::Duration};

use outbox_traits::{WakeStore, Wakeups};
use tokio::time::{Instant, sleep};

use super::{
    outage::{Away, PATIENCE},
    wake::{calm, listen, woken_by},
};
use crate::{
    OutageHarness,
    support::{event, save},
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
            let end = Instant::now() + PATIENCE;
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

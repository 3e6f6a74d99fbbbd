//! What runs beside the loop of a relay, as long as it runs.

use std::{future::pending, time::Duration};

use outbox_traits::OutboxStore;
use tokio::{
    sync::{Mutex, Notify},
    time::sleep,
};

use crate::{relay::Common, report::Record, wake};

/// How often delivered events are purged, on average.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);

/// Listens and purges. It never ends.
pub(crate) async fn beside(common: &Common, store: &dyn OutboxStore, record: &Record, woken: &Notify) {
    let listening = async {
        match &common.wakeups {
            Some(store) => wake::listen(&**store, woken).await,
            None => pending().await,
        }
    };
    let purging = async {
        match common.purge {
            Some(older_than) => purge(store, older_than, record, &common.purging).await,
            None => pending().await,
        }
    };
    tokio::join!(listening, purging);
}

async fn purge(store: &dyn OutboxStore, older_than: Duration, record: &Record, purging: &Mutex<()>) {
    loop {
        // Relays that began together do not purge together.
        sleep(PURGE_INTERVAL.mul_f64(0.5 + fastrand::f64())).await;
        let Ok(_one_at_a_time) = purging.try_lock() else { continue };
        match store.purge(older_than).await {
            Ok(count) => record.purged(count),
            Err(error) => record.store_failed(&error),
        }
    }
}

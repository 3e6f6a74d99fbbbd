//! What runs beside the loop of a relay, as long as it runs.

use std::{future::pending, time::Duration};

use outbox_traits::{OutboxStore, Result, Stats, StatsStore};
use tokio::{
    sync::{Mutex, Notify},
    time::sleep,
};

use crate::{guard, record::Record, relay::Common, wake};

/// How often delivered events are purged, on average.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);

/// There may be much to delete, and what is deleted by then stays so.
const PURGE_TIMEOUT: Duration = Duration::from_mins(10);

/// How often a store is asked how much it holds.
pub(crate) const STATS_INTERVAL: Duration = Duration::from_secs(10);

/// However short the limit of the health is.
const SHORTEST_STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What it says after longer than that is old.
const STATS_TIMEOUT: Duration = Duration::from_secs(30);

/// Listens, purges and counts. It never ends.
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
    let counting = async {
        match &common.stats {
            Some(store) => count(&**store, record, common.health.limit()).await,
            None => pending().await,
        }
    };
    tokio::join!(listening, purging, counting);
}

/// Often enough to know of each limit of the health.
async fn count(store: &dyn StatsStore, record: &Record, limit: Duration) {
    let interval = STATS_INTERVAL.min(limit / 2).max(SHORTEST_STATS_INTERVAL);
    loop {
        match stats_of(store).await {
            Ok(stats) => record.stats(&stats),
            Err(error) => record.store_failed(error),
        }
        sleep(interval).await;
    }
}

/// How much a store holds now.
pub(crate) async fn stats_of(store: &dyn StatsStore) -> Result<Stats> {
    guard::in_time(STATS_TIMEOUT, async { store.stats().await }).await
}

async fn purge(store: &dyn OutboxStore, older_than: Duration, record: &Record, purging: &Mutex<()>) {
    loop {
        // Relays that began together do not purge together.
        sleep(PURGE_INTERVAL.mul_f64(0.5 + fastrand::f64())).await;
        let Ok(_one_at_a_time) = purging.try_lock() else { continue };
        match guard::in_time(PURGE_TIMEOUT, async { store.purge(older_than).await }).await {
            Ok(count) => record.purged(count),
            Err(error) => record.store_failed(error),
        }
    }
}

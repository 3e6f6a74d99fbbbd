//! Workers that take events until enough are gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::queue::Taker;

/// After so long without an event a measurement is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// Lets workers take events, at most `limit` at a time, until so many are gone or a few more; returns how many were,
/// and in what time.
pub(crate) async fn drain(
    taker: &Arc<dyn Taker>,
    workers: u32,
    limit: usize,
    events: u64,
) -> Result<(u64, Duration)> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..workers {
        let (taker, taken) = (Arc::clone(taker), Arc::clone(&taken));
        tasks.spawn(async move {
            let mut last = Instant::now();
            while taken.load(Relaxed) < events {
                let count = taker.take(limit).await?;
                taken.fetch_add(count as u64, Relaxed);
                if count > 0 {
                    last = Instant::now();
                } else {
                    // The others have all keys, or the last events.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let done = taken.load(Relaxed);
                    ensure!(last.elapsed() < PATIENCE, "a worker waits in vain, after {done} of {events}");
                }
            }
            Ok(())
        });
    }
    while let Some(worker) = tasks.join_next().await {
        worker??;
    }
    Ok((taken.load(Relaxed), start.elapsed()))
}

/// Events a second.
#[expect(clippy::cast_precision_loss, reason = "there are not that many events")]
pub(crate) fn rate(events: u64, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64()
}

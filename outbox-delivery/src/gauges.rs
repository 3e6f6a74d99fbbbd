//! How much a store holds, as metrics, for programs without a relay.

use outbox_traits::StatsStore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    IntoStore, guard,
    housekeeping::{STATS_INTERVAL, stats_of},
    meter::Meter,
};

/// Reports how much a store holds, every ten seconds and until `shutdown` is cancelled: the gauges that a relay
/// reports [with its stats](crate::Relay::with_stats), under the name of a relay.
///
/// For a program that writes events and runs no relay: so the gauges, and the alerts on them, are there when all relays
/// are down. An error of the store is logged, and the gauges stay as they are.
///
/// ```
/// use outbox_delivery::{CancellationToken, report_stats};
/// use outbox_traits::StatsStore;
///
/// fn report(store: impl StatsStore, shutdown: CancellationToken) {
///     tokio::spawn(report_stats(store, "orders", shutdown));
/// }
/// ```
pub async fn report_stats<Form>(
    store: impl IntoStore<Form, dyn StatsStore>,
    name: impl Into<String>,
    shutdown: CancellationToken,
) {
    let (store, meter) = (store.into_store(), Meter::new(&name.into()));
    let reporting = async {
        loop {
            match stats_of(&*store).await {
                Ok(stats) => meter.stats(&stats),
                Err(error) => {
                    let error = guard::into_text(error);
                    tracing::warn!(error, "the outbox store does not say how much it holds");
                }
            }
            sleep(STATS_INTERVAL).await;
        }
    };
    shutdown.run_until_cancelled(reporting).await;
}

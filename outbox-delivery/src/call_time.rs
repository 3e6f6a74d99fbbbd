//! For how long a call of the transport may begin events.

use std::time::Duration;

use outbox_traits::limit_call;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A call that may take so long, of a relay that may be stopped. When half of the time is over it begins nothing more: the rest is for
/// what has begun by then.
pub(crate) fn limited<T>(
    time: Duration,
    stop: &CancellationToken,
    call: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let (half, stop) = (Instant::now() + time / 2, stop.clone());
    limit_call(move || half <= Instant::now() || stop.is_cancelled(), call)
}

//! The connection.

use std::{
    fmt::{self, Display},
    io,
    sync::{Mutex as BlockingMutex, MutexGuard, PoisonError},
    time::Duration,
};

use outbox_traits::PublishError;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::timeout};

use crate::guard;

/// One connection that all calls share, made when it is wanted and made anew when it was lost.
pub(super) struct Connections {
    client: Client,
    pub(super) timeout: Duration,
    /// Held while it is made, so that one call makes it and the others wait.
    connecting: Mutex<()>,
    current: BlockingMutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Which connection it is, so that only who has used it can drop it.
    number: u64,
}

impl Connections {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, PublishError> {
        // Its error might say a part of the URL.
        let client = Client::open(url).map_err(|_| PublishError::unavailable(unusable(url)))?;
        Ok(Self { client, timeout, connecting: Mutex::default(), current: BlockingMutex::default() })
    }

    /// The host and the port: what an error may say of the URL.
    pub(super) fn address(&self) -> impl Display + fmt::Debug {
        self.client.get_connection_info().addr().to_string()
    }

    /// The connection, and its number, within the time for both: to wait for others who wait for a server that says
    /// nothing, and then to wait for it too.
    pub(super) async fn get(&self) -> Result<(MultiplexedConnection, u64), RedisError> {
        let in_vain = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        timeout(self.timeout, self.connect()).await.unwrap_or_else(in_vain)
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, u64), RedisError> {
        if let Some(current) = self.live() {
            return Ok(current);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(current) = self.live() {
            return Ok(current);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config);
        // No event is to blame where TLS has no provider, for which `rustls` panics.
        let panicked =
            |panic: String| Err(io::Error::other(format!("the client panicked: {}", panic.trim())).into());
        let connection = guard::wait(connection).await.unwrap_or_else(panicked)?;
        let mut current = self.current();
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((connection, current.number))
    }

    /// Drops the connection of this number: the next call makes a new one.
    pub(super) fn forget(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            current.connection = None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<(MultiplexedConnection, u64)> {
        let current = self.current();
        Some((current.connection.clone()?, current.number))
    }
}

/// Why the client takes no such URL, and what to do.
fn unusable(url: &str) -> &'static str {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let wants_tls = matches!(scheme.as_str(), "rediss" | "valkeys");
    if wants_tls && Client::open("rediss://localhost/").is_err() {
        "the URL of Redis wants TLS, of which the crate `redis` has nothing: switch its feature `tokio-rustls-comp` on"
    } else {
        "the URL of Redis cannot be read: write it as redis://user:password@host:6379/0"
    }
}

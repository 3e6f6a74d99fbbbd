//! Connections that are there in time, and say when they have ended.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use hyper::{
    Uri,
    http::Extensions,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service;

type Https = HttpsConnector<HttpConnector>;

/// With a limit for all that a connection takes. That of the connector itself is of TCP alone, and neither of the name
/// nor of TLS.
#[derive(Clone, Debug)]
pub(super) struct InTime {
    pub(super) connector: Https,
    pub(super) limit: Duration,
}

impl Service<Uri> for InTime {
    type Response = Watched<<Https as Service<Uri>>::Response>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, limit) = (self.connector.call(to), self.limit);
        async move {
            let connected = timeout(limit, connecting).await.unwrap_or_else(|_| {
                let message = format!("it was not there within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            });
            connected.map(Watched::new)
        }
        .boxed()
    }
}

/// A connection whose end can be waited for.
pub(super) struct Watched<T> {
    stream: T,
    end: End,
    _guard: DropGuard,
}

/// Cancelled when the connection is dropped.
#[derive(Clone)]
struct End(CancellationToken);

impl<T> Watched<T> {
    fn new(stream: T) -> Self {
        let end = CancellationToken::new();
        Self { stream, end: End(end.clone()), _guard: end.drop_guard() }
    }
}

impl End {
    fn of(connected: Option<&Connected>) -> Option<Self> {
        let mut extras = Extensions::new();
        connected?.get_extras(&mut extras);
        extras.remove()
    }
}

/// Returns if the connection of a request has ended, and the client has neither told nor taken another one a second
/// later. It never will then: a request that is handed to a connection at the moment at which that one ends can get
/// lost between them (<https://github.com/hyperium/hyper/issues/4122>).
pub(super) async fn is_lost(mut captured: CaptureConnection) {
    const SURELY: Duration = Duration::from_secs(1);

    loop {
        let end = End::of(captured.wait_for_connection_metadata().await.as_ref());
        let Some(End(end)) = end else { return std::future::pending().await };
        end.cancelled().await;
        sleep(SURELY).await;
        if End::of(captured.connection_metadata().as_ref()).is_some_and(|End(end)| end.is_cancelled()) {
            return;
        }
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.end.clone())
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

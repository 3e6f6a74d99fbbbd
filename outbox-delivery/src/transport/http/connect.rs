//! Connections that are there in time.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use hyper::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
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
    type Response = <Https as Service<Uri>>::Response;
    type Error = <Https as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, limit) = (self.connector.call(to), self.limit);
        async move {
            timeout(limit, connecting).await.unwrap_or_else(|_| {
                let message = format!("it was not there within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })
        }
        .boxed()
    }
}

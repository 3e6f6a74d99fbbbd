//! A client of HTTP/1.1, with connections that are kept.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use outbox_traits::PublishError;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{
    HttpConfigError,
    connect::{InTime, is_lost},
};

/// For a connection, with TLS.
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);
/// Of an answer; by default the client takes a hundred.
const MAX_HEADERS: usize = 1000;

pub(super) struct Client {
    client: legacy::Client<InTime, Full<Bytes>>,
    connector: HttpsConnector<HttpConnector>,
}

impl Client {
    pub(super) fn new(url: &Uri) -> Result<Self, HttpConfigError> {
        // Named and not taken from the process, which may have another one, or two.
        let provider = ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = if url.scheme_str() == Some("https") {
            let builder = builder.with_provider_and_native_roots(provider).map_err(|error| {
                HttpConfigError::new("the machine has no root certificates").with_source(error)
            })?;
            builder.https_only()
        } else {
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| HttpConfigError::new("TLS cannot be set up").with_source(error))?;
            let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
            builder.with_tls_config(config).https_or_http()
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        Ok(Self::with(builder.enable_http1().wrap_connector(connector), CONNECT))
    }

    fn with(connector: HttpsConnector<HttpConnector>, limit: Duration) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_headers(MAX_HEADERS)
            .build(InTime { connector: connector.clone(), limit });
        Self { client, connector }
    }

    /// For requests that may take so long: a connection that is not there is known to be none a little before.
    pub(super) fn for_requests_of(self, timeout: Duration) -> Self {
        Self::with(self.connector, CONNECT.min(timeout.mul_f64(0.9)))
    }

    /// Sends it, and once more where a connection that was kept turned out to be broken: a server that is gone
    /// refuses the second, and an event that breaks its connection breaks that one too.
    pub(super) async fn send(
        &self,
        request: &Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, PublishError> {
        let broken = match self.send_once(request).await {
            Ok(response) => return Ok(response),
            Err(Broken::Connecting(error)) => Broken::Connecting(error),
            Err(_) => match self.send_once(request).await {
                Ok(response) => return Ok(response),
                Err(broken) => broken,
            },
        };
        let message = "the connection broke before the webhook answered";
        Err(match broken {
            Broken::Connecting(error) => {
                PublishError::unavailable("no connection to the webhook").with_source(plain(&error))
            }
            Broken::Connected(error) => PublishError::failed(message).with_source(plain(&error)),
            Broken::Lost => PublishError::failed(message),
        })
    }

    async fn send_once(&self, request: &Request<Full<Bytes>>) -> Result<Response<Incoming>, Broken> {
        let mut request = request.clone();
        let captured = capture_connection(&mut request);
        tokio::select! {
            biased;
            response = self.client.request(request) => response.map_err(|error| {
                if error.is_connect() { Broken::Connecting(error) } else { Broken::Connected(error) }
            }),
            () = is_lost(captured) => Err(Broken::Lost),
        }
    }
}

enum Broken {
    Connecting(legacy::Error),
    Connected(legacy::Error),
    /// The connection is gone, and the client does not know it.
    Lost,
}

/// The client's own error says only that a connection failed, and its cause why.
fn plain(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

//! A real server of HTTP/1.1 that takes webhooks, and can be stopped and started.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Answer = dyn Fn(&Posted) -> Response<Full<Bytes>> + Send + Sync;

/// Answers as it is told, and keeps what it answered with a 2xx.
pub(crate) struct Server {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<Posted>>>,
    answer: Arc<Answer>,
    running: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Server {
    pub(crate) async fn with(
        answer: impl Fn(&Posted) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let address = loop {
            let address = SocketAddr::from((loopback().await, fastrand::u16(12_000..32_000)));
            if TcpListener::bind(address).await.is_ok() {
                break address;
            }
        };
        let server =
            Self { address, accepted: Arc::default(), answer: Arc::new(answer), running: Mutex::new(None) };
        server.start().await;
        server
    }

    pub(crate) async fn answering(status: u16) -> Self {
        Self::with(move |_| answer(status, "")).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?token=s3cret", self.address)
    }

    pub(crate) fn accepted(&self) -> Vec<Posted> {
        self.accepted.lock().unwrap().clone()
    }

    pub(crate) async fn start(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port of the server");
        let (accepted, answer) = (Arc::clone(&self.accepted), Arc::clone(&self.answer));
        let stopped = CancellationToken::new();
        let is_stopped = stopped.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(Ok((stream, _))) = is_stopped.run_until_cancelled(listener.accept()).await {
                let (accepted, answer) = (Arc::clone(&accepted), Arc::clone(&answer));
                let service =
                    service_fn(move |request| serve(request, Arc::clone(&accepted), Arc::clone(&answer)));
                connections.spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
            drop(listener);
            // Also of one that is just answering: who has stopped the server is not to find that it takes an event.
            connections.shutdown().await;
        });
        *self.running.lock().unwrap() = Some((stopped, task));
    }

    /// The port is closed and all connections are broken when this returns.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some((stopped, task)) = running {
            stopped.cancel();
            task.await.unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((_, task)) = self.running.lock().unwrap().take() {
            task.abort();
        }
    }
}

/// An address that no other server has, where the system has more than one of this machine: with a port that the system
/// does not give out by itself, nobody gets it while the server is down.
async fn loopback() -> Ipv4Addr {
    let address = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
    if TcpListener::bind((address, 0)).await.is_ok() { address } else { Ipv4Addr::LOCALHOST }
}

async fn serve(
    request: Request<Incoming>,
    accepted: Arc<Mutex<Vec<Posted>>>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(self::answer(400, "")) };
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let posted =
        Posted { method: head.method.to_string(), path, headers: head.headers, body: body.to_bytes() };
    let response = answer(&posted);
    if response.status().is_success() {
        accepted.lock().unwrap().push(posted);
    }
    Ok(response)
}

pub(crate) fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

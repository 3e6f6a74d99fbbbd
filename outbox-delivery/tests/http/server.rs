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
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub(crate) async fn with(
        answer: impl Fn(&Posted) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        // Not of the ports that the system gives out by itself: nobody gets it while the server is down.
        let address = loop {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(12_000..32_000)));
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
        let task = tokio::spawn(async move {
            // Dropped with this task, which ends the connections.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (accepted, answer) = (Arc::clone(&accepted), Arc::clone(&answer));
                let service =
                    service_fn(move |request| serve(request, Arc::clone(&accepted), Arc::clone(&answer)));
                connections.spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        *self.running.lock().unwrap() = Some(task);
    }

    pub(crate) async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(task) = running {
            task.abort();
            let _ = task.await;
        }
        // The connections are tasks too, and end a little later.
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.running.lock().unwrap().take() {
            task.abort();
        }
    }
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

//! What stands between the transport and the broker, and lets through what it is told to.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

#[derive(Clone)]
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    /// Nothing goes through the first so many connections any more, and they stay open.
    silent: AtomicUsize,
    keeps_confirms: AtomicBool,
    keeps_waiting: AtomicBool,
}

impl Proxy {
    /// In front of the broker at this URL.
    pub(crate) async fn to(url: &str) -> Self {
        Self::at("127.0.0.1:0", url).await.unwrap()
    }

    /// The same, at an address of this machine, if it has that.
    pub(crate) async fn at(own: &str, url: &str) -> io::Result<Self> {
        let (start, vhost) = url.rsplit_once('/').unwrap();
        let (start, address) = start.rsplit_once('@').unwrap();
        let listener = TcpListener::bind(own).await?;
        let url = format!("{start}@{}/{vhost}", listener.local_addr().unwrap());
        let (address, state) = (address.to_owned(), Arc::<State>::default());
        let proxy = Self { url, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = state.connections.fetch_add(1, SeqCst);
                let (address, state) = (address.clone(), Arc::clone(&state));
                tokio::spawn(async move {
                    while state.keeps_waiting.load(SeqCst) {
                        sleep(Duration::from_millis(10)).await;
                    }
                    let server = TcpStream::connect(&address).await.unwrap();
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(forward(from_client, to_server, Arc::clone(&state), number));
                    tokio::spawn(answer(from_server, to_client, state, number));
                });
            }
        });
        Ok(proxy)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// As when a cable is cut: of the connections that there are, nobody hears anything any more.
    pub(crate) fn cut(&self) {
        self.state.silent.store(self.connections(), SeqCst);
    }

    /// Whether what connects is taken, and hears nothing until this ends.
    pub(crate) fn keep_waiting(&self, keeps: bool) {
        self.state.keeps_waiting.store(keeps, SeqCst);
    }

    /// Whether confirms are kept back, and nothing else.
    pub(crate) fn keep_confirms(&self, keeps: bool) {
        self.state.keeps_confirms.store(keeps, SeqCst);
    }
}

impl State {
    fn is_silent(&self, number: usize) -> bool {
        number < self.silent.load(SeqCst)
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>, number: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !state.is_silent(number) && to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

/// Frame by frame: a type, a channel, a length, so many bytes and an end.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>, number: usize) {
    const BASIC_ACK: &[u8] = &[0, 60, 0, 80];
    let mut head = [0; 7];
    while from.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
        let mut body = vec![0; length + 1];
        if from.read_exact(&mut body).await.is_err() {
            break;
        }
        let is_kept = state.keeps_confirms.load(SeqCst) && head[0] == 1 && body.starts_with(BASIC_ACK);
        if !is_kept && !state.is_silent(number) && to.write_all(&[&head[..], &body].concat()).await.is_err() {
            break;
        }
    }
}

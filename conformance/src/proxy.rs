//! The way to a server, which a test can cut.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Passes bytes on between a store and its server until the test cuts them off: all at once, as when the server is gone
/// ([`go_down`](Self::go_down)) or the network is ([`go_silent`](Self::go_silent)), or at one message of a call
/// ([`cut_at`](Self::cut_at)). It can hold a call up in the middle of it, too ([`hold_at`](Self::hold_at)).
///
/// The clauses of the groups `outage`, `claim_outage`, `claim_meeting` and `wake_outage` open it by themselves, for the server
/// that an [`OutageHarness`](crate::OutageHarness) names. Tests of a backend that are not part of the suite use it too. It ends
/// when it is dropped, and whoever is connected with it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// What all connections go by.
#[derive(Debug)]
struct Line {
    state: watch::Sender<State>,
    /// So many messages are passed on, and what is done then.
    left: Mutex<Option<(usize, Then)>>,
    accepted: AtomicUsize,
    round_trips: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Cut,
    GoDown,
    Hold,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_down: bool,
    /// Nothing is passed on for now.
    is_held: bool,
    /// How often all connections were closed.
    closed: usize,
    /// How often those that were open fell silent.
    silenced: usize,
}

impl Proxy {
    /// A way to the server at this `host:port`.
    ///
    /// # Errors
    /// If no port of this machine can be listened to.
    pub async fn to(server: impl Into<String>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let line = Arc::new(Line {
            state: watch::Sender::default(),
            left: Mutex::default(),
            accepted: AtomicUsize::new(0),
            round_trips: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, server.into(), Arc::clone(&line)));
        Ok(Self { port, line, accepting })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and each that is opened from now on, at once.
    pub fn go_down(&self) {
        self.line.close_all(true);
    }

    /// Ends [`go_down`](Self::go_down).
    pub fn come_back(&self) {
        self.line.state.send_modify(|state| state.is_down = false);
    }

    /// Passes nothing more on from one side of a connection that is open now to the other, without closing it, as a network
    /// does that forgets it. Connections that are opened after that are let alone.
    pub fn go_silent(&self) {
        self.line.state.send_modify(|state| state.silenced += 1);
    }

    /// Passes so many messages on, of both directions and all connections together, and closes all connections instead of
    /// passing on the next one. Connections that are opened after that are let alone.
    ///
    /// A message is what arrives at once, which is what one side has sent at once unless it is large.
    pub fn cut_at(&self, messages: usize) {
        *self.line.left() = Some((messages, Then::Cut));
    }

    /// The same, and [goes down](Self::go_down) then: as where whoever made the call has died in the middle of it.
    pub fn go_down_at(&self, messages: usize) {
        *self.line.left() = Some((messages, Then::GoDown));
    }

    /// Passes so many messages on, as [`cut_at`](Self::cut_at) does, and holds up the next one and all that come after it, until
    /// [`let_through`](Self::let_through): whatever is done meanwhile is done in the middle of the call.
    pub fn hold_at(&self, messages: usize) {
        *self.line.left() = Some((messages, Then::Hold));
    }

    /// Waits until a message is held up.
    pub async fn is_held(&self) {
        until(&mut self.line.state.subscribe(), |state| state.is_held).await;
    }

    /// Ends [`hold_at`](Self::hold_at): what was held up passes, and so does what comes.
    pub fn let_through(&self) {
        *self.line.left() = None;
        self.line.state.send_modify(|state| state.is_held = false);
    }

    /// Takes a [`cut_at`](Self::cut_at) or [`go_down_at`](Self::go_down_at) back, and says whether it has cut already.
    #[must_use]
    pub fn spare(&self) -> bool {
        self.line.left().take().is_none()
    }

    /// How often somebody has connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.line.accepted.load(Relaxed)
    }

    /// How often somebody has asked the server for something, over all connections together: each time that he sends after
    /// the server has, or first of all, however long that is.
    #[must_use]
    pub fn round_trips(&self) -> usize {
        self.line.round_trips.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.line.close_all(true);
    }
}

impl Line {
    fn left(&self) -> MutexGuard<'_, Option<(usize, Then)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_all(&self, is_down: bool) {
        self.state.send_modify(|state| {
            *state = State { is_down, is_held: false, closed: state.closed + 1, ..*state };
        });
    }

    /// Counts a message, and does what is to be done at this one. Whether it may pass.
    fn passes(&self) -> bool {
        let mut left = self.left();
        let then = match left.as_mut() {
            None => return true,
            Some((0, then)) => *then,
            Some((left, _)) => {
                *left -= 1;
                return true;
            }
        };
        *left = None;
        match then {
            Then::Cut => self.close_all(false),
            Then::GoDown => self.close_all(true),
            Then::Hold => {
                self.state.send_modify(|state| state.is_held = true);
                return true;
            }
        }
        false
    }

    /// Whether a connection of then is one still. What was sent after it was closed may be there before its end is.
    fn is_open(&self, opened: &State) -> bool {
        let now = self.state.borrow();
        (now.closed, now.silenced) == (opened.closed, opened.silenced)
    }

    /// Until one side ends, or the message is not to pass. Calls back before each that is passed on.
    async fn pump(
        &self,
        opened: &State,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        passes_on: impl Fn(),
    ) -> io::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut bytes).await?;
            if !self.is_open(opened) {
                // Whoever waits for its end is told.
                return std::future::pending().await;
            }
            if length == 0 || !self.passes() {
                return Ok(());
            }
            until(&mut self.state.subscribe(), |state| !state.is_held).await;
            if !self.is_open(opened) {
                return std::future::pending().await;
            }
            passes_on();
            to.write_all(&bytes[..length]).await?;
        }
    }
}

async fn accept(listener: TcpListener, server: String, line: Arc<Line>) {
    while let Ok((mut client, _)) = listener.accept().await {
        line.accepted.fetch_add(1, Relaxed);
        let mut state = line.state.subscribe();
        let opened = *state.borrow_and_update();
        if opened.is_down {
            continue;
        }
        let (server, line) = (server.clone(), Arc::clone(&line));
        tokio::spawn(async move {
            let mut silence = state.clone();
            let closed = until(&mut state, |state| state.closed != opened.closed);
            let silenced = until(&mut silence, |state| state.silenced != opened.silenced);
            let passed_on = async {
                // What the server has sent by then is lost.
                tokio::select! {
                    () = silenced => std::future::pending::<()>().await,
                    _ = pass_on(&mut client, &server, &line, &opened) => {}
                }
            };
            tokio::select! {
                () = closed => {}
                () = passed_on => {}
            }
        });
    }
}

async fn until(state: &mut watch::Receiver<State>, has_come: impl FnMut(&State) -> bool) {
    state.wait_for(has_come).await.ok();
}

async fn pass_on(client: &mut TcpStream, server: &str, line: &Line, opened: &State) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let is_asked = AtomicBool::new(false);
    let asks = || {
        if !is_asked.swap(true, Relaxed) {
            line.round_trips.fetch_add(1, Relaxed);
        }
    };
    tokio::select! {
        ended = line.pump(opened, from_client, to_server, asks) => ended,
        ended = line.pump(opened, from_server, to_client, || is_asked.store(false, Relaxed)) => ended,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that sends back whatever it is sent.
    async fn echo() -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
    }

    /// Sends a byte, and says whether it comes back.
    async fn is_answered(client: &mut TcpStream) -> bool {
        let mut byte = [7];
        let answered = async {
            client.write_all(&byte).await?;
            client.read_exact(&mut byte).await
        };
        timeout(Duration::from_secs(20), answered).await.expect("neither answered nor cut off").is_ok()
    }

    #[tokio::test]
    async fn what_is_cut_off_is_the_message_that_was_asked_for() {
        let proxy = Proxy::to(echo().await).await.unwrap();
        for (messages, answered) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)] {
            let (mut one, mut other) = (connect(&proxy).await, connect(&proxy).await);
            assert!(is_answered(&mut one).await && is_answered(&mut other).await);
            let before = proxy.round_trips();
            proxy.cut_at(messages);
            for _ in 0..answered {
                assert!(is_answered(&mut one).await, "cut at {messages}");
            }
            assert!(!is_answered(&mut one).await, "cut at {messages}");
            assert!(proxy.spare(), "it says that it has cut");
            assert_eq!(proxy.round_trips() - before, messages.div_ceil(2), "it counts what it passes on");
            assert!(!is_answered(&mut other).await, "all are cut");
        }
        let mut client = connect(&proxy).await;
        proxy.go_down_at(1);
        assert!(!is_answered(&mut client).await && !is_answered(&mut connect(&proxy).await).await);
        assert!(proxy.spare(), "it says that it has cut");
        proxy.come_back();
        let mut client = connect(&proxy).await;
        proxy.cut_at(9);
        assert!(is_answered(&mut client).await);
        assert!(!proxy.spare(), "it has not cut");
        for _ in 0..9 {
            assert!(is_answered(&mut client).await, "and does not any more");
        }
    }

    /// Though the proxy, on a thread of its own, hears of both at the same moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_sent_after_it_was_cut_does_not_arrive() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().to_string()).await.unwrap();
        let cuts: [fn(&Proxy); 2] = [Proxy::go_down, Proxy::go_silent];
        for round in 0..100 {
            proxy.come_back();
            let mut client = connect(&proxy).await;
            let (mut server, _) = listener.accept().await.unwrap();
            let mut byte = [7];
            client.write_all(&byte).await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
            cuts[round % 2](&proxy);
            assert_eq!(client.try_write(&byte).unwrap(), 1);
            proxy.go_down();
            assert!(client.read_exact(&mut byte).await.is_err(), "it was cut");
            let arrived = server.read(&mut byte).await;
            assert!(!matches!(arrived, Ok(1)), "round {round}: it arrived all the same");
        }
    }

    #[tokio::test]
    async fn what_is_open_falls_silent_and_what_comes_later_does_not() {
        let proxy = Proxy::to(echo().await).await.unwrap();
        let mut silent = connect(&proxy).await;
        assert!(is_answered(&mut silent).await);
        proxy.go_silent();
        let mut later = connect(&proxy).await;
        assert!(is_answered(&mut later).await);
        silent.write_all(&[7]).await.unwrap();
        let mut byte = [0];
        let heard = timeout(Duration::from_millis(200), silent.read_exact(&mut byte));
        assert!(heard.await.is_err(), "neither answered nor cut off");
        proxy.go_down();
        assert!(!is_answered(&mut silent).await);
    }

    #[tokio::test]
    async fn nobody_gets_through_while_it_is_down() {
        let proxy = Proxy::to(echo().await).await.unwrap();
        let mut client = connect(&proxy).await;
        assert!(is_answered(&mut client).await);
        proxy.go_down();
        assert!(!is_answered(&mut client).await);
        assert!(!is_answered(&mut connect(&proxy).await).await);
        assert_eq!(proxy.connections(), 2);
        proxy.come_back();
        let mut client = connect(&proxy).await;
        assert!(is_answered(&mut client).await);
        drop(proxy);
        assert!(!is_answered(&mut client).await);
    }
}

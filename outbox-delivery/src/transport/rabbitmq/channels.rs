//! The connection and its channels.

use std::{
    fmt::{self, Display},
    iter, mem,
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use lapin::{
    Channel, Connection, ConnectionProperties, options::ConfirmSelectOptions, types::LongString, uri::AMQPUri,
};
use outbox_traits::PublishError;
use tokio::{sync::Mutex, time::Instant};

use super::uri;

/// One connection, made when it is wanted and made anew when it was lost, and channels of it that confirm. A
/// channel belongs to one call at a time: what closes it was then a message of that call.
pub(super) struct Channels {
    uri: AMQPUri,
    /// Held while it is made, so that one call makes it and the others wait.
    connecting: Mutex<Option<Connecting>>,
    state: BlockingMutex<State>,
}

/// A connection that is being made. The client keeps one that nobody waits for any more for as long as the other side does, which
/// may take connections and say nothing: so who comes next waits for the same one.
struct Connecting {
    began: Instant,
    made: BoxFuture<'static, Result<Connection, lapin::Error>>,
}

/// Then another may come to where somebody answers.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// Which connection it is, so that only who has used it can drop it, and no channel outlives it.
    number: u64,
    idle: Vec<Channel>,
}

/// A channel in somebody's hands.
pub(super) struct Taken {
    pub(super) channel: Channel,
    /// How large a frame may be, by the agreement with the broker.
    pub(super) frame_max: usize,
    /// Of its connection.
    number: u64,
}

impl Channels {
    pub(super) fn new(url: &str) -> Result<Self, PublishError> {
        Ok(Self { uri: uri::uri(url)?, connecting: Mutex::default(), state: BlockingMutex::default() })
    }

    /// The host and the port: what an error may say of the URL.
    pub(super) fn address(&self) -> impl Display + fmt::Debug {
        uri::address(&self.uri)
    }

    /// Whether the connection of this channel lives.
    pub(super) fn is_connected(&self, taken: &Taken) -> bool {
        self.connection_of(taken).is_some()
    }

    /// Whether the broker has said that it takes nothing for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.live_connection().is_some_and(|(connection, _)| connection.status().blocked())
    }

    /// Whether the broker still answers on the connection of this channel.
    pub(super) async fn is_answering(&self, taken: &Taken) -> bool {
        match self.connection_of(taken) {
            Some(connection) => {
                self.open(&connection, taken.number).await.map(|taken| self.give_back(taken)).is_ok()
            }
            None => false,
        }
    }

    /// A channel of a live connection.
    pub(super) async fn take(&self) -> Result<Taken, lapin::Error> {
        if let Some(taken) = self.idle_channel() {
            return Ok(taken);
        }
        let (connection, number) = self.connection().await?;
        let opened = self.open(&connection, number).await;
        if opened.is_err() {
            // The client keeps what a channel was closed for, and opens no other under its number: after some two thousand
            // a connection that lives has no channels left.
            self.leave(number);
        }
        opened
    }

    async fn open(&self, connection: &Connection, number: u64) -> Result<Taken, lapin::Error> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Taken { channel, frame_max: frame_max(connection), number })
    }

    /// Keeps a channel for the next call, if it still lives.
    pub(super) fn give_back(&self, taken: Taken) {
        let mut state = self.state();
        if taken.number == state.number && taken.channel.status().connected() {
            state.idle.push(taken.channel);
        }
    }

    /// Drops the connection of this channel: the next call makes a new one.
    pub(super) fn disconnect(&self, taken: &Taken) {
        self.leave(taken.number);
    }

    fn leave(&self, number: u64) {
        let mut state = self.state();
        if number == state.number {
            let dropped = (state.connection.take(), mem::take(&mut state.idle));
            drop(state);
            drop(dropped);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_channel(&self) -> Option<Taken> {
        let (connection, number) = self.live_connection()?;
        let mut state = self.state();
        if state.number != number {
            return None;
        }
        let channel = iter::from_fn(|| state.idle.pop()).find(|channel| channel.status().connected())?;
        Some(Taken { channel, frame_max: frame_max(&connection), number })
    }

    fn connection_of(&self, taken: &Taken) -> Option<Arc<Connection>> {
        self.live_connection().filter(|(_, number)| *number == taken.number).map(|(connection, _)| connection)
    }

    fn live_connection(&self) -> Option<(Arc<Connection>, u64)> {
        let state = self.state();
        let connection = state.connection.clone().filter(|connection| connection.status().connected())?;
        Some((connection, state.number))
    }

    fn connect(&self) -> Connecting {
        let properties = ConnectionProperties::default().with_connection_name(LongString::from("outbox"));
        let made = Connection::connect_uri(self.uri.clone(), properties).boxed();
        Connecting { began: Instant::now(), made }
    }

    /// The connection, and its number.
    async fn connection(&self) -> Result<(Arc<Connection>, u64), lapin::Error> {
        if let Some(connection) = self.live_connection() {
            return Ok(connection);
        }
        let mut connecting = self.connecting.lock().await;
        if let Some(connection) = self.live_connection() {
            return Ok(connection);
        }
        connecting.take_if(|connecting| connecting.began.elapsed() >= PATIENCE);
        let made = (&mut connecting.get_or_insert_with(|| self.connect()).made).await;
        *connecting = None;
        let connection = Arc::new(made?);
        let mut state = self.state();
        let number = state.number + 1;
        let dropped = mem::replace(
            &mut *state,
            State { connection: Some(Arc::clone(&connection)), number, idle: Vec::new() },
        );
        drop(state);
        drop(dropped);
        Ok((connection, number))
    }
}

fn frame_max(connection: &Connection) -> usize {
    usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX)
}

//! The connection and its channels.

use std::{
    fmt::{self, Display},
    sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError},
};

use lapin::{
    Channel, Connection, ConnectionProperties, options::ConfirmSelectOptions, types::LongString, uri::AMQPUri,
};
use outbox_traits::PublishError;
use tokio::sync::Mutex;

/// One connection, made when it is wanted and made anew when it was lost, and channels of it that confirm. A
/// channel belongs to one call at a time: what closes it was then a message of that call.
pub(super) struct Channels {
    uri: AMQPUri,
    /// Held while it is made, so that one call makes it and the others wait.
    connecting: Mutex<()>,
    state: BlockingMutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    idle: Vec<Channel>,
}

impl Channels {
    pub(super) fn new(url: &str) -> Result<Self, PublishError> {
        // Its error says the whole URL, with the password.
        let uri = url.parse::<AMQPUri>().map_err(|_| {
            PublishError::unavailable(
                "the URL of RabbitMQ cannot be read: write it as amqp://user:password@host:5672/vhost",
            )
        })?;
        Ok(Self { uri, connecting: Mutex::default(), state: BlockingMutex::default() })
    }

    /// The host and the port: what an error may say of the URL.
    pub(super) fn address(&self) -> impl Display + fmt::Debug {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state().connection.as_ref().is_some_and(|connection| connection.status().connected())
    }

    /// A channel of a live connection.
    pub(super) async fn take(&self) -> Result<Channel, lapin::Error> {
        if let Some(channel) = self.idle_channel() {
            return Ok(channel);
        }
        let channel = self.connection().await?.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Keeps a channel for the next call, if it still lives.
    pub(super) fn give_back(&self, channel: Channel) {
        if channel.status().connected() {
            self.state().idle.push(channel);
        }
    }

    /// Drops the connection: the next call makes a new one.
    pub(super) fn disconnect(&self) {
        let dropped = std::mem::take(&mut *self.state());
        drop(dropped);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_channel(&self) -> Option<Channel> {
        let mut state = self.state();
        std::iter::from_fn(|| state.idle.pop()).find(|channel| channel.status().connected())
    }

    fn live_connection(&self) -> Option<Arc<Connection>> {
        self.state().connection.clone().filter(|connection| connection.status().connected())
    }

    async fn connection(&self) -> Result<Arc<Connection>, lapin::Error> {
        if let Some(connection) = self.live_connection() {
            return Ok(connection);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.live_connection() {
            return Ok(connection);
        }
        let properties = ConnectionProperties::default().with_connection_name(LongString::from("outbox"));
        let connection = Arc::new(Connection::connect_uri(self.uri.clone(), properties).await?);
        *self.state() = State { connection: Some(Arc::clone(&connection)), idle: Vec::new() };
        Ok(connection)
    }
}

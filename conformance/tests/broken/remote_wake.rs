//! Wake-ups of a store that is reached over a network, and what can be wrong with them.

use std::{future::pending, sync::Arc, time::Duration};

use outbox_memory::MemoryOutbox;
use outbox_traits::{Result, WakeStore, Wakeups, async_trait};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fault::Fault,
    remote::{PAUSE, RemoteStore, Shared, round_trip},
};

#[async_trait]
impl WakeStore for RemoteStore {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        let mut current = self.hearing.lock().await;
        let shared = current.upgrade().filter(|_| self.fault != Fault::EachListenerConnects);
        let hearing = match shared {
            Some(hearing) => hearing,
            None => Arc::new(self.hear().await?),
        };
        *current = Arc::downgrade(&hearing);
        Ok(Box::new(RemoteWakeups { heard: hearing.heard.subscribe(), _hearing: hearing }))
    }
}

impl RemoteStore {
    async fn hear(&self) -> Result<Hearing> {
        self.ask().await?;
        let connection = round_trip(None, self.port).await.expect("it was reached just now");
        let mut ear = Ear {
            fault: self.fault,
            port: self.port,
            store: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            inner: self.inner.wakeups().await?,
            told: self.shared.told.subscribe(),
            connection: Some(connection),
            again_at: Instant::now(),
        };
        let heard = watch::Sender::new(());
        let hears = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                ear.wait().await;
                hears.send_replace(());
                tokio::task::yield_now().await;
            }
        });
        Ok(Hearing { heard, task })
    }
}

/// What hears of commits, for all who listen on one handle.
#[derive(Debug)]
pub(crate) struct Hearing {
    heard: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct RemoteWakeups {
    heard: watch::Receiver<()>,
    _hearing: Arc<Hearing>,
}

#[async_trait]
impl Wakeups for RemoteWakeups {
    async fn wait(&mut self) {
        self.heard.changed().await.expect("it is heard for as long as somebody listens");
    }
}

/// It hears as long as it is connected.
#[derive(Debug)]
struct Ear {
    fault: Fault,
    port: u16,
    store: MemoryOutbox,
    shared: Arc<Shared>,
    inner: Box<dyn Wakeups>,
    told: watch::Receiver<()>,
    connection: Option<TcpStream>,
    again_at: Instant,
}

impl Ear {
    async fn wait(&mut self) {
        loop {
            if let Some(connection) = &mut self.connection {
                let hears_itself = self.fault != Fault::ACommitIsToldOnce;
                let asks = self.fault == Fault::AListenerAsksAllTheTime;
                tokio::select! {
                    () = self.inner.wait(), if hears_itself => return,
                    _ = self.told.changed(), if !hears_itself => return,
                    _ = connection.read_u8() => self.connection = None,
                    () = sleep(Duration::from_millis(2)), if asks => {
                        self.connection = round_trip(self.connection.take(), self.port).await.ok();
                        continue;
                    }
                }
            }
            match self.fault {
                Fault::AListenerGivesUp => pending().await,
                Fault::AListenerConnectsWithoutAPause => {}
                Fault::AnOutageWakesAllTheTime if Instant::now() < self.again_at => return,
                _ => sleep_until(self.again_at).await,
            }
            let Ok(connection) = round_trip(None, self.port).await else {
                self.again_at = Instant::now() + PAUSE;
                continue;
            };
            let heard = match self.fault {
                Fault::AListenerIsDeafAfterAnOutage => &MemoryOutbox::new(),
                _ => &self.store,
            };
            self.inner = heard.wakeups().await.expect("a store in memory");
            self.told = self.shared.told.subscribe();
            self.connection = Some(connection);
            // Whatever was committed meanwhile nobody has told.
            if self.fault != Fault::WhatCameInAnOutageIsNotHeard {
                return;
            }
        }
    }
}

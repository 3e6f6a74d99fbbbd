//! What all who take part in a stress share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;

use crate::{engine::Engine, history::Recorder};

/// One who takes part: a writer, a worker or the keeper.
#[derive(Debug)]
pub(crate) struct Part<E> {
    pub(crate) engine: E,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rng: Rng,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) record: Recorder,
    /// Nobody begins anything more.
    stopped: AtomicBool,
    /// There is enough to deliver.
    pub(crate) is_full: AtomicBool,
    sessions: AtomicU64,
    /// How far the machine's clock was set back, in microseconds: so much longer leases and waits last.
    set_back: AtomicU64,
}

impl Shared {
    pub(crate) fn new(record: Recorder) -> Self {
        Self {
            record,
            stopped: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            set_back: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Relaxed)
    }

    /// The machine's clock was set so far on, or back.
    pub(crate) fn clock_set(&self, micros: i64) {
        if micros < 0 {
            self.set_back.fetch_add(micros.unsigned_abs(), Relaxed);
        }
        self.record.clock_set(micros);
    }

    pub(crate) fn set_back(&self) -> Duration {
        Duration::from_micros(self.set_back.load(Relaxed))
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}

impl<E: Engine> Part<E> {
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    pub(crate) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.rng.u64(least * 1000..=most * 1000))
    }

    pub(crate) async fn pause(&mut self, least: u64, most: u64) {
        let pause = self.millis(least, most);
        tokio::time::sleep(pause).await;
    }
}

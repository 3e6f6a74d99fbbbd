//! Brokers of a test's own, which it can kill and start again on the same port and with the same data.
//!
//! ```ignore
//! mod broker;
//!
//! let Some(mut broker) = require("restarts::nats", Broker::nats().await) else { return };
//! let transport = connect(broker.url()).await;
//! broker.kill().await;      // As a crash would end it: the port is closed when this returns.
//! // … the transport is down …
//! broker.start().await;     // The same URL, the same data; it takes connections when this returns.
//! // … the transport has come back by itself …
//! ```
//!
//! The programs are those that `OUTBOX_TEST_NATS_SERVER`, `OUTBOX_TEST_RABBITMQ_SERVER` and
//! `OUTBOX_TEST_REDIS_SERVER` name, which `cargo xtask test` and `cargo xtask servers env` set, else those on the
//! search path. NATS has JetStream, Redis an append-only file that it flushes
//! before it answers. RabbitMQ takes five to ten seconds for each start:
//! have few tests that restart it.

#![allow(dead_code, reason = "not every test needs all of it")]

mod child;
mod settings;

use std::{
    fmt,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use outbox_conformance::Skip;
use tempfile::TempDir;

use self::settings::Settings;

/// The password in every [`Broker::url`]. A test can look for it where it must not stand.
pub(crate) const PASSWORD: &str = "s3cret-of-the-tests";

/// A guard against hanging, no promise.
const START: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// A broker that runs on this machine for one test. It is killed and its data removed when this is dropped.
pub(crate) struct Broker {
    settings: Settings,
    child: Option<Child>,
    directory: TempDir,
}

impl Broker {
    /// A NATS with JetStream: `nats://user:password@127.0.0.1:port`.
    pub(crate) async fn nats() -> Result<Self, Skip> {
        Self::of(|directory| settings::nats(directory, "")).await
    }

    /// The same with room for a megabyte of messages on the disk.
    pub(crate) async fn small_nats() -> Result<Self, Skip> {
        Self::of(|directory| settings::nats(directory, "max_file_store: 1MB")).await
    }

    /// A NATS where JetStream is not switched on.
    pub(crate) async fn nats_without_jetstream() -> Result<Self, Skip> {
        Self::of(settings::nats_without_jetstream).await
    }

    /// A NATS with JetStream, of which the user may not ask whether it is there.
    pub(crate) async fn reserved_nats() -> Result<Self, Skip> {
        Self::of(settings::reserved_nats).await
    }

    /// A RabbitMQ: `amqp://user:password@127.0.0.1:port/%2f`.
    pub(crate) async fn rabbitmq() -> Result<Self, Skip> {
        Self::of(settings::rabbitmq).await
    }

    /// A Redis with an append-only file: `redis://:password@127.0.0.1:port/`.
    pub(crate) async fn redis() -> Result<Self, Skip> {
        Self::of(settings::redis).await
    }

    async fn of(settings: fn(&TempDir) -> Result<Settings, Skip>) -> Result<Self, Skip> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut broker = Self { settings: settings(&directory)?, child: None, directory };
        broker.start().await;
        Ok(broker)
    }

    /// Where it listens, the same for all its life.
    pub(crate) fn url(&self) -> &str {
        &self.settings.url
    }

    /// The port in [`url`](Self::url).
    pub(crate) fn port(&self) -> u16 {
        self.settings.port
    }

    /// Has RabbitMQ do what its own tool asks for, on the machine where it runs.
    pub(crate) fn control(&self, args: &[&str]) {
        let server = PathBuf::from(self.settings.args.last().expect("the program of the broker"));
        let output = Command::new(server.with_file_name("rabbitmqctl"))
            .args(args)
            .envs(self.settings.variables.iter().cloned())
            .output()
            .expect("rabbitmqctl");
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    /// Ends it as a crash would, with SIGKILL. Every connection is reset, and its port closed, when this returns.
    /// Does nothing if it does not run.
    pub(crate) async fn kill(&mut self) {
        self.end();
        // The kernel closes what the process had open by then, on Linux; elsewhere it may take a moment.
        let started = Instant::now();
        while self.settings.takes_connections() {
            assert!(started.elapsed() < START, "port {} is still open", self.settings.port);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts it on the same port and with the data that it left. It takes connections when this returns. Does
    /// nothing if it runs.
    pub(crate) async fn start(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = self.directory.path().join("log");
        let child = self.child.insert(child::spawn(&self.settings, &log));
        let started = Instant::now();
        while !self.settings.is_ready() {
            let ended = child.try_wait().expect("the state of the broker");
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the broker ended at once; its log:\n{}", log());
            assert!(started.elapsed() < START, "the broker does not start; its log:\n{}", log());
            tokio::time::sleep(POLL).await;
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("port", &self.settings.port).finish_non_exhaustive()
    }
}

/// The program that the variable names, else the first of these that there is.
fn program(variable: &str, candidates: &[&str]) -> Result<PathBuf, Skip> {
    if let Some(given) = std::env::var_os(variable).filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path)
        // Where daemons are kept, which is not on everybody's path.
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .collect();
    // An absolute path stays as it is when it is joined.
    let mut places = candidates.iter().flat_map(|name| directories.iter().map(move |place| place.join(name)));
    places.find(|place| place.is_file()).ok_or_else(|| {
        Skip::new(format!(
            "there is no {}: install it, or set {variable} to it, or run `cargo xtask test`, which does both",
            candidates.last().unwrap_or(&""),
        ))
    })
}

/// A port that nobody listens on. It is not one of those that the system gives out by itself, so that nobody gets
/// it while the broker is down.
fn free_port() -> u16 {
    (0..1000)
        .map(|_| fastrand::u16(12_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}

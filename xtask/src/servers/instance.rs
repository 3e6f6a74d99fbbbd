//! A server process: waiting until it is ready, and stopping it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::{interrupt, process};

/// How long a server may take to start. RabbitMQ takes many seconds even on a machine with nothing else to
/// do.
const START: Duration = Duration::from_mins(2);
/// How long a server may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// What there is to know about an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) kind: Kind,
    pub(crate) pid: i32,
    pub(crate) port: u16,
    pub(crate) url: String,
    pub(crate) directory: PathBuf,
}

/// An instance that is stopped, and its directory removed, when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    instance: Instance,
    /// None once it is left to itself.
    child: Option<Child>,
}

impl Running {
    pub(crate) fn spawn(
        command: Command,
        kind: Kind,
        port: u16,
        url: String,
        directory: PathBuf,
    ) -> Result<Self> {
        interrupt::check()?;
        let child = process::spawn(command)?;
        let pid = process::pid(&child)?.as_raw_pid();
        Ok(Self { instance: Instance { kind, pid, port, url, directory }, child: Some(child) })
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Waits until `ready`, a bounded time.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        let log = self.instance.directory.join("log");
        while !ready() {
            interrupt::check()?;
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if let Some(status) = ended {
                bail!("the server ended at once ({status}); the end of its log:\n{}", tail(&log));
            }
            if started.elapsed() > START {
                bail!(
                    "the server was not ready after {} s; the end of its log:\n{}",
                    START.as_secs(),
                    tail(&log)
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Says where it listens, now that it is ready.
    pub(crate) fn announce(self) -> Self {
        eprintln!("servers: {} runs on 127.0.0.1, port {}", self.instance.kind.name(), self.instance.port);
        self
    }

    /// Leaves the server to itself, to be stopped by [`Instance::stop`] of a later run.
    pub(crate) fn detach(mut self) -> Instance {
        self.child = None;
        self.instance.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let deadline = Instant::now() + STOP;
        self.instance.signal(self.instance.stop_signal());
        while let Ok(None) = child.try_wait() {
            if Instant::now() > deadline {
                eprintln!("servers: {} did not stop, it is killed", self.instance.kind.name());
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(POLL);
        }
        let _ = std::fs::remove_dir_all(&self.instance.directory);
    }
}

impl Instance {
    /// Whether the server is there and ready for work.
    pub(crate) fn is_healthy(&self) -> bool {
        let answers = match self.kind {
            Kind::Postgres => super::postgres::answers,
            Kind::Mysql => super::mysql::answers,
            Kind::Mongodb => super::mongo::answers,
            Kind::Nats => super::nats::answers,
            Kind::Rabbitmq => super::rabbitmq::answers,
            Kind::Redis => super::redis::answers,
        };
        self.is_alive() && answers(self.port)
    }

    /// Whether the process is there. Its number may long belong to another program: the directory on
    /// the command line tells.
    fn is_alive(&self) -> bool {
        let directory = self.directory.to_string_lossy();
        // A process that has ended but that nobody has waited for has an empty command line.
        std::fs::read(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*directory))
    }

    /// Stops the server and removes its directory.
    pub(crate) fn stop(&self) -> Result<()> {
        let deadline = Instant::now() + STOP;
        let mut signal = self.stop_signal();
        while self.is_alive() {
            self.signal(signal);
            // PostgreSQL and the others take the same signal twice as what it is: the same wish.
            std::thread::sleep(POLL * 4);
            if Instant::now() > deadline {
                signal = Signal::KILL;
            }
            if Instant::now() > deadline + STOP {
                bail!("{} (process {}) does not stop", self.kind.name(), self.pid);
            }
        }
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.directory.display()));
            }
            _ => {}
        }
        // The directory that it shares with others goes with the last of them; until then this fails.
        if let Some(home) = self.directory.parent() {
            let _ = std::fs::remove_dir(home);
        }
        Ok(())
    }

    fn stop_signal(&self) -> Signal {
        match self.kind {
            // By SIGTERM it would wait until its last client has gone.
            Kind::Postgres => Signal::INT,
            Kind::Mysql | Kind::Mongodb | Kind::Nats | Kind::Rabbitmq | Kind::Redis => Signal::TERM,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

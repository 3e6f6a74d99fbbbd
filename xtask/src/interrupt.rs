//! Ctrl-C and its like: end what runs, then let the guards stop the servers in order.
//!
//! Every child runs in a process group of its own, so that Ctrl-C at a terminal reaches only xtask.
//! The thread started here then ends the children that are registered; the thread that waits for one
//! sees it end, asks [`check`], and returns an error; on its way out the guards stop the servers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[derive(Debug)]
struct State {
    signal: Option<i32>,
    /// The process groups to end, each named by its leader.
    groups: Vec<Pid>,
}

static STATE: Mutex<State> = Mutex::new(State { signal: None, groups: Vec::new() });

/// How long a child may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Catches SIGINT, SIGTERM and SIGHUP from here on.
pub(crate) fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // A second Ctrl-C changes nothing: stopping is under way, and takes a bounded time.
            let first = state().signal.replace(signal).is_none();
            if first {
                eprintln!("\nxtask: stopping (signal {signal})");
                end_all(Signal::TERM);
                std::thread::sleep(GRACE);
                end_all(Signal::KILL);
            }
        }
    });
    Ok(())
}

fn end_all(signal: Signal) {
    for group in &state().groups {
        // It may have ended meanwhile.
        let _ = kill_process_group(*group, signal);
    }
}

/// The signal that asked xtask to stop, if any.
pub(crate) fn signal() -> Option<i32> {
    state().signal
}

/// Fails once xtask was asked to stop.
pub(crate) fn check() -> Result<()> {
    match signal() {
        Some(signal) => bail!("stopped by signal {signal}"),
        None => Ok(()),
    }
}

/// A process group that a signal to xtask ends, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered(Pid);

/// Registers the group that `spawn` starts. A signal comes either before it, and nothing is started,
/// or after it, and what was started is ended.
pub(crate) fn register<T>(spawn: impl FnOnce() -> Result<(T, Pid)>) -> Result<(T, Registered)> {
    let mut state = state();
    if let Some(signal) = state.signal {
        bail!("stopped by signal {signal}");
    }
    let (child, group) = spawn()?;
    state.groups.push(group);
    Ok((child, Registered(group)))
}

impl Drop for Registered {
    fn drop(&mut self) {
        state().groups.retain(|group| *group != self.0);
    }
}

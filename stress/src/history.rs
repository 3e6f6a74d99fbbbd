//! What happened, line by line: when each call began, and when and how it ended.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result};
use outbox_traits::{Error, EventId, Lease};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// In microseconds, by the machine's monotonic clock, which all processes share.
    pub(crate) at: u64,
    /// Which call.
    pub(crate) op: u64,
    #[serde(flatten)]
    pub(crate) step: Step,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// It begins from now on. One that has no end was cut off, and nobody knows what became of it.
    Begin(Call),
    /// It ended before now.
    End(Answer),
    /// Somebody has set the machine's clock, by which leases end, so far on, or back.
    ClockSet { micros: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    Save {
        session: u64,
        events: Vec<Saving>,
    },
    Commit {
        session: u64,
    },
    Rollback {
        session: u64,
    },
    Claim {
        worker: String,
        lease_micros: u64,
    },
    Renew {
        leases: Vec<Held>,
        lease_micros: u64,
    },
    Publish {
        lease: Held,
    },
    Settle {
        settlements: Vec<Settled>,
    },
    /// Of one event, or of all that are dead.
    Requeue {
        event: Option<EventId>,
    },
    Discard {
        event: EventId,
    },
    Purge,
    Stats,
    Pending,
    /// The state in the end, when everything that can be delivered has been.
    Look,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    /// Of each event, whether it was stored; otherwise it was a duplicate.
    Saved(Vec<bool>),
    Claimed(Vec<Held>),
    /// Of each lease, whether it took; otherwise the lease was lost.
    Each(Vec<bool>),
    /// By the transport.
    Accepted(bool),
    /// How many were changed.
    Changed(u64),
    Pending(Vec<EventId>),
    State {
        rows: Vec<u64>,
        dead: Vec<EventId>,
        pending: Vec<EventId>,
    },
    /// It may have had its effect all the same.
    Failed {
        error: String,
        is_retryable: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saving {
    pub(crate) event: EventId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) event: EventId,
    pub(crate) token: Uuid,
}

impl From<Lease> for Held {
    fn from(lease: Lease) -> Self {
        Self { event: lease.event(), token: lease.token() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) lease: Held,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Delivered,
    Retry,
    DeadLetter,
    /// A dead letter that holds its key.
    Held,
    Released,
}

impl Answer {
    pub(crate) fn failed(error: &Error) -> Self {
        Self::Failed { error: error.to_string(), is_retryable: error.is_retryable() }
    }
}

/// Writes a history down while it happens.
#[derive(Debug)]
pub(crate) struct Recorder {
    next: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
enum Lines {
    Kept(Vec<Line>, Option<BufWriter<File>>),
    /// For another process, which keeps them: each at once, because this one may be killed.
    Sent(io::Stdout),
}

/// A call that has begun.
#[derive(Debug)]
#[must_use]
pub(crate) struct Op(u64);

impl Recorder {
    /// Keeps the lines, and writes them into a file too, if there is one.
    pub(crate) fn keeping(file: Option<&Path>) -> Result<Self> {
        let file = match file {
            Some(path) => {
                let file =
                    File::create(path).with_context(|| format!("cannot write into {}", path.display()))?;
                Some(BufWriter::new(file))
            }
            None => None,
        };
        Ok(Self::new(Lines::Kept(Vec::new(), file)))
    }

    /// Sends the lines to the process that has started this one.
    pub(crate) fn sending() -> Self {
        Self::new(Lines::Sent(io::stdout()))
    }

    fn new(lines: Lines) -> Self {
        // Calls of different processes have different numbers.
        let next = AtomicU64::new(u64::from(std::process::id()) << 32);
        Self { next, lines: Mutex::new(lines) }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call it just before the call.
    pub(crate) fn begin(&self, call: Call) -> Op {
        let op = self.next.fetch_add(1, Relaxed);
        self.add(Line { at: now(), op, step: Step::Begin(call) });
        Op(op)
    }

    /// Call it just after the call.
    pub(crate) fn end(&self, Op(op): Op, answer: Answer) {
        self.add(Line { at: now(), op, step: Step::End(answer) });
    }

    /// The same for a call that can fail. It returns what the call did.
    pub(crate) fn end_of<T>(
        &self,
        op: Op,
        outcome: outbox_traits::Result<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.end(op, answer(&value));
                Some(value)
            }
            Err(error) => {
                self.end(op, Answer::failed(&error));
                None
            }
        }
    }

    /// The clock was set.
    pub(crate) fn clock_set(&self, micros: i64) {
        let op = self.next.fetch_add(1, Relaxed);
        self.add(Line { at: now(), op, step: Step::ClockSet { micros } });
    }

    pub(crate) fn add(&self, line: Line) {
        let text = |line: &Line| serde_json::to_string(line).map(|text| text + "\n");
        match &mut *self.lock() {
            Lines::Kept(lines, file) => {
                if let (Some(file), Ok(text)) = (file, text(&line)) {
                    file.write_all(text.as_bytes()).ok();
                }
                lines.push(line);
            }
            Lines::Sent(stdout) => {
                let written = text(&line).map_err(io::Error::from).and_then(|text| {
                    let mut stdout = stdout.lock();
                    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
                });
                if written.is_err() {
                    // Nobody listens any more: what is done from here on would be in no history.
                    std::process::exit(1);
                }
            }
        }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Result<Vec<Line>> {
        match &mut *self.lock() {
            Lines::Kept(lines, file) => {
                if let Some(file) = file {
                    file.flush().context("cannot write the history")?;
                }
                Ok(std::mem::take(lines))
            }
            Lines::Sent(_) => Ok(Vec::new()),
        }
    }
}

/// Reads a history from a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of {} is none of a history", number + 1, path.display()))
    };
    text.lines().enumerate().map(line).collect()
}

/// In microseconds. The same clock in all processes of the machine, which no one sets.
pub(crate) fn now() -> u64 {
    micros(ClockId::Monotonic)
}

/// In microseconds, by a clock of the machine.
pub(crate) fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

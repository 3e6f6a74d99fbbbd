//! A stress from its beginning to its end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    children::Children,
    clock,
    engine::{Engine, Name},
    history::{Line, Recorder},
    shared::{Part, Shared},
};

const WRITERS: usize = 5;
const WORKERS: usize = 5;

/// No lease of a worker that is gone, and no retry, lasts longer.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// To deliver what is left must not take longer. A server may need a minute or more to notice that a worker is dead
/// whose transaction is in the way.
const DRAINED_WITHIN: Duration = Duration::from_secs(180);

/// How a stress is run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) engine: Name,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// Where the history is written to, too.
    pub(crate) history: Option<PathBuf>,
    /// Of which worker processes are started.
    pub(crate) program: PathBuf,
    /// Where files are made.
    pub(crate) directory: PathBuf,
}

/// Runs a stress, and returns what happened.
pub(crate) async fn run<E: Engine>(plan: &Plan) -> Result<Vec<Line>> {
    let directory = tempfile::Builder::new().prefix("outbox-stress-").tempdir_in(&plan.directory)?;
    let place = E::place(directory.path())?;
    let engine = E::open(&place).await.context("cannot open the store")?;
    let outcome = async {
        engine.make().await.context("cannot make the tables")?;
        stress(plan, &engine, &place).await
    }
    .await;
    let removed = engine.remove().await.context("cannot remove the tables");
    let lines = outcome?;
    removed?;
    Ok(lines)
}

async fn stress<E: Engine>(plan: &Plan, engine: &E, place: &str) -> Result<Vec<Line>> {
    let shared = Arc::new(Shared::new(Recorder::keeping(plan.history.as_deref())?));
    let mut rng = Rng::with_seed(plan.seed);
    let mut part = || Part { engine: engine.clone(), shared: Arc::clone(&shared), rng: rng.fork() };
    let mut last = part();
    let mut parts = JoinSet::new();
    for _ in 0..WRITERS {
        parts.spawn(part().write());
    }
    for index in 0..WORKERS {
        parts.spawn(part().deliver(format!("worker {index}")));
    }
    parts.spawn(part().keep());
    let (end_clock, end) = oneshot::channel();
    let clock = Arc::clone(&shared);
    let clock = tokio::spawn(async move { clock::watch(&clock, end).await });
    let children = E::MANY_PROCESSES.then(|| {
        let children = Children {
            program: plan.program.clone(),
            engine: plan.engine,
            place: place.to_owned(),
            shared: Arc::clone(&shared),
            rng: rng.fork(),
        };
        tokio::spawn(children.kill())
    });

    let wait = async {
        tokio::select! {
            () = tokio::time::sleep(plan.length) => Ok(()),
            signal = tokio::signal::ctrl_c() => signal.context("cannot wait for an interrupt"),
            // Nobody ends before the time, but by a panic.
            ended = parts.join_next() => bail!("one who takes part has ended: {ended:?}"),
        }
    };
    let waited = wait.await;
    shared.stop();
    while let Some(ended) = parts.join_next().await {
        ended.context("one who takes part has panicked")?;
    }
    if let Some(children) = children {
        let killed = children.await??;
        eprintln!("stress: {killed} worker processes were killed");
    }
    waited?;
    drain(&mut last).await;
    last.look().await?;
    end_clock.send(()).ok();
    clock.await?;
    shared.record.lines()
}

/// Delivers all that is left, until nothing has come for so long that nothing can come.
async fn drain<E: Engine>(last: &mut Part<E>) {
    let (began, mut empty_since) = (Instant::now(), Instant::now());
    while empty_since.elapsed() < SETTLED_AFTER + last.shared.set_back() {
        match last.drain().await {
            Some(0) => {
                last.requeue_what_holds().await;
                last.pause(20, 20).await;
            }
            Some(_) | None => empty_since = Instant::now(),
        }
        if began.elapsed() > DRAINED_WITHIN {
            // The look in the end finds what is left.
            eprintln!("stress: after {} s there still is something to deliver", began.elapsed().as_secs());
            return;
        }
    }
}

/// Works in a process of its own, until it is killed.
pub(crate) async fn work<E: Engine>(place: &str, seed: u64) -> Result<()> {
    let engine = E::open(place).await?;
    let shared = Arc::new(Shared::new(Recorder::sending()));
    let part = Part { engine, shared, rng: Rng::with_seed(seed) };
    part.deliver(format!("process {}", std::process::id())).await;
    Ok(())
}

/// Where files are made by default.
pub(crate) fn directory() -> PathBuf {
    std::env::temp_dir()
}

/// The program that runs now.
pub(crate) fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program").map(|path| Path::new(&path).to_owned())
}

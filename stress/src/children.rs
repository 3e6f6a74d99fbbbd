//! Workers that are processes of their own, and are killed.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use fastrand::Rng;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, timeout_at},
};

use crate::{engine::Name, history::Line, shared::Shared};

/// Where and as what a worker is started.
#[derive(Debug)]
pub(crate) struct Children {
    pub(crate) program: PathBuf,
    pub(crate) engine: Name,
    pub(crate) place: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rng: Rng,
}

impl Children {
    /// Starts one after another, lets each work for a while, and ends it with `kill -9`. It returns how many there
    /// were.
    pub(crate) async fn kill(mut self) -> Result<u64> {
        let mut killed = 0;
        while !self.shared.is_stopped() {
            self.one().await?;
            killed += 1;
        }
        Ok(killed)
    }

    async fn one(&mut self) -> Result<()> {
        let engine = self.engine.to_possible_value().context("the engine has no name")?;
        let mut child = Command::new(&self.program)
            .args(["worker", "--engine", engine.get_name(), "--place", &self.place])
            .args(["--seed", &self.rng.u64(..).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker")?;
        let lines = child.stdout.take().context("the worker has no output")?;
        let mut lines = BufReader::new(lines).lines();
        let deadline = Instant::now() + Duration::from_millis(self.rng.u64(300..3000));
        // Its first line is that it has begun: before that there is nothing to kill.
        let mut next = lines.next_line().await?;
        loop {
            match next {
                Some(line) => self.take(&line)?,
                None => bail!("a worker ended by itself ({})", child.wait().await?),
            }
            match timeout_at(deadline, lines.next_line()).await {
                Ok(line) => next = line?,
                Err(_) => break,
            }
        }
        child.kill().await.context("cannot kill a worker")?;
        // What it had said before.
        while let Some(line) = lines.next_line().await? {
            // The last one may be half a line, and then is of what did not begin.
            if self.take(&line).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn take(&self, line: &str) -> Result<()> {
        let line: Line = serde_json::from_str(line).with_context(|| format!("a worker said {line:?}"))?;
        self.shared.record.add(line);
        Ok(())
    }
}

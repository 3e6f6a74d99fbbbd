//! A private NATS with JetStream.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ask::ask;
use super::site::{Site, free_port, password};
use super::{Home, Kind, Running};
use crate::install::Missing;
use crate::process;

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if Kind::Nats.program().is_some() { Missing::Nothing } else { Missing::Package("nats-server") }
}

/// The program that is installed.
pub(crate) fn program() -> Option<PathBuf> {
    process::find_program("nats-server")
}

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let program = Kind::Nats.program().context("its program is not installed")?;
    // It does not mind running as root.
    let site = Site::new(home, Kind::Nats, None)?;
    let (port, password) = (free_port()?, password()?);
    let config = site.path("nats.conf");
    // A password on the command line could be read by all users of the machine.
    let settings = format!(
        "listen: \"127.0.0.1:{port}\"\n\
         authorization {{ user: \"outbox\", password: \"{password}\" }}\n\
         jetstream {{ store_dir: \"{}\" }}\n",
        site.path("data").display(),
    );
    std::fs::write(&config, settings).context("cannot write the settings of the server")?;

    let mut server = site.server(program, "TERM");
    server.arg("--config").arg(config);
    let mut running = site.serve(server, port, format!("nats://outbox:{password}@127.0.0.1:{port}"))?;
    running.wait_until(|| answers(port))?;
    Ok(running.announce())
}

/// Whether the server on this port greets who connects. It listens only once JetStream is ready.
pub(crate) fn answers(port: u16) -> bool {
    ask::<5>(port, b"").is_ok_and(|start| &start == b"INFO ")
}

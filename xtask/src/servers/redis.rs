//! A private Redis, with an append-only file as those have it who care for their data.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ask::ask;
use super::site::{Site, free_port, password};
use super::{Home, Kind, Running};
use crate::install::Missing;
use crate::process;

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if Kind::Redis.program().is_some() { Missing::Nothing } else { Missing::Package("redis-server") }
}

/// The program that is installed.
pub(crate) fn program() -> Option<PathBuf> {
    process::find_program("redis-server")
}

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let program = Kind::Redis.program().context("its program is not installed")?;
    // It does not mind running as root.
    let site = Site::new(home, Kind::Redis, None)?;
    let data = site.path("data");
    std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let (port, password) = (free_port()?, password()?);
    let config = site.path("redis.conf");
    // A password on the command line could be read by all users of the machine. The process keeps its
    // command line, by which it is known again.
    let settings = format!(
        "bind 127.0.0.1\n\
         port {port}\n\
         requirepass {password}\n\
         dir \"{}\"\n\
         appendonly yes\n\
         save \"\"\n\
         set-proc-title no\n",
        data.display(),
    );
    std::fs::write(&config, settings).context("cannot write the settings of the server")?;

    let mut server = site.server(program, "TERM");
    server.arg(config);
    let mut running = site.serve(server, port, format!("redis://:{password}@127.0.0.1:{port}/"))?;
    running.wait_until(|| answers(port))?;
    Ok(running.announce())
}

/// Whether the server on this port answers, if only that it wants the password.
pub(crate) fn answers(port: u16) -> bool {
    ask::<5>(port, b"PING\r\n").is_ok_and(|start| [b"-NOAU", b"+PONG"].contains(&&start))
}

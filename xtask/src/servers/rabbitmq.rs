//! A private RabbitMQ, and the port mapper of Erlang that it wants beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::ask::ask;
use super::site::{Site, free_port, password};
use super::{Home, Kind, Running};
use crate::install::Missing;
use crate::process;

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if Kind::Rabbitmq.program().is_some() { Missing::Nothing } else { Missing::Package("rabbitmq-server") }
}

/// The program that is installed. The one on Debian's search path is another: it serves the machine's own
/// instance, and no user but root.
pub(crate) fn program() -> Option<PathBuf> {
    let debian = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if debian.is_file() { Some(debian.to_path_buf()) } else { process::find_program("rabbitmq-server") }
}

/// Becomes the server, whose child is a port mapper of its own: the one that the server would start itself
/// never ends, and one that all share lets instances disturb each other. The kernel ends this one with the
/// server; where there is no `setpriv` to ask that of, the server starts its own.
const SCRIPT: &str = r#"
setpriv --pdeathsig KILL epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
exec "$0"
"#;

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let program = Kind::Rabbitmq.program().context("its program is not installed")?;
    // It does not mind running as root.
    let site = Site::new(home, Kind::Rabbitmq, None)?;
    let (port, password) = (free_port()?, password()?);
    let (config, plugins) = (site.path("rabbitmq.conf"), site.path("plugins"));
    std::fs::write(&config, format!("default_user = outbox\ndefault_pass = {password}\n"))
        .and_then(|()| std::fs::write(&plugins, "[].\n"))
        .context("cannot write the settings of the server")?;

    let mut server = site.server("sh", "TERM");
    server.args(["-c", SCRIPT]).arg(program);
    // Where it keeps the secret of its cluster of one. It also shows on the command line, by which the
    // process is known again.
    server.env("HOME", site.path(""));
    // The machine's own settings are not for this instance.
    server.env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
    server.env("RABBITMQ_CONFIG_FILE", config).env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    server.env("RABBITMQ_MNESIA_BASE", site.path("data")).env("RABBITMQ_LOG_BASE", site.path("logs"));
    server.env("RABBITMQ_LOGS", "-").env("RABBITMQ_PID_FILE", site.path("pid"));
    server.env("RABBITMQ_NODENAME", "outbox@localhost").env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
    server.env("RABBITMQ_NODE_PORT", port.to_string());
    server.env("RABBITMQ_DIST_PORT", free_port()?.to_string());
    server.env("ERL_EPMD_PORT", free_port()?.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    // With this its script becomes the server, which takes signals itself, instead of waiting for it.
    server.env("RABBITMQ_ALLOW_INPUT", "1");
    server.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}");
    let mut running = site.serve(server, port, format!("amqp://outbox:{password}@127.0.0.1:{port}/%2f"))?;
    running.wait_until(|| answers(port))?;
    Ok(running.announce())
}

/// Whether the server on this port opens a connection. It listens only once it is ready.
pub(crate) fn answers(port: u16) -> bool {
    // The first byte of a frame with a method in it; a server of another version says `A` of `AMQP`.
    ask::<1>(port, b"AMQP\x00\x00\x09\x01").is_ok_and(|start| start == [1])
}

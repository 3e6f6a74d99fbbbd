//! A private MariaDB, or MySQL where that is what is installed.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::ask::ask;
use super::site::{Site, free_port, password};
use super::{Home, Kind, Running};
use crate::install::Missing;
use crate::process;

/// The programs of either database.
#[derive(Debug)]
struct Programs {
    server: PathBuf,
    /// MariaDB's program that makes an empty data directory; the server of MySQL does that itself.
    installer: Option<PathBuf>,
}

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if programs().is_some() { Missing::Nothing } else { Missing::Package("mariadb-server") }
}

fn programs() -> Option<Programs> {
    if let (Some(server), Some(installer)) =
        (process::find_program("mariadbd"), process::find_program("mariadb-install-db"))
    {
        return Some(Programs { server, installer: Some(installer) });
    }
    let server = process::find_program("mysqld")?;
    Some(Programs { server, installer: None })
}

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let programs = programs().context("its programs are not installed")?;
    let site = Site::new(home, Kind::Mysql, Some("mysql"))?;
    let data = site.path("data");
    let data_option = format!("--datadir={}", data.display());

    // `--no-defaults` must come first, everywhere: the machine's own settings are not for this instance.
    let mut initialise;
    if let Some(installer) = &programs.installer {
        initialise = site.tool(installer);
        initialise.args(["--no-defaults", "--skip-test-db", &data_option]);
    } else {
        initialise = site.tool(&programs.server);
        initialise.args(["--no-defaults", "--initialize-insecure", &data_option]);
    }
    process::must(initialise)?;

    let password = password()?;
    let first_statements = site.path("first.sql");
    std::fs::write(
        &first_statements,
        format!(
            "CREATE USER 'outbox'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO 'outbox'@'127.0.0.1' WITH GRANT OPTION;\n\
             CREATE DATABASE outbox_test CHARACTER SET utf8mb4;\n"
        ),
    )
    .context("cannot write the first statements for the server")?;

    let port = free_port()?;
    let mut server = site.server(&programs.server, "TERM");
    server.args(["--no-defaults", &data_option, "--bind-address=127.0.0.1", &format!("--port={port}")]);
    server.arg(format!("--pid-file={}", site.path("pid").display()));
    server.arg(format!("--init-file={}", first_statements.display()));
    server.args([
        // Relative to the data directory: the path of a socket has a small maximal length.
        "--socket=socket",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        // Debian's MySQL would want a folder of the machine's own; nothing is loaded from files here.
        "--secure-file-priv=",
        // Each test has a pool of its own.
        "--max-connections=500",
        // MySQL's second protocol would take a second port. MariaDB does not know the option.
        "--loose-mysqlx=OFF",
    ]);
    let url = format!("mysql://outbox:{password}@127.0.0.1:{port}/outbox_test");
    let mut running = site.serve(server, port, url)?;
    running.wait_until(|| answers(port))?;
    Ok(running.announce())
}

/// Whether the server on this port greets who connects. It listens only once it has run the first
/// statements.
pub(crate) fn answers(port: u16) -> bool {
    // Three bytes of length, one of sequence, then the version of the protocol, or 255 for an error.
    ask::<5>(port, b"").is_ok_and(|start| start[4] == 10)
}

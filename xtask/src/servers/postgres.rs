//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::site::{Site, free_port};
use super::{Home, Kind, Running};
use crate::install::Missing;
use crate::process;

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if programs().is_some() { Missing::Nothing } else { Missing::Package("postgresql") }
}

/// The directory of the newest version's programs. Debian keeps them off the search path, because
/// several versions can be installed side by side.
fn programs() -> Option<PathBuf> {
    let complete =
        |directory: &Path| directory.join("initdb").is_file() && directory.join("postgres").is_file();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            let directory = version.path().join("bin");
            complete(&directory).then_some((number, directory))
        })
        .max_by_key(|(number, _)| *number)
        .map(|(_, directory)| directory);
    newest.or_else(|| {
        let directory = process::find_program("initdb")?.parent()?.to_path_buf();
        complete(&directory).then_some(directory)
    })
}

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let programs = programs().context("its programs are not installed")?;
    let site = Site::new(home, Kind::Postgres, Some("postgres"))?;
    let data = site.path("data");

    let mut initdb = site.tool(programs.join("initdb"));
    initdb.arg("--pgdata").arg(&data);
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    // This spares flushing the empty database only; the server flushes as it does by default, because
    // durability is among the things tested.
    initdb.arg("--no-sync");
    process::must(initdb)?;

    let port = free_port()?;
    let mut server = site.server(programs.join("postgres"), "INT");
    server.arg("-D").arg(&data);
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        // The path of a socket has a small maximal length, and everybody comes by TCP.
        "unix_socket_directories=",
        // Each test has a pool of its own.
        "max_connections=300",
    ] {
        server.args(["-c", setting]);
    }
    let url = format!("postgres://postgres@127.0.0.1:{port}/outbox_test");
    let mut running = site.serve(server, port, url)?;
    running.wait_until(|| answers(port))?;

    let mut createdb = site.tool(programs.join("createdb"));
    createdb.args(["--host=127.0.0.1", &format!("--port={port}"), "--username=postgres", "outbox_test"]);
    process::must(createdb)?;
    Ok(running.announce())
}

/// Whether the server on this port takes connections.
pub(crate) fn answers(port: u16) -> bool {
    programs().is_some_and(|programs| {
        Command::new(programs.join("pg_isready"))
            .args(["--quiet", "--host=127.0.0.1", &format!("--port={port}")])
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

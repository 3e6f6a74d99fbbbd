//! A private MongoDB: a replica set of one, because transactions want a replica set.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bson::{Document, doc};

use super::site::{Site, free_port};
use super::{Home, Kind, Running};
use crate::install::{Missing, mongod};
use crate::process;

/// What has to be installed.
pub(crate) fn missing() -> Missing {
    if Kind::Mongodb.program().is_some() { Missing::Nothing } else { Missing::Mongod }
}

/// The program that is installed.
pub(crate) fn program() -> Option<PathBuf> {
    process::find_program("mongod").or_else(mongod::cached)
}

/// Makes and starts a fresh instance.
pub(crate) fn start(home: &Home) -> Result<Running> {
    let program = Kind::Mongodb.program().context("its program is not installed")?;
    // It does not mind running as root, and root's cache, where it may lie, is closed to other users.
    let site = Site::new(home, Kind::Mongodb, None)?;
    let data = site.path("data");
    std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;

    let port = free_port()?;
    let mut server = site.server(program, "TERM");
    server.arg("--dbpath").arg(&data);
    server.args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--replSet", "rs0"]);
    // The path of a socket has a small maximal length, and everybody comes by TCP.
    server.arg("--nounixsocket");
    // By default it would take half of the memory, which it shares with compilers and other servers; with less, what one
    // transaction of the suite writes is too much for it.
    server.args(["--wiredTigerCacheSizeGB", "1"]);
    // How often it deletes by age: by default once a minute.
    server.args(["--setParameter", "ttlMonitorSleepSecs=1"]);
    // There is no second member to hand over to, so there is nothing to wait for at the end.
    server.args(["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]);
    // A test that is killed leaves its databases behind, and the server would keep their files open for ten minutes: when
    // mutants are tried that are more than it may have open.
    server.args(["--setParameter", "wiredTigerFileHandleCloseIdleTime=20"]);
    let url = format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0&directConnection=true");
    let mut running = site.serve(server, port, url)?;
    running.wait_until(|| command(port, &doc! { "hello": 1, "$db": "admin" }).is_ok())?;

    let members = vec![doc! { "_id": 0, "host": format!("127.0.0.1:{port}") }];
    let set = doc! { "_id": "rs0", "members": members };
    command(port, &doc! { "replSetInitiate": set, "$db": "admin" })
        .context("cannot initiate the replica set")?;
    running.wait_until(|| answers(port))?;
    Ok(running.announce())
}

/// Whether the server on this port takes writes.
pub(crate) fn answers(port: u16) -> bool {
    command(port, &doc! { "hello": 1, "$db": "admin" })
        .is_ok_and(|reply| reply.get_bool("isWritablePrimary").unwrap_or(false))
}

/// Runs one command. No shell comes with the server, and a driver would take longer to build than all
/// the rest of xtask.
fn command(port: u16, command: &Document) -> Result<Document> {
    /// The code of the only message that servers still take: a header, flags, and a section.
    const OP_MSG: i32 = 2013;
    const HEADER: usize = 16;
    /// Four bytes of flags, none set, and the kind of the section: 0, one document.
    const BEFORE_DOCUMENT: usize = 5;
    /// The replies to the commands here are far smaller.
    const MAX_REPLY: usize = 1024 * 1024;

    let body = command.to_vec()?;
    let length = i32::try_from(HEADER + BEFORE_DOCUMENT + body.len())?;
    let mut message = Vec::new();
    // Length, id of the request, id of the request that is answered, code.
    for number in [length, 1, 0, OP_MSG] {
        message.extend_from_slice(&number.to_le_bytes());
    }
    message.extend_from_slice(&[0; BEFORE_DOCUMENT]);
    message.extend_from_slice(&body);

    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&message)?;

    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = usize::try_from(i32::from_le_bytes([header[0], header[1], header[2], header[3]]))?;
    if !(HEADER + BEFORE_DOCUMENT..=MAX_REPLY).contains(&length) {
        bail!("the server replied with a message of {length} bytes");
    }
    let mut reply = vec![0; length - HEADER];
    stream.read_exact(&mut reply)?;
    let reply = Document::from_reader(&reply[BEFORE_DOCUMENT..])?;
    if !reply.get_f64("ok").is_ok_and(|ok| ok > 0.0) {
        bail!("the server refused: {reply}");
    }
    Ok(reply)
}

//! A replica set of a test's own, whose members it can kill, or tell to fail; and a server that is in none.
//!
//! The program is the one that `OUTBOX_TEST_MONGOD` names, which `cargo xtask test` sets, else the one on the search
//! path.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};
use outbox_conformance::Skip;
use outbox_mongo::mongodb;
use tempfile::TempDir;

const PROGRAM: &str = "OUTBOX_TEST_MONGOD";
/// A guard against hanging, no promise.
const START: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// Its servers are killed and their data removed when this is dropped.
pub(crate) struct ReplicaSet {
    members: Vec<Member>,
    uri: String,
    client: Client,
    _directory: TempDir,
}

struct Member {
    address: String,
    child: Child,
}

impl ReplicaSet {
    /// Starts one of so many members, which has a primary when this returns.
    pub(crate) async fn start(members: usize) -> Result<Self, Skip> {
        let program = program()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        // All at once, so that they are different ones.
        let listeners: Vec<_> =
            (0..members).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
        let ports: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect();
        drop(listeners);
        let start = |port: &u16| Member {
            address: format!("127.0.0.1:{port}"),
            child: spawn(&program, &directory.path().join(port.to_string()), *port, Some("failover")),
        };
        let members: Vec<Member> = ports.iter().map(start).collect();

        let first = format!("mongodb://{}/?directConnection=true", members[0].address);
        let first = Client::with_uri_str(first).await.expect("a client").database("admin");
        let configuration: Vec<Document> = (0_i32..)
            .zip(&members)
            .map(|(number, member)| doc! { "_id": number, "host": &member.address })
            .collect();
        let configuration = doc! {
            // A dead primary is noticed sooner than in the ten seconds of the default.
            "_id": "failover", "members": configuration, "settings": { "electionTimeoutMillis": 2000 },
        };
        // The others may still be starting.
        let started = Instant::now();
        while let Err(error) = first.run_command(doc! { "replSetInitiate": &configuration }).await {
            assert!(started.elapsed() < START, "{error}");
            tokio::time::sleep(POLL).await;
        }
        let addresses: Vec<&str> = members.iter().map(|member| member.address.as_str()).collect();
        let uri = format!("mongodb://{}/?replicaSet=failover", addresses.join(","));
        let client = Client::with_uri_str(&uri).await.expect("a client");
        let set = Self { members, uri, client, _directory: directory };
        set.primary_other_than("").await;
        Ok(set)
    }

    /// Where all members are.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// A client of all members.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes each member refuse what `failCommand`, the server's own fail point, is told by `data`, so often or from then
    /// on.
    pub(crate) async fn fail(&self, mode: impl Into<Bson>, data: Document) {
        let point = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        self.client.database("admin").run_command(point).await.expect("a fail point");
    }

    /// Lets the others follow the primary, or not.
    pub(crate) async fn replicate(&self, how: bool) {
        let primary = self.primary_other_than("").await;
        for member in self.members.iter().filter(|member| member.address != primary) {
            let uri = format!("mongodb://{}/?directConnection=true", member.address);
            let client = Client::with_uri_str(uri).await.expect("a client");
            let mode = if how { "off" } else { "alwaysOn" };
            let point = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
            client.database("admin").run_command(point).await.expect("a fail point");
        }
    }

    /// Waits until there is a primary which is not this one.
    pub(crate) async fn primary_other_than(&self, old: &str) -> String {
        let started = Instant::now();
        loop {
            let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await;
            if let Some(primary) =
                hello.ok().and_then(|hello| Some(hello.get_str("primary").ok()?.to_owned()))
                && primary != old
            {
                return primary;
            }
            assert!(started.elapsed() < START, "there is no new primary");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends a member as a crash would, with SIGKILL.
    pub(crate) fn kill(&mut self, address: &str) {
        let member = self.members.iter_mut().find(|member| member.address == address).expect("a member");
        member.child.kill().expect("to kill a member");
        member.child.wait().expect("its end");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<PathBuf, Skip> {
    if let Some(given) = env::var_os(PROGRAM).filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|place| place.join("mongod")).find(|place| place.is_file()).ok_or_else(|| {
        Skip::new(format!(
            "there is no mongod: install it, or set {PROGRAM} to it, or run `cargo xtask test`, which does both"
        ))
    })
}

/// A server that is no member of a replica set. It is killed and its data removed when this is dropped.
pub(crate) struct Alone {
    _server: Member,
    client: Client,
    _directory: TempDir,
}

impl Alone {
    pub(crate) async fn start() -> Result<Self, Skip> {
        let program = program()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let address = format!("127.0.0.1:{port}");
        let client = Client::with_uri_str(format!("mongodb://{address}/")).await.expect("a client");
        let server = Member { address, child: spawn(&program, directory.path(), port, None) };
        let started = Instant::now();
        while let Err(error) = client.database("admin").run_command(doc! { "ping": 1 }).await {
            assert!(started.elapsed() < START, "{error}");
            tokio::time::sleep(POLL).await;
        }
        Ok(Self { _server: server, client, _directory: directory })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

fn spawn(program: &Path, directory: &Path, port: u16, set: Option<&str>) -> Child {
    let data = directory.join("data");
    std::fs::create_dir_all(&data).expect("a directory for the data");
    let log = File::create(directory.join("log")).expect("a log");
    // So that it ends when the tests are killed, where the machine can do that.
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = if tied.status().is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("--dbpath").arg(data);
    command.args(["--bind_ip", "127.0.0.1", "--port", &port.to_string()]);
    command.args(set.map(|set| format!("--replSet={set}")));
    // So that it fails when it is told to.
    command.args(["--setParameter", "enableTestCommands=1"]);
    command.args(["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}

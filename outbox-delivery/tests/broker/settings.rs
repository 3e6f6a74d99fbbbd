//! How each broker is started, and how to see that it is ready.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Result as IoResult, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use outbox_conformance::Skip;
use tempfile::TempDir;

use super::{PASSWORD, free_port, program};

/// All that a start wants, the first and every later one.
pub(super) struct Settings {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, OsString)>,
    pub(super) port: u16,
    pub(super) url: String,
    /// What a client says first, and how a broker that is ready begins its answer.
    greeting: (Vec<u8>, &'static [u8]),
}

impl Settings {
    pub(super) fn takes_connections(&self) -> bool {
        self.connect().is_ok()
    }

    pub(super) fn is_ready(&self) -> bool {
        let (question, beginning) = &self.greeting;
        let answer = || -> IoResult<Vec<u8>> {
            let mut stream = self.connect()?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(question)?;
            let mut answer = vec![0; beginning.len()];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        answer().is_ok_and(|answer| answer == *beginning)
    }

    fn connect(&self) -> IoResult<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
    }
}

/// With these settings of JetStream beside its folder.
pub(super) fn nats(directory: &TempDir, jetstream: &str) -> Result<Settings, Skip> {
    let data = directory.path().join("data");
    let jetstream = format!("jetstream {{ store_dir: \"{}\"\n{jetstream} }}\n", data.display());
    nats_with(directory, &format!("authorization {{ {} }}\n{jetstream}", nats_user()))
}

pub(super) fn nats_without_jetstream(directory: &TempDir) -> Result<Settings, Skip> {
    nats_with(directory, &format!("authorization {{ {} }}\n", nats_user()))
}

/// The user may not ask whether JetStream is there.
pub(super) fn reserved_nats(directory: &TempDir) -> Result<Settings, Skip> {
    let data = directory.path().join("data");
    let permissions = "permissions: { publish: { deny: \"$JS.API.INFO\" } }";
    let settings = format!(
        "authorization {{ users: [ {{ {}, {permissions} }} ] }}\n\
         jetstream {{ store_dir: \"{}\" }}\n",
        nats_user(),
        data.display(),
    );
    nats_with(directory, &settings)
}

fn nats_user() -> String {
    format!("user: \"outbox\", password: \"{PASSWORD}\"")
}

fn nats_with(directory: &TempDir, settings: &str) -> Result<Settings, Skip> {
    let program = program("OUTBOX_TEST_NATS_SERVER", &["nats-server"])?;
    let (port, config) = (free_port(), directory.path().join("nats.conf"));
    let settings = format!("listen: \"127.0.0.1:{port}\"\n{settings}");
    fs::write(&config, settings).expect("the settings of the broker");
    Ok(Settings {
        program,
        args: vec!["--config".into(), config.into()],
        variables: Vec::new(),
        port,
        url: format!("nats://outbox:{PASSWORD}@127.0.0.1:{port}"),
        // It listens only once JetStream is ready.
        greeting: (Vec::new(), b"INFO "),
    })
}

pub(super) fn redis(directory: &TempDir) -> Result<Settings, Skip> {
    let program = program("OUTBOX_TEST_REDIS_SERVER", &["redis-server"])?;
    let (port, config) = (free_port(), directory.path().join("redis.conf"));
    let settings = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {PASSWORD}\ndir \"{}\"\nappendonly yes\n\
         appendfsync always\nsave \"\"\n",
        directory.path().display(),
    );
    fs::write(&config, settings).expect("the settings of the broker");
    Ok(Settings {
        program,
        args: vec![config.into()],
        variables: Vec::new(),
        port,
        url: format!("redis://:{PASSWORD}@127.0.0.1:{port}/"),
        // While it reads its file it says `-LOADING`.
        greeting: (format!("AUTH {PASSWORD}\r\nPING\r\n").into(), b"+OK\r\n+PONG"),
    })
}

/// Becomes the server, whose child is a port mapper of its own that ends with it; the one that the server would
/// start itself never ends.
const RABBITMQ: &str = r#"
setpriv --pdeathsig KILL epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
exec "$0"
"#;

pub(super) fn rabbitmq(directory: &TempDir) -> Result<Settings, Skip> {
    // The one on Debian's search path serves the machine's own instance, and no user but root.
    let candidates = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"];
    let program = program("OUTBOX_TEST_RABBITMQ_SERVER", &candidates)?;
    let (port, config) = (free_port(), directory.path().join("rabbitmq.conf"));
    let plugins = directory.path().join("plugins");
    fs::write(&config, format!("default_user = outbox\ndefault_pass = {PASSWORD}\n"))
        .and_then(|()| fs::write(&plugins, "[].\n"))
        .expect("the settings of the broker");
    let path = |name: &str| directory.path().join(name).into();
    let variables = vec![
        ("HOME", directory.path().into()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
        ("RABBITMQ_CONFIG_FILE", config.into()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.into()),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("logs")),
        ("RABBITMQ_LOGS", "-".into()),
        ("RABBITMQ_PID_FILE", path("pid")),
        ("RABBITMQ_NODENAME", "outbox@localhost".into()),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODE_PORT", port.to_string().into()),
        ("RABBITMQ_DIST_PORT", free_port().to_string().into()),
        ("ERL_EPMD_PORT", free_port().to_string().into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        // With this its script becomes the server, instead of waiting for it.
        ("RABBITMQ_ALLOW_INPUT", "1".into()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-noinput -kernel inet_dist_use_interface {127,0,0,1}".into(),
        ),
    ];
    Ok(Settings {
        program: "sh".into(),
        args: vec!["-c".into(), RABBITMQ.into(), program.into()],
        variables,
        port,
        url: format!("amqp://outbox:{PASSWORD}@127.0.0.1:{port}/%2f"),
        // The header of the protocol, and the first byte of a frame with a method in it.
        greeting: (b"AMQP\x00\x00\x09\x01".into(), b"\x01"),
    })
}

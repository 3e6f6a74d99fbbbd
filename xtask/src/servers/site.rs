//! Where one instance lives, and as whom.

use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Home, Kind, Lifetime, Running};
use crate::process;

/// A private directory and the user that a server runs as.
#[derive(Debug)]
pub(crate) struct Site {
    kind: Kind,
    directory: PathBuf,
    account: Option<Account>,
    lifetime: Lifetime,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

impl Site {
    /// A site for a server that refuses to run as root: when xtask does, the server runs as `user`.
    pub(crate) fn new(home: &Home, kind: Kind, user: Option<&str>) -> Result<Self> {
        let directory = home.path().join(kind.directory());
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let account = match user {
            Some(user) if rustix::process::getuid().is_root() => Some(Account::of(user)?),
            _ => None,
        };
        let site = Self { kind, directory, account, lifetime: home.lifetime() };
        if let Some(Account { user, group }) = site.account {
            chown(&site.directory, Some(user), Some(group))
                .with_context(|| format!("cannot give {} to its user", site.directory.display()))?;
            let mut probe = site.command("test", "KILL");
            probe.arg("-w").arg(&site.directory);
            if !process::run(probe)?.success() {
                bail!(
                    "the user that the server runs as cannot reach {}: set TMPDIR to a directory that all \
                     users can reach, for example TMPDIR=/tmp",
                    site.directory.display(),
                );
            }
        }
        Ok(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// A command as the server's user, which ends by `signal` when xtask is killed.
    fn command(&self, program: impl AsRef<Path>, signal: &str) -> Command {
        let mut command = process::tied(program.as_ref(), signal);
        command.current_dir(&self.directory);
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    /// A command that prepares the data or asks the server something.
    pub(crate) fn tool(&self, program: impl AsRef<Path>) -> Command {
        self.command(program, "KILL")
    }

    /// A command that becomes the server. `signal` is what tells it to stop.
    pub(crate) fn server(&self, program: impl AsRef<Path>, signal: &str) -> Command {
        match self.lifetime {
            Lifetime::Run => {
                let mut command = self.command(program, signal);
                command.process_group(0);
                command
            }
            // A session of its own, so that closing the terminal does not reach it.
            Lifetime::Detached => {
                let mut command = Command::new("setsid");
                command.arg(program.as_ref()).current_dir(&self.directory);
                if let Some(Account { user, group }) = self.account {
                    command.uid(user).gid(group);
                }
                command
            }
        }
    }

    /// Starts the server, which writes to the log from then on.
    pub(crate) fn serve(&self, mut command: Command, port: u16, url: String) -> Result<Running> {
        let log = File::create(self.log()).context("cannot make the server's log")?;
        command.stdin(std::process::Stdio::null()).stderr(log.try_clone()?).stdout(log);
        Running::spawn(command, self.kind, port, url, self.directory.clone())
    }
}

impl Account {
    fn of(user: &str) -> Result<Self> {
        let number = |option: &str| -> Result<u32> {
            let mut command = Command::new("id");
            command.args([option, user]);
            Ok(process::stdout_of(command)?.trim().parse()?)
        };
        Ok(Self { user: number("-u")?, group: number("-g")? })
    }
}

/// A port that nobody listens on now. It is asked for just before the server starts.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// A password that nobody can guess: the port is open to all users of the machine.
pub(crate) fn password() -> Result<String> {
    use std::fmt::Write as _;

    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no random bytes")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

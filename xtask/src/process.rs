//! Child processes that never outlive what they are for.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt::{self, Registered};

/// Whether this machine has the `setpriv` that can tie a child's life to its parent's.
static CAN_TIE: LazyLock<bool> = LazyLock::new(|| {
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
});

/// A command whose process gets `signal` (for example `TERM`) when xtask ends in whatever way, SIGKILL
/// included, where the machine can do that.
pub(crate) fn tied(program: impl AsRef<OsStr>, signal: &str) -> Command {
    if *CAN_TIE {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", signal]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that starts all children. A tied child is told of the end of the *thread* that started
/// it, and the threads that start servers side by side end long before the servers should.
static KEEPER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in orders {
            // Nobody waits for the reply only if the asking thread has panicked.
            let _ = reply.send(command.spawn());
        }
    });
    sender
});

/// Starts a command from the thread that lives as long as xtask does.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    let shown = shown(&command);
    let (sender, reply) = mpsc::channel();
    KEEPER.send((command, sender)).map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    reply
        .recv()
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?
        .with_context(|| format!("cannot start `{shown}`"))
}

/// The process id as the system calls want it.
pub(crate) fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id out of range")
}

/// A running child, in a process group of its own that a signal to xtask ends.
struct Supervised {
    child: Child,
    group: Pid,
    _registered: Registered,
}

impl Supervised {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        let (child, registered) = interrupt::register(|| {
            let child = spawn(command)?;
            let group = pid(&child)?;
            Ok((child, group))
        })?;
        let group = pid(&child)?;
        Ok(Self { child, group, _registered: registered })
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for a child process")?;
        // What the child left behind would hold its output open, and so keep xtask waiting for more.
        let _ = kill_process_group(self.group, Signal::KILL);
        interrupt::check()?;
        Ok(status)
    }
}

/// Runs a command to its end; it writes straight to the terminal.
pub(crate) fn run(command: Command) -> Result<ExitStatus> {
    Supervised::start(command)?.wait()
}

/// Runs a command for so long at most, and with so much memory; what it writes is lost. None if it was cut off.
pub(crate) fn within(mut command: Command, limit: Duration, memory: u64) -> Result<Option<ExitStatus>> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut supervised = Supervised::start(command)?;
    let group = supervised.group;
    bound_memory(group, memory);
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let is_late = end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if is_late {
                // It may have ended meanwhile.
                let _ = kill_process_group(group, Signal::KILL);
            }
            is_late
        });
        let status = supervised.wait();
        drop(ended);
        let is_late = watch.join().unwrap_or(false);
        Ok(Some(status?).filter(|status| !is_late || status.success()))
    })
}

#[cfg(target_os = "linux")]
fn bound_memory(process: Pid, bytes: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};

    // It may have ended meanwhile.
    let _ = prlimit(Some(process), Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) });
}

#[cfg(not(target_os = "linux"))]
fn bound_memory(_: Pid, _: u64) {}

/// Which of its two streams a child wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Runs a command to its end and hands on each line it writes, with its line end, as it comes.
pub(crate) fn lines(mut command: Command, on_line: impl Fn(Stream, &[u8]) + Sync) -> Result<ExitStatus> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut supervised = Supervised::start(command)?;
    let stdout = supervised.child.stdout.take();
    let stderr = supervised.child.stderr.take();
    std::thread::scope(|scope| {
        // Each stream is read by itself: were they one pipe, halves of lines could be mixed up.
        scope.spawn(|| read_lines(stdout, |line| on_line(Stream::Stdout, line)));
        scope.spawn(|| read_lines(stderr, |line| on_line(Stream::Stderr, line)));
        supervised.wait()
    })
}

fn read_lines(pipe: Option<impl Read>, on_line: impl Fn(&[u8])) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        on_line(&line);
        line.clear();
    }
}

/// Runs a command to its end and keeps all that it writes, both streams as one text.
pub(crate) fn capture(command: Command) -> Result<(ExitStatus, String)> {
    let output = Mutex::new(Vec::new());
    let status = lines(command, |_, line| {
        output.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
    })?;
    let output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}

/// Runs a command that must succeed. What it writes is of interest only if it does not.
pub(crate) fn must(command: Command) -> Result<()> {
    let shown = shown(&command);
    let (status, output) = capture(command)?;
    if !status.success() {
        bail!("`{shown}` failed ({status}):\n{}", output.trim_end());
    }
    Ok(())
}

/// Runs a command that must succeed, and gives what it wrote to standard output.
pub(crate) fn stdout_of(command: Command) -> Result<String> {
    let shown = shown(&command);
    let (output, errors) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let status = lines(command, |stream, line| {
        let kept = if stream == Stream::Stdout { &output } else { &errors };
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
    })?;
    let text = |kept: Mutex<Vec<u8>>| {
        let bytes = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if !status.success() {
        bail!("`{shown}` failed ({status}):\n{}", text(errors).trim_end());
    }
    Ok(text(output))
}

/// Runs a command that must not be cut short: a signal to xtask waits until it has ended.
pub(crate) fn run_undisturbed(mut command: Command) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).process_group(0);
    let status = spawn(command)?.wait().context("cannot wait for a child process")?;
    interrupt::check()?;
    Ok(status)
}

/// The command as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let mut words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // How the life of the child is tied is of no interest to who reads the message.
    if words.len() > 3 && words[0] == "setpriv" && words[1] == "--pdeathsig" {
        words.drain(..3);
    }
    // Nor is where cargo is.
    if let Some(name) = Path::new(&words[0]).file_name() {
        words[0] = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

/// Where a program is: on the search path, or where daemons are kept, which is not on everybody's path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

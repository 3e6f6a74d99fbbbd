//! Processes that end with the tests.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
};

use super::settings::Settings;

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that starts all children, and lives as long as the tests: a tied child is told of the end of the
/// thread that started it, and a test may start one from a thread that ends soon.
static KEEPER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in orders {
            let _ = reply.send(command.spawn());
        }
    });
    sender
});

/// Whether this machine has the `setpriv` that can tie a child's life to its parent's.
static CAN_TIE: LazyLock<bool> = LazyLock::new(|| {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
});

/// Starts the broker, which ends when the tests are killed, where the machine can do that.
pub(super) fn spawn(settings: &Settings, log: &Path) -> Child {
    let mut command = if *CAN_TIE {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&settings.program);
        command
    } else {
        Command::new(&settings.program)
    };
    let log = File::options().create(true).append(true).open(log).expect("a log of the broker");
    command.args(&settings.args).envs(settings.variables.iter().cloned());
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log of the broker")).stderr(log);
    let (sender, reply) = mpsc::channel();
    KEEPER.send((command, sender)).expect("the thread that starts processes");
    let child = reply.recv().expect("the thread that starts processes");
    child.unwrap_or_else(|error| panic!("cannot start {}: {error}", settings.program.display()))
}

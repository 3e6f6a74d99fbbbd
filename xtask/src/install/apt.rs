//! Debian's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Installs packages without starting the services in them.
///
/// The guard is the file that Debian asks before it starts a service. If the machine has one, it stays
/// as it is; else the shell removes it at its end, even if xtask was killed meanwhile. The list of
/// packages is fetched only if it turns out to be too old or not to be there.
const SCRIPT: &str = r#"
set -eu
guard=/usr/sbin/policy-rc.d
if ! [ -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$guard"
    chmod 755 "$guard"
fi
apt() {
    apt-get -y -q -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0 "$@"
}
apt install "$@" || { apt update && apt install "$@"; }
"#;

/// Installs packages. What a person can do where that fails ends the error.
pub(crate) fn install(packages: &[&str], otherwise: &str) -> Result<()> {
    let wanted = packages.join(" ");
    if process::find_program("apt-get").is_none() {
        bail!("not installed: {wanted}, and there is no apt-get here to install it: install it, {otherwise}");
    }
    if !rustix::process::getuid().is_root() {
        bail!(
            "not installed: {wanted}, and only root can install it: run `apt-get install {wanted}` as root, {otherwise}"
        );
    }
    eprintln!("install: apt-get install {wanted}");
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "install"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    // Standard output is for what was asked for, for example by `servers env`.
    command.stdout(std::io::stderr());
    // Cut short, it would leave packages half installed.
    let status = process::run_undisturbed(command)?;
    if !status.success() {
        bail!("`apt-get install {wanted}` failed ({status}), see above: repair that, {otherwise}");
    }
    Ok(())
}

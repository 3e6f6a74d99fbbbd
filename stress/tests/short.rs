//! A stress of a few seconds, as `cargo xtask stress` runs it for minutes.

use std::{process::Command, str};

/// The last line of a stress that must have found nothing.
fn stress(engine: &str, history: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-stress"));
    command.args(["--engine", engine, "--minutes", "0.05", "--seed", "7"]);
    command.args(history.iter().flat_map(|path| ["--history", path]));
    let output = command.output().unwrap();
    let (said, errors) = (str::from_utf8(&output.stdout).unwrap(), str::from_utf8(&output.stderr).unwrap());
    assert!(output.status.success(), "{said}\n{errors}");
    said.lines().last().unwrap().to_owned()
}

/// A stress in which nothing happens finds nothing.
fn assert_busy(summary: &str) {
    for nothing in
        [": 0 events", " 0 committed", " 0 rolled-back", " 0 leases", " 0 delivered", " 0 settlements"]
    {
        assert!(!summary.contains(nothing), "{summary}");
    }
}

#[test]
fn a_short_stress_of_the_store_in_memory_finds_nothing_and_its_history_can_be_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let summary = stress("memory", Some(path.to_str().unwrap()));
    assert_busy(&summary);
    let mut again = Command::new(env!("CARGO_BIN_EXE_outbox-stress"));
    let output = again.arg("check").arg(&path).output().unwrap();
    assert!(output.status.success());
    assert_eq!(str::from_utf8(&output.stdout).unwrap().trim_end(), summary);

    // Without its deliveries it is a history of lost events.
    let text = std::fs::read_to_string(&path).unwrap();
    let rest: Vec<&str> = text.lines().filter(|line| !line.contains("\"settle\"")).collect();
    std::fs::write(&path, rest.join("\n")).unwrap();
    let output = again.output().unwrap();
    assert!(!output.status.success());
    assert!(!str::from_utf8(&output.stdout).unwrap().contains(" 0 lost events"));
}

#[test]
fn a_short_stress_of_sqlite_finds_nothing() {
    assert_busy(&stress("sqlite", None));
}

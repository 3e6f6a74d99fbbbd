//! The quickstart as a user runs it: as a process, which may be killed at any moment.

use std::{
    collections::HashSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use outbox::{
    Event,
    sqlx::{self, SqlitePool},
};

/// Cargo builds the examples before it runs the tests, beside the directory of the tests.
fn quickstart() -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/quickstart");
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "build it first: cargo build -p outbox-examples --examples");
    Command::new(program)
}

struct Shop {
    directory: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn db(&self) -> PathBuf {
        self.directory.path().join("shop.db")
    }

    fn run(&self) -> Command {
        let mut command = quickstart();
        // From any other directory.
        command.current_dir(self.directory.path()).arg("--db").arg(self.db());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn published(&self) -> Vec<Event> {
        events(&fs::read_to_string(self.directory.path().join("shop.events.jsonl")).unwrap_or_default())
    }

    /// Of a file that may be growing.
    fn published_lines(&self) -> usize {
        let file = fs::read(self.directory.path().join("shop.events.jsonl")).unwrap_or_default();
        file.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).count()
    }

    fn ids(&self, query: &'static str) -> Vec<String> {
        let url = format!("sqlite:{}", self.db().display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = SqlitePool::connect(&url).await.unwrap();
            sqlx::query_scalar(query).fetch_all(&pool).await.unwrap()
        })
    }

    fn committed(&self) -> Vec<String> {
        self.ids("SELECT id FROM orders ORDER BY rowid")
    }
}

fn events(lines: &str) -> Vec<Event> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The order's id of each event, the first time that it is there.
fn first_occurrences(events: &[Event]) -> Vec<String> {
    let mut seen = HashSet::new();
    let ids = events.iter().map(|event| event.meta().resource_id.clone().unwrap());
    ids.filter(|id| seen.insert(id.clone())).collect()
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn order(id: &str, product: &str, quantity: u32, price: u32) -> String {
    format!(
        r#"{{"id":"{id}","customer":"c-001","product":"{product}","quantity":{quantity},"price":{price}}}"#
    )
}

/// The summary on standard error, without the seconds.
fn summary(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let summary = text.lines().find_map(|line| line.split_once(", seconds "));
    summary.unwrap_or_else(|| panic!("{text}")).0.to_owned()
}

#[test]
fn it_takes_the_orders_and_publishes_those_that_were_committed() {
    let shop = Shop::new();
    let output = shop.run().output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let (committed, published) = (shop.committed(), shop.published());
    let (count, refused) = (committed.len(), 1000 - committed.len());
    assert_eq!(
        summary(&output),
        format!("read 1000, committed {count}, rolled back {refused}, published {count}, pending 0")
    );
    assert_eq!(first_occurrences(&published), committed);
    assert_eq!(published.len(), count);
    assert!(published.iter().all(|event| event.event_type() == "order.placed"
        && event.meta().idempotency_key == event.meta().resource_id));
    // The bundled orders break both rules often enough to be seen.
    for reason in ["wrong price", "out of stock"] {
        let refused = shop.ids("SELECT reason FROM refused_orders");
        assert!(refused.iter().filter(|found| *found == reason).count() > 50, "{reason}");
    }
    assert_eq!(shop.ids("SELECT id FROM products WHERE stock < 0"), [""; 0]);

    let again = shop.run().output().unwrap();
    assert_eq!(summary(&again), "read 1000, committed 0, rolled back 0, published 0, pending 0");
    assert_eq!(shop.published().len(), count);
}

#[test]
fn killed_again_and_again_it_goes_on_where_it_was() {
    let undisturbed = Shop::new();
    undisturbed.run().output().unwrap();

    let shop = Shop::new();
    for round in 1..=8 {
        let mut child = shop.run().spawn().unwrap();
        while shop.published_lines() < 50 * round {
            thread::sleep(Duration::from_millis(5));
        }
        // SIGKILL: nothing is cleaned up.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(shop.committed().len() < undisturbed.committed().len(), "killed too late");
    let output = shop.run().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(summary(&output).ends_with("pending 0"), "{}", summary(&output));

    // The same orders were accepted, and every one of them was published, in the order of the commits.
    let committed = shop.committed();
    assert_eq!(committed, undisturbed.committed());
    assert_eq!(first_occurrences(&shop.published()), committed);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_committed_before_a_kill_is_published_by_the_next_run() {
    let shop = Shop::new();
    // Nothing can be written there, so that everything stays pending.
    let full = Path::new("/dev/full");
    let output = shop.run().arg("--publish").arg(full).output().unwrap();
    assert!(!output.status.success(), "a script can see that something is left");
    let count = shop.committed().len();
    assert!(summary(&output).ends_with(&format!("published 0, pending {count}")), "{}", summary(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("not everything could be published: could not write to /dev/full"), "{text}");

    let output = shop.run().output().unwrap();
    assert!(summary(&output).ends_with(&format!("committed 0, rolled back 0, published {count}, pending 0")));
    assert_eq!(first_occurrences(&shop.published()), shop.committed());
}

#[test]
fn malformed_lines_are_reported_with_their_number_and_skipped() {
    let shop = Shop::new();
    let mut input = Vec::from("\u{feff}");
    let lines = [
        order("a", "p-007", 2, 1999),
        String::new(),
        "no json".into(),
        r#"{"id":"b","customer":"c","product":"p-007","quantity":"two","price":1999}"#.into(),
        r#"{"id":"c","customer":"c","product":"p-007","price":1999}"#.into(),
        order("d", "p-007", 0, 1999),
        "   \t\r".into(),
        "\u{feff}".into(),
        order("e", "p-007", 1, 1999),
        order("a", "p-007", 1, 1999),
    ];
    for line in lines {
        input.extend(line.as_bytes());
        input.push(b'\n');
    }
    input.extend(b"{\"id\":\"\xff\"}\n");
    // The last line has no end.
    input.extend(order("f", "p-999", 1, 1).as_bytes());
    let mut command = shop.run();
    command.args(["--orders", "-"]);
    let output = with_input(command, &input);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let reported: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("line ")).collect();
    let numbers: Vec<_> = reported.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["3", "4", "5", "6", "8", "11"], "{text}");
    assert!(text.contains("6 lines were skipped, 1 orders had been decided before"), "{text}");
    assert_eq!(summary(&output), "read 4, committed 2, rolled back 1, published 2, pending 0");
    assert_eq!(shop.committed(), ["a", "e"]);
    assert_eq!(shop.ids("SELECT reason FROM refused_orders"), ["no such product"]);
}

#[test]
fn published_to_standard_output_there_is_nothing_else() {
    let shop = Shop::new();
    let input = [order("a", "p-007", 1, 1999), order("b", "p-007", 1, 1), order("c", "p-001", 1, 4999)];
    let mut command = shop.run();
    command.args(["--orders", "-", "--publish", "-"]);
    let output = with_input(command, input.join("\n").as_bytes());
    let published = events(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(first_occurrences(&published), ["a", "c"]);
}

#[test]
fn an_order_that_was_refused_is_not_accepted_by_a_later_run() {
    let shop = Shop::new();
    let run = |input: &str| {
        let mut command = shop.run();
        command.args(["--orders", "-"]);
        summary(&with_input(command, input.as_bytes()))
    };
    let large = order("large", "p-019", 5000, 4999);
    assert!(run(&large).starts_with("read 1, committed 0, rolled back 1"));
    assert!(run(&large.replace("5000", "1")).starts_with("read 1, committed 0, rolled back 0"));
    assert!(shop.published().is_empty());
}

#[test]
fn files_that_are_not_there_are_named() {
    let shop = Shop::new();
    let output = shop.run().args(["--orders", "nowhere.jsonl"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("error: nowhere.jsonl: No such file"));
}

#[cfg(unix)]
#[test]
fn interrupted_it_stops_with_the_summary() {
    let shop = Shop::new();
    let mut command = shop.run();
    command.args(["--orders", "-"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Left open: there could be more.
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", order("a", "p-007", 1, 1999)).unwrap();
    while shop.published_lines() == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(summary(&output), "read 1, committed 1, rolled back 0, published 1, pending 0");
    drop(input);
}

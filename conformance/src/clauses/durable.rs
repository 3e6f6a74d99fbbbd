//! What outlives the process.

use std::{
    collections::HashSet,
    env,
    fmt::Display,
    io::{BufRead, BufReader, Write, stdout},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use outbox_traits::{EventId, OutboxStore};

use crate::{
    DurableHarness,
    support::{acknowledge, event, events, ids, kept, pending_ids, save, save_all},
};

/// Names the location of the store to a child process of a test.
pub(crate) const CHILD: &str = "OUTBOX_CONFORMANCE_CHILD";

/// 5.5: what was saved, acknowledged and purged is so after closing and opening the store.
pub async fn events_survive_closing_and_opening<H: DurableHarness>(h: Arc<H>, _test: String) {
    let location = h.location();
    let all = events(5);
    // Each is closed before the next one is opened: an embedded engine lets one in at a time.
    let first = Arc::new(H::reopen(&location).await);
    save_all(&first, &all).await;
    acknowledge(&first, all[1].id()).await;
    drop(first);
    let again = Arc::new(H::reopen(&location).await);
    assert_eq!(pending_ids(&again).await, [all[0].id(), all[2].id(), all[3].id(), all[4].id()]);
    // And the order goes on where it was.
    let more = event("more");
    save(&again, &more).await;
    acknowledge(&again, all[0].id()).await;
    drop(again);
    let third = Arc::new(H::reopen(&location).await);
    assert_eq!(pending_ids(&third).await, [all[2].id(), all[3].id(), all[4].id(), more.id()]);
    assert_eq!(third.store().purge(Duration::ZERO).await.expect("purge"), kept(&third, 2));
}

/// 5.5: a `kill -9` right after a commit or an acknowledgement returned takes neither back, and what was not
/// committed does not appear.
pub async fn commits_and_acknowledgements_survive_a_kill<H: DurableHarness>(h: Arc<H>, test: String) {
    for run in 0..4_usize {
        let mut child = spawn_child(&h.location(), &test);
        let output = BufReader::new(child.stdout.take().expect("its standard output"));
        let (mut saved, mut acknowledged, mut open) = (Vec::new(), HashSet::new(), HashSet::new());
        let mut is_killed = false;
        for line in output.lines().map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("saved", id)) => saved.push(id.parse::<EventId>().expect("an id")),
                Some(("acknowledged", id)) => drop(acknowledged.insert(id.parse().expect("an id"))),
                Some(("open", id)) => drop(open.insert(id.parse::<EventId>().expect("an id"))),
                _ => continue,
            }
            // And on to the end: a quick engine may have said more before it was killed.
            if !is_killed && saved.len() > 10 + 7 * run && acknowledged.len() > 5 && !open.is_empty() {
                child.kill().expect("kill -9");
                is_killed = true;
            }
        }
        let status = child.wait().expect("wait");
        assert!(!status.success() && saved.len() > 10, "the child ended by itself: {status}");

        let h = Arc::new(H::reopen(&h.location()).await);
        let pending = pending_ids(&h).await;
        let found: HashSet<EventId> = pending.iter().copied().collect();
        for id in &saved {
            assert!(
                acknowledged.contains(id) || found.contains(id) || {
                    // One acknowledgement may have been under way, and have been made.
                    id == acknowledged_next(&saved, &acknowledged)
                },
                "{id} was committed and is lost"
            );
        }
        assert!(found.is_disjoint(&acknowledged), "an acknowledgement was lost");
        assert!(found.is_disjoint(&open), "what was never committed appeared");
        let order: Vec<_> = saved.iter().filter(|id| found.contains(id)).collect();
        let read: Vec<_> = pending.iter().filter(|id| saved.contains(id)).collect();
        assert_eq!(read, order, "in the order in which they were committed");
        h.store().acknowledge_all(&pending).await.expect("acknowledge_all");
    }
}

fn acknowledged_next<'a>(saved: &'a [EventId], acknowledged: &HashSet<EventId>) -> &'a EventId {
    saved.iter().find(|id| !acknowledged.contains(id)).unwrap_or(&saved[0])
}

pub(crate) fn spawn_child(location: &str, test: &str) -> Child {
    Command::new(env::current_exe().expect("the path of this test program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, location)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test program starts again")
}

/// Says something to the parent.
pub(crate) fn say(what: &str, of: impl Display) {
    let mut out = stdout().lock();
    // A pipe whose reader is gone means that the parent is: there is nobody left to write for.
    if writeln!(out, "\n{what} {of}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The child's part: writes until it is killed, and says what has returned.
pub(crate) async fn child<H: DurableHarness>(location: &str) {
    let h = H::reopen(location).await;
    for round in 0..10_000 {
        let committed = events(2);
        let mut transaction = h.begin().await;
        h.store().save_all_in_session(&committed, h.session(&mut transaction)).await.expect("save");
        h.commit(transaction).await;
        for id in ids(&committed) {
            say("saved", id);
        }
        h.store().acknowledge(committed[0].id()).await.expect("acknowledge");
        say("acknowledged", committed[0].id());
        h.store().acknowledge(committed[1].id()).await.expect("acknowledge");
        say("acknowledged", committed[1].id());
        if round % 3 == 2 {
            let kept = event("kept");
            h.store().save(&kept).await.expect("save");
            say("saved", kept.id());
            let open = event("open");
            let mut transaction = h.begin().await;
            h.store().save_in_session(&open, h.session(&mut transaction)).await.expect("save");
            say("open", open.id());
            h.rollback(transaction).await;
            h.store().acknowledge(kept.id()).await.expect("acknowledge");
            say("acknowledged", kept.id());
        }
    }
}

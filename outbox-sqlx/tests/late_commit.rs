//! A transaction that commits while a claim looks, between two of its pages.

mod harness;

use std::{future::poll_fn, task::Poll, time::Duration};

use outbox_conformance::{Harness, require};
use outbox_sqlx::sqlx;
use outbox_traits::{Claim, ClaimStore, Event, OutboxStore, Settlement};
use serde_json::json;

use harness::postgres::Pg;

fn of(key: &str) -> Event {
    Event::new("t", json!({})).unwrap().with_partition_key(key)
}

/// A place in the first page was nobody's yet when that was read. What was saved after its commit is not to come before it.
#[tokio::test]
async fn what_commits_behind_a_claim_that_looks_is_not_overtaken_by_what_was_saved_after_it() {
    // A claim whose answers come while it is polled does not stop at its first page, and on a busy machine one may.
    for _ in 0..50 {
        let Some(h) = require("late_commit::postgres", Pg::open().await) else { return };
        let stopped = commit_behind_the_first_page(&h).await;
        h.close().await;
        if stopped {
            return;
        }
    }
    panic!("no claim has stopped between its first page and the next");
}

/// Whether the claim stopped there. If it did, the order is asserted.
async fn commit_behind_the_first_page(h: &Pg) -> bool {
    let store = &h.store;
    store.save(&of("busy")).await.unwrap();
    let claim = Claim::new("worker").with_lease(Duration::from_mins(10)).with_limit(1);
    assert_eq!(store.claim(&claim).await.unwrap().len(), 1);
    let behind = |count| (0..count).map(|_| of("busy")).collect::<Vec<_>>();
    store.save_all(&behind(50)).await.unwrap();
    let (early, late) = (of("key"), of("key"));
    let mut transaction = h.pool().begin().await.unwrap();
    store.save_in_session(&early, &mut transaction).await.unwrap();
    store.save_all(&behind(200)).await.unwrap();

    // One statement after the other, until the first page of the walk has been read on the server.
    let mut claiming = store.claim(&claim);
    let has_read = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND state = 'idle in transaction'
            AND query LIKE '%AS wanted%' AND query LIKE '%LIMIT 100%'",
        h.place
    );
    loop {
        if poll_fn(|context| Poll::Ready(claiming.as_mut().poll(context))).await.is_ready() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let read: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(has_read.as_str())).fetch_one(h.pool()).await.unwrap();
        if read > 0 {
            break;
        }
    }
    transaction.commit().await.unwrap();
    store.save(&late).await.unwrap();

    let mut claimed = claiming.await.unwrap();
    let mut order = Vec::new();
    while order.len() < 2 {
        let ended: Vec<Settlement> = claimed.iter().map(|one| Settlement::delivered(one.lease)).collect();
        store.settle(&ended).await.unwrap().into_iter().collect::<Result<(), _>>().unwrap();
        order.extend(claimed.iter().map(|one| one.event.id()));
        claimed = store.claim(&claim).await.unwrap();
    }
    assert_eq!(order, [early.id(), late.id()]);
    true
}

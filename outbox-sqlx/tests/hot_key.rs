//! A key with more events than one claim puts aside.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{Claim, ClaimStore, Event, OutboxStore, Settlement};
use serde_json::json;

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// Of the hot key, behind its first.
const HOT: u32 = 10_000;

fn hot(number: u32) -> Event {
    Event::new("hot", json!(number)).unwrap().with_partition_key("hot")
}

async fn others_come_past_it_and_it_keeps_its_order<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let store = h.store();
    let claim = Claim::new("worker").with_lease(Duration::from_secs(600));
    store.save(&hot(0)).await.unwrap();
    let first = store.claim(&claim.clone().with_limit(1)).await.unwrap();
    store.save_all(&(1..=HOT).map(hot).collect::<Vec<_>>()).await.unwrap();
    let other = Event::new("other", json!({})).unwrap().with_partition_key("other");
    store.save(&other).await.unwrap();

    // Empty as long as the lease may be about to end.
    let others = loop {
        let leased = store.claim(&claim.clone().with_limit(10)).await.unwrap();
        if !leased.is_empty() {
            break leased;
        }
    };
    assert_eq!(others.iter().map(|leased| leased.event.id()).collect::<Vec<_>>(), [other.id()]);

    let mut leased = [first, others].concat();
    let mut next = 1;
    while !leased.is_empty() {
        let settlements: Vec<_> = leased.iter().map(|leased| Settlement::delivered(leased.lease)).collect();
        for settled in store.settle(&settlements).await.unwrap() {
            settled.unwrap();
        }
        leased = store.claim(&claim.clone().with_limit(1000)).await.unwrap();
        for leased in &leased {
            assert_eq!(*leased.event.payload(), json!(next));
            next += 1;
        }
    }
    assert_eq!(next, HOT + 1);
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_postgres() {
    let Some(h) = require("hot_key::postgres", Pg::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_mysql() {
    let Some(h) = require("hot_key::mysql", My::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

#[tokio::test]
async fn a_hot_key_holds_up_nobody_on_sqlite() {
    let Some(h) = require("hot_key::sqlite", Lite::open().await) else { return };
    others_come_past_it_and_it_keeps_its_order(&h).await;
    h.close().await;
}

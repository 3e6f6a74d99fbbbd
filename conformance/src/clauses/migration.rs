//! Section 9.3: a schema that is made by hand.

use std::sync::Arc;

use outbox_traits::{OutboxStore, Saved, SchemaStore};

use super::names::good;
use crate::{
    MigrationHarness, NamesHarness,
    support::{event, events, pending_ids},
};

/// Some of the names that there is room for: plain, with quotation marks, beyond ASCII, and the longest.
pub(crate) fn some<H: NamesHarness>(h: &Arc<H>) -> Vec<String> {
    let mut all = good(h);
    let longest = all.pop();
    let odd = all.into_iter().filter(|name| name.contains(['"', ';']) || !name.is_ascii());
    ["by_hand".to_owned()].into_iter().chain(odd).chain(longest).collect()
}

/// 9.3: what is made without `migrate`, under whatever name, is as good as what that makes, and made again it stays as it is.
pub async fn an_outbox_that_is_made_by_hand_is_one<H: MigrationHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    for name in some(&h) {
        let store = h.named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        assert!(!store.verify().await.expect("verify").is_current(), "{name}: it is there already");
        h.make_by_hand(&name).await;
        let report = store.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        let mut all = events(3);
        all[2] = event("keyed").with_idempotency_key("a");
        assert_eq!(store.save(&all[0]).await.expect("save"), Saved::Stored, "{name}");
        let saved = store.save_all(&all).await.expect("save_all");
        assert_eq!(saved, [Saved::Duplicate, Saved::Stored, Saved::Stored], "{name}");
        let same_key = event("same key").with_idempotency_key("a");
        assert_eq!(store.save(&same_key).await.expect("save"), Saved::Duplicate, "{name}");
        store.acknowledge(all[0].id()).await.expect("acknowledge");
        for _ in 0..2 {
            h.make_by_hand(&name).await;
            store.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let report = store.verify().await.expect("verify");
            assert!(report.is_current(), "{name}: {report}");
            let pending = store.get_pending(10).await.expect("get_pending");
            assert_eq!(pending, all[1..], "{name}: made again, it is not as it was");
        }
    }
    assert!(pending_ids(&h).await.is_empty(), "events of others");
}

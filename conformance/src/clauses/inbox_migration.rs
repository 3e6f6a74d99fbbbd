//! Section 9.3 for inboxes that are made by hand.

use std::sync::Arc;

use outbox_traits::{EventId, Receipt, SchemaStore};

use super::{inbox_names::process, migration::some};
use crate::InboxMigrationHarness;

/// 9.3: what the plain SQL makes is what `migrate` makes, under whatever name, and run again it changes nothing.
pub async fn an_inbox_that_is_made_by_hand_is_one<H: InboxMigrationHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    let event = EventId::new();
    for name in some(&h) {
        let inbox =
            h.inbox_named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        assert!(!inbox.verify().await.expect("verify").is_current(), "{name}: it is there already");
        let sql = h.inbox_migration_sql(&name);
        h.run_by_hand(&sql).await;
        let report = inbox.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        assert_eq!(process(&h, &inbox, event).await.expect(&name), Receipt::New, "{name}");
        for _ in 0..2 {
            h.run_by_hand(&sql).await;
            inbox.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let report = inbox.verify().await.expect("verify");
            assert!(report.is_current(), "{name}: {report}");
            assert_eq!(process(&h, &inbox, event).await.expect(&name), Receipt::Duplicate, "{name}");
        }
    }
}

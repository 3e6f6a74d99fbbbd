//! Section 9.3 for inboxes that are made by hand.

use std::sync::Arc;

use outbox_traits::{EventId, Receipt, SchemaStore};

use super::{inbox_names::process, migration::some};
use crate::InboxMigrationHarness;

/// 9.3: what is made without `migrate`, under whatever name, is as good as what that makes, and made again it stays as it is.
pub async fn an_inbox_that_is_made_by_hand_is_one<H: InboxMigrationHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    let event = EventId::new();
    for name in some(&h) {
        let inbox =
            h.inbox_named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        assert!(!inbox.verify().await.expect("verify").is_current(), "{name}: it is there already");
        h.make_inbox_by_hand(&name).await;
        let report = inbox.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        assert_eq!(process(&h, &inbox, event).await.expect(&name), Receipt::New, "{name}");
        for _ in 0..2 {
            h.make_inbox_by_hand(&name).await;
            inbox.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let report = inbox.verify().await.expect("verify");
            assert!(report.is_current(), "{name}: {report}");
            assert_eq!(process(&h, &inbox, event).await.expect(&name), Receipt::Duplicate, "{name}");
        }
    }
}

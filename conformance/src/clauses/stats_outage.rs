//! Section 9.5 for stats: what was cut off is counted.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ClaimStore, OutboxStore, Settlement, StatsStore};

use super::{
    claim::leased,
    outage::{Away, assert_cut_off},
};
use crate::{
    OutageHarness,
    support::{kept, retried},
};

/// 9.1 and 9.5: whatever is left of a settlement that was cut off, each event is counted once, as what it is by now.
pub async fn what_was_settled_is_counted_though_it_was_cut_off<H: OutageHarness>(h: Arc<H>)
where
    H::Store: ClaimStore + StatsStore,
{
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let there = Arc::clone(&away.h);
        let held = leased(&h, 3).await;
        let settlements: Vec<Settlement> = held.iter().map(|one| Settlement::delivered(one.lease)).collect();
        if let Err(error) = away.cut(there.store().settle(&settlements)).await {
            assert_cut_off(&error);
        }
        // Until somebody makes it again, too.
        let stats = h.store().stats().await.expect("stats");
        assert!(matches!((stats.pending, stats.leased, stats.dead), (0, 0 | 3, 0)), "{stats:?}");
        let counted = [0, 3].map(|delivered| kept(&h, delivered));
        assert!(counted.contains(&stats.delivered), "{stats:?}, and {counted:?} are delivered");
        if stats.leased == 0 {
            assert_eq!((stats.oldest_pending, stats.oldest_due), (None, None));
        }
        // It took now, or before; what is cut off so late may still be under way.
        let took = retried(|| h.store().settle(&settlements)).await.iter().filter(|one| one.is_ok()).count();
        assert!(took == 0 || took == 3 && stats.leased == 3, "{took} took, of which {stats:?}");
        let stats = h.store().stats().await.expect("stats");
        assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0));
        assert_eq!(stats.delivered, kept(&h, 3));
        assert_eq!((stats.oldest_pending, stats.oldest_due), (None, None));
        let purged = retried(|| h.store().purge(Duration::ZERO)).await;
        assert_eq!(
            purged,
            kept(&h, 3),
            "what was settled again is delivered, and nothing of it is left to do"
        );
    }
}

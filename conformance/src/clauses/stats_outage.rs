//! Section 9.5 for stats: what was cut off is counted.

use std::sync::Arc;

use outbox_traits::{ClaimStore, Settlement, StatsStore};

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
    let mut delivered = 0;
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
        let counted = [delivered, delivered + 3].map(|delivered| kept(&h, delivered));
        assert!(counted.contains(&stats.delivered), "{stats:?}, and {counted:?} are delivered");
        if stats.leased == 0 {
            assert_eq!((stats.oldest_pending, stats.oldest_due), (None, None));
        }
        // It took now, or before.
        retried(|| h.store().settle(&settlements)).await;
        delivered += 3;
        let stats = h.store().stats().await.expect("stats");
        assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0));
        assert_eq!(stats.delivered, kept(&h, delivered));
        assert_eq!((stats.oldest_pending, stats.oldest_due), (None, None));
    }
}

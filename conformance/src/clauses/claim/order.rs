//! The order in which claims hand out events.

use std::sync::Arc;

use outbox_traits::{ClaimStore, Settlement};

use super::{LEASE, assert_first_of, claim, delivered, drained, leased_ids, settled};
use crate::{
    Harness,
    support::{backwards, ids, save, save_all},
};

/// 3.1 and 7.1: what is claimed first does not rest on an application's clock or ids: neither of events without a key, nor
/// within one, nor where the key has waited.
pub async fn claims_do_not_rest_on_the_application_s_clock<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    for (is_keyed, has_waited) in [(false, false), (true, false), (true, true)] {
        let mut all = backwards(10);
        if is_keyed {
            all = all.into_iter().map(|event| event.with_partition_key("k")).collect();
        }
        for one in &all[..5] {
            save(&h, one).await;
        }
        save_all(&h, &all[5..]).await;
        if has_waited {
            let first = claim(&h, 1).await;
            assert_eq!(leased_ids(&first), [all[0].id()]);
            settled(&h, [Settlement::retry(first[0].lease, LEASE, "failed")]).await;
            assert!(claim(&h, 10).await.is_empty());
            h.advance(LEASE * 2).await;
        }
        let leased = claim(&h, 3).await;
        assert_first_of(&leased, &ids(&all[..3]));
        assert!(is_keyed || leased.len() == 3, "nothing is in the way: {leased:?}");
        delivered(&h, &leased).await;
        assert_eq!(drained(&h, 10).await, ids(&all[leased.len()..]));
    }
}

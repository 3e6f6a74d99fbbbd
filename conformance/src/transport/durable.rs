//! What an accepted event survives.

use std::{collections::HashSet, sync::Arc};

use outbox_traits::Event;

use super::{
    OutageHarness,
    support::{ids_of, of_keys, publish, publish_all, publish_amid_outages, received},
};

/// 13.12: what was accepted survives a `kill -9` of the broker right after it.
pub async fn what_was_accepted_survives_a_kill<H: OutageHarness>(h: Arc<H>) {
    let events = of_keys(3, 0, 51);
    publish_all(&h, &events[..50]).await;
    publish(&h, &events[50]).await;
    h.stop().await;
    h.start().await;
    let arrived: HashSet<_> = ids_of(&received(&h).await).into_iter().collect();
    let lost: Vec<_> = events.iter().map(Event::id).filter(|id| !arrived.contains(id)).collect();
    assert_eq!(lost, [], "accepted, and lost in the restart");
}

/// 13.12: of batches in whose middle the broker is killed, nothing that was accepted is lost.
pub async fn nothing_accepted_is_lost_amid_outages<H: OutageHarness>(h: Arc<H>) {
    let accepted = publish_amid_outages(&h).await;
    let arrived: HashSet<_> = ids_of(&received(&h).await).into_iter().collect();
    let lost: Vec<_> = accepted.into_iter().filter(|id| !arrived.contains(id)).collect();
    assert_eq!(lost, [], "accepted, and lost");
}

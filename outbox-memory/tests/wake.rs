//! What wakes beside a commit.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use outbox_memory::MemoryOutbox;
use outbox_traits::{
    Claim, ClaimStore, DeadLetterStore, Event, OutboxStore, Result, Settlement, WakeStore, Wakeups,
};
use serde_json::json;

fn is_woken(listener: &mut Box<dyn Wakeups>) -> bool {
    pin!(listener.wait()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn dead_letters_that_are_requeued_or_discarded_wake() -> Result<()> {
    let store = MemoryOutbox::new();
    let event = |number| Ok(Event::new("t", json!(number))?.with_partition_key("k"));
    store.save_all(&[event(1)?, event(2)?]).await?;
    let mut listener = store.wakeups().await?;
    for is_requeued in [true, false] {
        let leased = store.claim(&Claim::new("w").with_limit(1)).await?;
        store.settle(&[Settlement::dead_letter_holding_key(leased[0].lease, "failed")]).await?;
        assert!(!is_woken(&mut listener), "what comes after it waits");
        let id = leased[0].event.id();
        assert!(if is_requeued { store.requeue(id).await? } else { store.discard(id).await? });
        assert!(is_woken(&mut listener));
    }
    assert!(!store.discard(event(3)?.id()).await?);
    assert!(!is_woken(&mut listener), "nothing has changed");
    Ok(())
}

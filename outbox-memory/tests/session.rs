//! What becomes of a unit of work in memory where the user's part of it fails, and of what has an id that is taken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use outbox_memory::{MemoryInbox, MemoryOutbox};
use outbox_traits::{Event, InboxStore, OutboxStore, Receipt, Result, Saved};
use serde_json::json;

#[tokio::test]
async fn a_panic_at_the_commit_leaves_no_event_and_no_mark() -> Result<()> {
    let outbox = MemoryOutbox::new();
    let inbox = MemoryInbox::new(&outbox);
    let (event, processed) =
        (Event::new("order.paid", json!({}))?, Event::new("order.placed", json!({}))?.id());
    let mut session = outbox.begin();
    assert_eq!(outbox.save_in_session(&event, &mut session).await?, Saved::Stored);
    assert!(inbox.process_once(&mut session, "consumer", processed).await?.is_new());
    session.on_commit(|| panic!("the business's own state cannot be changed"));
    assert!(catch_unwind(AssertUnwindSafe(|| session.commit())).is_err());
    assert_eq!(outbox.get_pending(9).await?, []);

    let mut again = outbox.begin();
    assert_eq!(outbox.save_in_session(&event, &mut again).await?, Saved::Stored);
    assert_eq!(inbox.process_once(&mut again, "consumer", processed).await?, Receipt::New);
    again.commit();
    assert_eq!(outbox.get_pending(9).await?, [event]);
    Ok(())
}

#[tokio::test]
async fn an_id_that_is_taken_is_not_made_undecodable() -> Result<()> {
    let outbox = MemoryOutbox::new();
    let event = Event::new("order.paid", json!({}))?;
    outbox.save(&event).await?;
    outbox.insert_undecodable(event.id(), "broken", "{");
    assert_eq!(outbox.get_pending(9).await?, std::slice::from_ref(&event));
    outbox.acknowledge(event.id()).await?;
    assert_eq!(outbox.get_pending(9).await?, []);
    Ok(())
}

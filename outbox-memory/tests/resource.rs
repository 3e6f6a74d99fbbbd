//! Resource events, as far as no other store has to do with them.

use outbox_memory::{MemoryInbox, MemoryOutbox};
use outbox_traits::{ErrorKind, Event, OutboxStore, resource::ResourceEvents};
use serde_json::json;

#[tokio::test]
async fn an_id_that_is_no_json_is_refused_by_each_change() {
    let store = MemoryOutbox::new();
    let events = ResourceEvents::new(store.clone(), "book");
    let mut session = store.begin();
    // Larger than the numbers of a JSON value.
    let (id, changes) = (u128::MAX, json!({ "title": "Emma" }));
    for refused in [
        events.updated(&id, &changes, &mut session).await.map(drop),
        events.deleted(&id, &mut session).await.map(drop),
        events.updated_all(&[id], &changes, &mut session).await,
        events.deleted_all(&[id], &mut session).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
    }
    assert!(events.deleted(&1, &mut session).await.unwrap().is_some());
}

/// They end up in logs.
#[tokio::test]
async fn what_is_printed_for_debugging_shows_no_event() {
    let store = MemoryOutbox::new();
    store.save(&Event::new("user.registered", json!({ "password": "secret" })).unwrap()).await.unwrap();
    let inbox = MemoryInbox::new(&store);
    let events = ResourceEvents::new(store.clone(), "user");
    for printed in [format!("{store:?}"), format!("{inbox:?}"), format!("{events:?}")] {
        assert!(printed.contains("Shared"), "{printed}");
        assert!(!printed.contains("secret") && !printed.contains("user.registered"), "{printed}");
    }
}

//! Resource events whose parts do not become JSON: no store has to do with that.

use outbox_memory::MemoryOutbox;
use outbox_traits::{ErrorKind, resource::ResourceEvents};
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

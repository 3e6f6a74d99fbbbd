//! Section 11: resource events.

use std::{collections::HashSet, sync::Arc};

use outbox_traits::{
    Error, ErrorKind, Event, OutboxStore, async_trait,
    resource::{Change, Outboxed, Repository, ResourceEvents},
};
use serde_json::{Value, json};

use crate::{
    Harness, SessionOf,
    support::{pending, rows},
};

/// A repository over the business rows of the harness; it knows the entities that have an even number.
struct Shelf<H>(Arc<H>);

#[async_trait]
impl<H: Harness> Repository for Shelf<H> {
    type Session = SessionOf<H>;
    type Id = u32;
    type Entity = Value;
    type Changes = Value;
    type Error = Error;

    fn id_of(entity: &Value) -> u32 {
        entity["id"].as_u64().and_then(|id| id.try_into().ok()).expect("an id")
    }

    async fn create(&self, mut entity: Value, session: &mut SessionOf<H>) -> Result<Value, Error> {
        if entity["title"] == "forbidden" {
            return Err(Error::new(ErrorKind::Backend, "a rule of the business"));
        }
        if entity["id"].is_null() {
            entity["id"] = json!(100);
        }
        self.0.write_row(&format!("create {}", entity["id"]), session).await;
        Ok(entity)
    }

    async fn update(&self, id: &u32, _: &Value, session: &mut SessionOf<H>) -> Result<bool, Error> {
        self.0.write_row(&format!("update {id}"), session).await;
        Ok(id.is_multiple_of(2))
    }

    async fn delete(&self, id: &u32, session: &mut SessionOf<H>) -> Result<bool, Error> {
        self.0.write_row(&format!("delete {id}"), session).await;
        Ok(id.is_multiple_of(2))
    }
}

/// The harness's store behind an `Arc`, as an application shares it.
struct Shared<H>(Arc<H>);

impl<H> std::fmt::Debug for Shared<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the harness's store")
    }
}

#[async_trait]
impl<H: Harness> OutboxStore for Shared<H> {
    type Session = SessionOf<H>;

    async fn save(&self, event: &Event) -> outbox_traits::Result<outbox_traits::Saved> {
        self.0.store().save(event).await
    }
    async fn save_all(&self, events: &[Event]) -> outbox_traits::Result<Vec<outbox_traits::Saved>> {
        self.0.store().save_all(events).await
    }
    async fn save_in_session(
        &self,
        event: &Event,
        session: &mut SessionOf<H>,
    ) -> outbox_traits::Result<outbox_traits::Saved> {
        self.0.store().save_in_session(event, session).await
    }
    async fn save_all_in_session(
        &self,
        events: &[Event],
        session: &mut SessionOf<H>,
    ) -> outbox_traits::Result<Vec<outbox_traits::Saved>> {
        self.0.store().save_all_in_session(events, session).await
    }
    async fn get_pending(&self, limit: usize) -> outbox_traits::Result<Vec<Event>> {
        self.0.store().get_pending(limit).await
    }
    async fn acknowledge(&self, id: outbox_traits::EventId) -> outbox_traits::Result<()> {
        self.0.store().acknowledge(id).await
    }
    async fn purge(&self, older_than: std::time::Duration) -> outbox_traits::Result<u64> {
        self.0.store().purge(older_than).await
    }
}

fn book_events<H: Harness>(h: &Arc<H>) -> ResourceEvents<Shared<H>> {
    ResourceEvents::new(Shared(Arc::clone(h)), "book")
}

fn books<H: Harness>(h: &Arc<H>, events: ResourceEvents<Shared<H>>) -> Outboxed<Shelf<H>, Shared<H>> {
    Outboxed::new(Shelf(Arc::clone(h)), events)
}

async fn recorded<H: Harness>(h: &Arc<H>) -> Vec<(String, Value)> {
    let read = pending(h).await;
    read.iter().map(|event| (event.event_type().to_owned(), event.payload().clone())).collect()
}

/// 11.1: create, update and delete write an event each, in the session of the business write.
pub async fn writes_of_a_repository_are_recorded<H: Harness>(h: Arc<H>) {
    let books = books(&h, book_events(&h));
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    let created = books.create(json!({ "title": "Emma" }), session).await.expect("create");
    books.update(&100, &json!({ "title": "Persuasion" }), session).await.expect("update");
    books.delete(&100, session).await.expect("delete");
    assert!(pending(&h).await.is_empty(), "they are visible before the commit");
    h.commit(transaction).await;
    assert_eq!(created["id"], 100);
    assert_eq!(
        recorded(&h).await,
        [
            ("book.created".to_owned(), json!({ "id": 100, "title": "Emma" })),
            ("book.updated".to_owned(), json!({ "id": 100, "changes": { "title": "Persuasion" } })),
            ("book.deleted".to_owned(), json!({ "id": 100 })),
        ]
    );
    for event in pending(&h).await {
        assert_eq!(event.meta().resource.as_deref(), Some("book"));
        assert_eq!(event.meta().resource_id.as_deref(), Some("100"));
        assert_eq!(event.partition_key(), Some("100"));
    }
    assert_eq!(rows(&h).await.len(), 3);
}

/// 11.1: rolled back, neither the rows nor the events are there.
pub async fn recorded_events_share_the_fate_of_the_rows<H: Harness>(h: Arc<H>) {
    let books = books(&h, book_events(&h));
    let mut transaction = h.begin().await;
    books.create(json!({ "id": 2 }), h.session(&mut transaction)).await.expect("create");
    books.delete(&2, h.session(&mut transaction)).await.expect("delete");
    h.rollback(transaction).await;
    assert!(pending(&h).await.is_empty());
    assert!(rows(&h).await.is_empty());
}

/// 11.1, for a host whose repository has another shape: the events are recorded by hand.
pub async fn changes_can_be_recorded_by_hand<H: Harness>(h: Arc<H>) {
    let events = book_events(&h);
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    assert!(events.created("b-1", &json!({ "title": "Emma" }), session).await.expect("created").is_some());
    events.updated("b-1", &json!({ "title": "E." }), session).await.expect("updated");
    events.deleted("b-1", session).await.expect("deleted");
    h.commit(transaction).await;
    let types: Vec<String> = recorded(&h).await.into_iter().map(|(event_type, _)| event_type).collect();
    assert_eq!(types, ["book.created", "book.updated", "book.deleted"]);
    assert_eq!(recorded(&h).await[1].1, json!({ "id": "b-1", "changes": { "title": "E." } }));
}

/// 11.2: a filter decides for each change whether an event is written.
pub async fn a_filter_decides_for_each_change<H: Harness>(h: Arc<H>) {
    let events = book_events(&h)
        .enqueue_if(|change, event| change != Change::Deleted && event.payload()["title"] != "secret");
    let books = books(&h, events);
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    books.create(json!({ "id": 2, "title": "secret" }), session).await.expect("create");
    books.create(json!({ "id": 4, "title": "open" }), session).await.expect("create");
    books
        .create_all(vec![json!({ "id": 6, "title": "secret" }), json!({ "id": 8 })], session)
        .await
        .expect("all");
    books.delete(&4, session).await.expect("delete");
    h.commit(transaction).await;
    let payloads: Vec<Value> = recorded(&h).await.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [json!({ "id": 4, "title": "open" }), json!({ "id": 8 })]);
    assert_eq!(rows(&h).await.len(), 5, "the business writes are all there");
}

/// 11.2: an enricher fills the meta.
pub async fn an_enricher_fills_the_meta<H: Harness>(h: Arc<H>) {
    let events = book_events(&h).enrich(|event| {
        event.with_user_id("u-1").with_header("tenant", "acme").with_partition_key("all books")
    });
    let books = books(&h, events);
    let mut transaction = h.begin().await;
    books.create(json!({ "id": 2 }), h.session(&mut transaction)).await.expect("create");
    h.commit(transaction).await;
    let read = pending(&h).await;
    assert_eq!(read[0].meta().user_id.as_deref(), Some("u-1"));
    assert_eq!(read[0].meta().headers["tenant"], "acme");
    assert_eq!(read[0].partition_key(), Some("all books"));
    assert_eq!(read[0].meta().resource_id.as_deref(), Some("2"), "it is filled, not replaced");
}

/// 11.3: a business write that fails, or that found nothing to change, writes no event.
pub async fn a_failed_business_write_writes_no_event<H: Harness>(h: Arc<H>) {
    let books = books(&h, book_events(&h));
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    books
        .create(json!({ "id": 2, "title": "forbidden" }), session)
        .await
        .expect_err("refused by the business");
    assert!(!books.update(&1, &json!({}), session).await.expect("there is none"));
    assert!(!books.delete(&1, session).await.expect("there is none"));
    books.create(json!({ "id": 4 }), session).await.expect("create");
    h.commit(transaction).await;
    assert_eq!(recorded(&h).await, [("book.created".to_owned(), json!({ "id": 4 }))]);
}

/// 11.1: bulk writes give one event for each row, and only for those that there were.
pub async fn bulk_writes_give_one_event_for_each_row<H: Harness>(h: Arc<H>) {
    let books = books(&h, book_events(&h));
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    let new = (1..=3).map(|id| json!({ "id": id * 2 })).collect();
    books.create_all(new, session).await.expect("create_all");
    let updated = books.update_all(&[2, 3, 4], &json!({ "shelf": 9 }), session).await.expect("update_all");
    let deleted = books.delete_all(&[1, 6], session).await.expect("delete_all");
    books.create_all(Vec::new(), session).await.expect("create_all of nothing");
    h.commit(transaction).await;
    assert_eq!((updated, deleted), (vec![2, 4], vec![6]));
    let read = recorded(&h).await;
    let expected: HashSet<&str> = HashSet::from(["book.created", "book.updated", "book.deleted"]);
    assert_eq!(read.iter().map(|(event_type, _)| event_type.as_str()).collect::<HashSet<_>>(), expected);
    let payloads: Vec<Value> = read.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(
        payloads,
        [
            json!({ "id": 2 }),
            json!({ "id": 4 }),
            json!({ "id": 6 }),
            json!({ "id": 2, "changes": { "shelf": 9 } }),
            json!({ "id": 4, "changes": { "shelf": 9 } }),
            json!({ "id": 6 }),
        ]
    );
}

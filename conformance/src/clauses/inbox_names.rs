//! Section 9.3 and 9.4 for inboxes.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ErrorKind, EventId, InboxStore, OutboxStore, Receipt, Result, SchemaStore};

use super::names::{assert_in_the_way, assert_named, assert_no_outbox, assert_refused, good};
use crate::InboxNamesHarness;

/// In a session of its own, which is committed.
pub(crate) async fn process<H: InboxNamesHarness>(
    h: &Arc<H>,
    inbox: &H::Inbox,
    event: EventId,
) -> Result<Receipt> {
    let mut transaction = h.begin().await;
    let receipt = inbox.process_once(h.session(&mut transaction), "consumer", event).await;
    match receipt {
        Ok(_) => h.commit(transaction).await,
        Err(_) => h.rollback(transaction).await,
    }
    receipt
}

/// 9.3: whatever the name is, there can be an inbox of that name, apart from all others.
pub async fn any_name_that_there_is_room_for_is_that_of_an_inbox<H: InboxNamesHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    let event = EventId::new();
    let mut all = Vec::new();
    for name in good(&h) {
        let inbox =
            h.inbox_named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        let error = process(&h, &inbox, event).await.expect_err("it is not migrated");
        assert_eq!((error.kind(), error.event()), (ErrorKind::Schema, Some(event)), "{name}: {error}");
        assert!(error.to_string().contains("migrate"), "it does not say what to do: {error}");
        assert!(error.to_string().contains(&name), "it does not say with which inbox: {error}");
        assert!(std::error::Error::source(&error).is_some(), "the driver's error is gone: {error:?}");
        let report = inbox.verify().await.expect("verify");
        assert!(!report.is_current(), "{name}: another is taken for it");
        for _ in 0..2 {
            inbox.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let report = inbox.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        all.push((name, inbox));
    }
    for (name, inbox) in &all {
        assert_eq!(process(&h, inbox, event).await.expect(name), Receipt::New, "{name}");
        inbox.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(process(&h, inbox, event).await.expect(name), Receipt::Duplicate, "{name}");
        if name.chars().all(char::is_alphanumeric) {
            assert!(format!("{inbox:?}").contains(name), "what is printed of it says nothing: {inbox:?}");
        }
        let said = h.name_of_inbox(inbox);
        assert!(said.is_none_or(|said| said == *name), "{name}: it says that it has another name");
    }
    for (name, inbox) in &all {
        assert_eq!(inbox.purge(Duration::ZERO).await.expect("purge"), 1, "{name}");
    }
    assert_eq!(process(&h, h.inbox(), event).await.expect("process_once"), Receipt::New, "a mark of others");
}

/// 9.3: many may migrate at once, at first and later.
pub async fn many_may_migrate_an_inbox_at_once<H: InboxNamesHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    for _ in 0..2 {
        let mut migrations = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let inbox = h.inbox_named("many").expect("a name");
            migrations.spawn(async move { inbox.migrate().await });
        }
        for outcome in migrations.join_all().await {
            outcome.expect("each of them finds it migrated");
        }
    }
    let inbox = h.inbox_named("many").expect("a name");
    assert!(inbox.verify().await.expect("verify").is_current());
    assert_eq!(process(&h, &inbox, EventId::new()).await.expect("process_once"), Receipt::New);
}

/// 9.3: a name that the engine has no room for is refused before anything is done with it.
pub async fn a_name_that_there_is_no_room_for_is_no_inbox<H: InboxNamesHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    assert_refused(&h, |name| h.inbox_named(name));
    assert!(h.inbox().verify().await.expect("verify").is_current());
}

/// 9.3 and 9.4: what is something else is not made an inbox, nor taken for one; an outbox least of all, nor the other way
/// round.
pub async fn an_inbox_and_what_is_none_are_told_apart<H: InboxNamesHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
    H::Store: SchemaStore,
{
    let (outbox, inbox) = (h.named("an_outbox").expect("a name"), h.inbox_named("an_inbox").expect("a name"));
    outbox.migrate().await.expect("migrate");
    inbox.migrate().await.expect("migrate");
    let (event, id) = (crate::support::event("one"), EventId::new());
    outbox.save(&event).await.expect("save");
    assert_eq!(process(&h, &inbox, id).await.expect("process_once"), Receipt::New);
    for name in h.make_others().await.iter().map(String::as_str).chain(["an_outbox"]) {
        let none = h.inbox_named(name).expect("there is something of this name");
        assert_in_the_way(&none, name).await;
        let error = process(&h, &none, id).await.expect_err("it is no inbox");
        assert_eq!(error.kind(), ErrorKind::Schema, "{name}: {error}");
    }
    assert_no_outbox(&h.named("an_inbox").expect("a name"), "an_inbox").await;
    assert!(outbox.verify().await.expect("verify").is_current());
    assert!(inbox.verify().await.expect("verify").is_current());
    assert_eq!(outbox.get_pending(10).await.expect("get_pending"), [event]);
    assert_eq!(process(&h, &inbox, id).await.expect("process_once"), Receipt::Duplicate);
}

/// 9.4: verify names each part that is missing, and what to do; a migration puts it back, is refused, or leaves it to be
/// put back by hand, and loses no mark.
pub async fn a_part_of_an_inbox_that_is_missing_is_named<H: InboxNamesHarness>(h: Arc<H>)
where
    H::Inbox: SchemaStore,
{
    let inbox = h.inbox_named("missing").expect("a name");
    for _ in 0..2 {
        let report = inbox.verify().await.expect("verify");
        assert!(!report.is_current() && report.to_string().contains("missing"), "nothing is there: {report}");
    }
    inbox.migrate().await.expect("migrate");
    let event = EventId::new();
    assert_eq!(process(&h, &inbox, event).await.expect("process_once"), Receipt::New);
    let parts = h.take_inbox_parts_away("missing").await;
    assert_named(&inbox, &parts).await;
    match inbox.migrate().await {
        Ok(()) if inbox.verify().await.expect("verify").is_current() => {
            assert_eq!(process(&h, &inbox, event).await.expect("process_once"), Receipt::Duplicate);
        }
        Ok(()) => assert_named(&inbox, &parts).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::Schema, "{error}"),
    }
}

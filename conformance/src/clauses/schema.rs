//! Section 9: the schema.

use std::sync::Arc;

use outbox_traits::{ErrorKind, OutboxStore, Saved, SchemaStore};

use crate::{
    SchemaHarness,
    support::{event, events, ids, pending_ids, rows, save, save_all},
};

/// 9.3: it may be migrated again and again, and loses no event.
pub async fn migrating_again_loses_nothing<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let all = events(3);
    save_all(&h, &all).await;
    for _ in 0..3 {
        h.store().migrate().await.expect("migrate");
    }
    assert_eq!(pending_ids(&h).await, ids(&all));
}

/// 9.3: many may migrate at once, at first and later.
pub async fn many_may_migrate_at_once<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    for _ in 0..2 {
        let mut migrations = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = h.unmigrated("many");
            migrations.spawn(async move { store.migrate().await });
        }
        for outcome in migrations.join_all().await {
            outcome.expect("each of them finds it migrated");
        }
    }
    let store = h.unmigrated("many");
    assert!(store.verify().await.expect("verify").is_current());
    assert_eq!(store.save(&event("first")).await.expect("save"), Saved::Stored);
}

/// 9.3 and 9.4: that the engine is not fit for the store as it is, is said before the first save. (An engine that always is
/// has no way not to be.)
pub async fn what_is_not_fit_is_refused_with_the_reason<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    for way in 0.. {
        let Some((store, reason)) = h.unfit(way).await else { break };
        let error = store.migrate().await.expect_err(reason);
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let report = store.verify().await.expect("verify");
        assert!(report.problems().iter().any(|problem| problem.contains(reason)), "{reason}: {report}");
    }
}

/// 9.4: verify says what is missing, and changes nothing.
pub async fn verify_says_what_is_missing<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let store = h.unmigrated("missing");
    for _ in 0..2 {
        let report = store.verify().await.expect("verify");
        assert!(!report.is_current(), "it has changed something, or says nothing");
        assert!(!report.problems().is_empty() && report.to_string().len() > 10, "{report}");
    }
    store.migrate().await.expect("migrate");
    let report = store.verify().await.expect("verify");
    assert!(report.is_current(), "{report}");
    let report = h.store().verify().await.expect("verify");
    assert!(report.is_current(), "{report}");
}

/// 9.3: two outboxes of different names in one database have nothing to do with one another.
pub async fn outboxes_of_different_names_are_apart<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let other = h.unmigrated("other");
    other.migrate().await.expect("migrate");
    let (here, there) = (event("here"), event("there"));
    save(&h, &here).await;
    assert_eq!(other.save(&there).await.expect("save"), Saved::Stored);
    assert_eq!(other.save(&here).await.expect("save"), Saved::Stored, "ids are apart too");
    assert_eq!(pending_ids(&h).await, [here.id()]);
    assert_eq!(ids(&other.get_pending(10).await.expect("get_pending")), [there.id(), here.id()]);
}

/// 9.3: so are those whose long names differ at their end only, and those with quotation marks in their names.
pub async fn outboxes_of_long_and_unusual_names_are_apart<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let long = "n".repeat(54);
    let (one, two) = (format!("{long}1"), format!("{long}2"));
    let event = event("in each");
    for name in [&*one, &*two, "it's \"one\" `two`", "it's \"one\" `two`; --"] {
        let store = h.unmigrated(name);
        store.migrate().await.expect("migrate");
        let report = store.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        assert_eq!(store.save(&event).await.expect("save"), Saved::Stored, "{name}");
        assert_eq!(ids(&store.get_pending(10).await.expect("get_pending")), [event.id()], "{name}");
    }
}

/// 2.8: an error of the engine keeps the driver's error reachable, says what to do, and neither commits nor
/// rolls back the caller's session.
pub async fn an_error_of_the_driver_is_the_source<H: SchemaHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let store = h.unmigrated("never");
    let error = store.save(&event("lost")).await.expect_err("there is no such table");
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the driver's error is gone: {error:?}");
    assert!(error.to_string().contains("migrate"), "it does not say what to do: {error}");
    assert_eq!(store.get_pending(1).await.expect_err("no table").kind(), ErrorKind::Schema);

    let mut transaction = h.begin().await;
    h.write_row("before", h.session(&mut transaction)).await;
    let error = store.save_in_session(&event("lost"), h.session(&mut transaction)).await;
    assert_eq!(error.expect_err("there is no such table").kind(), ErrorKind::Schema);
    assert!(!rows(&h).await.contains("before"), "the store has committed");
    h.rollback(transaction).await;
    assert!(rows(&h).await.is_empty(), "the store has committed");
}

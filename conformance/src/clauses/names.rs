//! Section 9.3 and 9.4: names that the user chooses, and what is in the way of them.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ErrorKind, Event, OutboxStore, Result, Saved, SchemaStore};

use crate::{
    NamesHarness,
    support::{event, events, ids, kept, pending_ids},
};

/// Words of the language, quotation marks, what could end a statement or a string, patterns, other scripts, and what
/// differs by a space alone.
const ODD: &[&str] = &[
    "select",
    "Order Events",
    "o\"ut`b'ox",
    "100%; DROP TABLE outbox; --",
    "käse_箱",
    "{age}$1?",
    "\"",
    "`",
    " x",
    "x",
    "ends with a space ",
    "ends with a space",
    "a.b",
    "_",
    "*",
    "x\n; DROP TABLE outbox; COMMIT; --",
    "/* x",
    "beyond 𝄞",
    ".a",
    "a.",
    "a$b",
    "$cmd",
    "system.outbox",
    "sqlite_outbox",
    "the last of its plane \u{ffff}",
];

/// No engine has room for these.
const NONE: &[&str] = &["", "a\0b"];

/// Characters of one byte to four, and others of as many.
const WIDTHS: &[(char, char)] = &[('n', 'm'), ('é', 'è'), ('箱', '粕'), ('𝄞', '𝄢')];

/// Longer than any engine has room for.
const LONG: usize = 300;

/// Two names for each width, the longest that there is room for, which differ at their end only, and one that takes up what room
/// is left.
fn longest<H: NamesHarness>(h: &Arc<H>) -> Vec<String> {
    let mut names = Vec::new();
    for (one, other) in WIDTHS {
        let has_room = |count: &usize| h.has_room_for(&one.to_string().repeat(*count));
        let Some(count) = (1..LONG).rev().find(has_room) else { continue };
        let begin = one.to_string().repeat(count - 1);
        names.extend([format!("{begin}{one}"), format!("{begin}{other}")]);
        let filled = (1..LONG - count).map(|rest| format!("{begin}{one}{}", "n".repeat(rest)));
        names.extend(filled.take_while(|name| h.has_room_for(name)).last());
    }
    assert!(!names.is_empty(), "there is no room for any name");
    names
}

/// All names that should do.
pub(crate) fn good<H: NamesHarness>(h: &Arc<H>) -> Vec<String> {
    let odd = ODD.iter().filter(|name| h.has_room_for(name)).map(|name| (*name).to_owned());
    odd.chain(longest(h)).collect()
}

/// 9.3: what the name of an outbox or an inbox can be is known before it is used: the rest is refused, with the name.
pub(crate) fn assert_refused<H: NamesHarness, T>(h: &Arc<H>, named: impl Fn(&str) -> Result<T>) {
    let mut names: Vec<String> = ODD.iter().chain(NONE).map(|name| (*name).to_owned()).collect();
    names.extend(h.endings().iter().map(|ending| format!("x{ending}")));
    for (one, _) in WIDTHS {
        names.extend((1..=LONG).map(|count| one.to_string().repeat(count)));
    }
    for name in names {
        match (named(&name), h.has_room_for(&name)) {
            (Ok(_), true) => {}
            (Err(error), false) => {
                assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
                assert!(
                    error.to_string().contains(&format!("{name:?}")),
                    "it does not say which name: {error}"
                );
            }
            (Ok(_), false) => panic!("{name:?} is taken, and there is no room for it"),
            (Err(error), true) => panic!("there is room for {name:?}: {error}"),
        }
    }
}

/// 9.3: something else is not made an outbox or an inbox, nor half of one, and the error says what to do. Neither is it
/// taken for one.
pub(crate) async fn assert_in_the_way(store: &dyn SchemaStore, name: &str) {
    let before = store.verify().await.expect("verify");
    for _ in 0..2 {
        let error = store.migrate().await.expect_err("something else has the name");
        assert_eq!(error.kind(), ErrorKind::Schema, "{name}: {error}");
        assert!(error.to_string().contains(name), "it does not say which name: {error}");
        assert!(error.to_string().contains("another name"), "it does not say what to do: {error}");
        let report = store.verify().await.expect("verify");
        assert!(!report.is_current(), "{name}: something else has the name, and all is well");
        assert!(report.to_string().contains(name), "it does not say which name: {report}");
        assert_eq!(report, before, "{name}: something was made");
    }
}

/// The same of an outbox, into which nothing is written either.
pub(crate) async fn assert_no_outbox<S: OutboxStore + SchemaStore>(store: &S, name: &str) {
    assert_in_the_way(store, name).await;
    let error = store.save(&event("lost")).await.expect_err("it is no outbox");
    assert_eq!(error.kind(), ErrorKind::Schema, "{name}: {error}");
}

/// 9.4: each part that is missing is named, and nothing else, and stays missing.
pub(crate) async fn assert_named(store: &dyn SchemaStore, parts: &[String]) {
    assert!(!parts.is_empty(), "nothing was taken away");
    for _ in 0..2 {
        let report = store.verify().await.expect("verify");
        for part in parts {
            assert!(report.to_string().contains(part), "{part} is not named: {report}");
        }
        assert_eq!(report.problems().len(), parts.len(), "{report}");
        for problem in report.problems() {
            assert!(problem.contains("migrat"), "it does not say what to do: {problem}");
        }
    }
}

/// 9.4: a schema that is made by a newer version of the library is left alone, and that is what helps.
async fn assert_newer(store: &dyn SchemaStore) {
    for _ in 0..2 {
        let error = store.migrate().await.expect_err("it is newer");
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        let report = store.verify().await.expect("verify");
        for text in [error.to_string(), report.to_string()] {
            assert!(text.contains("upgrade"), "it does not say what to do: {text}");
        }
    }
}

/// 9.3: whatever the name is, there can be an outbox of that name, apart from all others, with the same settings.
pub async fn any_name_that_there_is_room_for_is_that_of_an_outbox<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let mut all: Vec<(String, H::Store, Vec<Event>)> = Vec::new();
    for name in good(&h) {
        let store = h.named(&name).unwrap_or_else(|error| panic!("there is room for {name:?}: {error}"));
        let error = store.get_pending(1).await.expect_err("it is not migrated");
        assert_eq!(error.kind(), ErrorKind::Schema, "{name}: {error}");
        assert!(error.to_string().contains("migrate"), "it does not say what to do: {error}");
        assert!(error.to_string().contains(&name), "it does not say with which outbox: {error}");
        let report = store.verify().await.expect("verify");
        assert!(!report.is_current(), "{name}: another is taken for it");
        for _ in 0..2 {
            store.migrate().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let report = store.verify().await.expect("verify");
        assert!(report.is_current(), "{name}: {report}");
        let events: Vec<Event> = events(3)
            .into_iter()
            .zip(["a", "b", "c"])
            .map(|(event, key)| event.with_idempotency_key(key))
            .collect();
        assert_eq!(store.save(&events[0]).await.expect("save"), Saved::Stored, "{name}");
        let saved = store.save_all(&events).await.expect("save_all");
        assert_eq!(saved, [Saved::Duplicate, Saved::Stored, Saved::Stored], "{name}");
        all.push((name, store, events));
    }
    for (name, store, events) in all {
        assert_eq!(store.get_pending(10).await.expect("get_pending"), events, "{name}");
        store.acknowledge(events[0].id()).await.expect("acknowledge");
        assert_eq!(store.purge(Duration::ZERO).await.expect("purge"), kept(&h, 1), "{name}");
        assert_eq!(ids(&store.get_pending(10).await.expect("get_pending")), ids(&events[1..]), "{name}");
        if name.chars().all(char::is_alphanumeric) {
            assert!(format!("{store:?}").contains(&name), "what is printed of it says nothing: {store:?}");
        }
        assert!(
            h.name_of(&store).is_none_or(|said| said == name),
            "{name}: it says that it has another name"
        );
    }
    assert!(pending_ids(&h).await.is_empty(), "events of others");
    assert!(h.store().verify().await.expect("verify").is_current());
}

/// 9.3: a name that the engine has no room for is refused before anything is done with it.
pub async fn a_name_that_there_is_no_room_for_is_refused<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    assert_refused(&h, |name| h.named(name));
    assert!(h.store().verify().await.expect("verify").is_current());
}

/// 9.3 and 9.4: what is something else is not made an outbox, nor taken for one.
pub async fn what_is_something_else_is_left_alone<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let mut transaction = h.begin().await;
    h.write_row("kept", h.session(&mut transaction)).await;
    h.commit(transaction).await;
    let others = h.make_others().await;
    assert!(!others.is_empty(), "nothing else is there");
    for name in others {
        assert_no_outbox(&h.named(&name).expect("there is something of this name"), &name).await;
    }
    assert_eq!(h.rows().await, ["kept"]);
}

/// 9.3: what is a part of one outbox is not made another, nor is an outbox made a part of another.
pub async fn a_part_of_an_outbox_is_no_other<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    for (ending, number) in h.endings().iter().zip(0..) {
        let named = |begin: &str, ending: &str| format!("{begin}{number}{ending}");
        if !h.has_room_for(&named("whole", ending)) {
            continue;
        }
        for (first, second) in
            [(named("whole", ""), named("whole", ending)), (named("part", ending), named("part", ""))]
        {
            let store = h.named(&first).expect("a name");
            store.migrate().await.expect("migrate");
            let one = event("one");
            store.save(&one).await.expect("save");
            assert_no_outbox(&h.named(&second).expect("a name"), &second).await;
            assert!(store.verify().await.expect("verify").is_current());
            assert_eq!(ids(&store.get_pending(10).await.expect("get_pending")), [one.id()]);
        }
    }
}

/// 9.4: verify names each part that is missing, and what to do; a migration puts all back, or its error names what is to be put
/// back by hand. It loses nothing.
pub async fn a_part_that_is_missing_is_named<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let store = h.named("missing").expect("a name");
    store.migrate().await.expect("migrate");
    let one = event("one");
    store.save(&one).await.expect("save");
    let parts = h.take_parts_away("missing").await;
    assert_named(&store, &parts).await;
    if let Err(error) = store.get_pending(1).await {
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("migrate"), "it does not say what to do: {error}");
    }
    match store.migrate().await {
        Ok(()) => {
            let report = store.verify().await.expect("verify");
            assert!(report.is_current(), "it says that it has put right what it has not: {report}");
            assert_eq!(ids(&store.get_pending(10).await.expect("get_pending")), [one.id()]);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
            let text = error.to_string();
            assert!(parts.iter().any(|part| text.contains(part)), "it does not say what is missing: {text}");
            let report = store.verify().await.expect("verify");
            assert!(!report.is_current(), "it says what it has put right: {text}");
        }
    }
}

/// 9.3 and 9.4: what a migration cannot put right is an error that says what to do, and verify says that something is amiss. Nothing
/// is lost.
pub async fn what_cannot_be_put_right_is_said<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    for way in 0.. {
        let name = format!("spoilt{way}");
        let store = h.named(&name).expect("a name");
        store.migrate().await.expect("migrate");
        let one = event("one");
        store.save(&one).await.expect("save");
        let Some(word) = h.spoil(&name, way).await else { break };
        let report = store.verify().await.expect("verify");
        assert!(!report.is_current() && report.to_string().contains(&name), "{way}: {report}");
        match store.migrate().await {
            Ok(()) => {
                let report = store.verify().await.expect("verify");
                assert!(report.is_current(), "{way}: it was not put right: {report}");
                assert_eq!(ids(&store.get_pending(1).await.expect("get_pending")), [one.id()]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Schema, "{way}: {error}");
                assert!(error.to_string().contains(&name), "it does not say which outbox: {error}");
                assert!(error.to_string().contains(word), "it does not say what to do: {error}");
                assert_eq!(store.verify().await.expect("verify"), report, "{way}: something was made");
            }
        }
    }
}

/// 9.3 and 9.4: so is one of a newer version of the library, as far as it keeps versions.
pub async fn a_newer_schema_is_left_alone<H: NamesHarness>(h: Arc<H>)
where
    H::Store: SchemaStore,
{
    let store = h.named("newer").expect("a name");
    store.migrate().await.expect("migrate");
    let one = event("one");
    store.save(&one).await.expect("save");
    if h.make_newer("newer").await {
        assert_newer(&store).await;
        // It may have no use for what it does not know.
        if let Ok(pending) = store.get_pending(10).await {
            assert_eq!(ids(&pending), [one.id()]);
        }
    }
}

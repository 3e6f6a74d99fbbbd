//! A collection as the server has it: its name, what it is, its indexes.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{
    ClientSession, Collection, Database,
    error::{Error as DriverError, ErrorKind as DriverErrorKind, UNKNOWN_TRANSACTION_COMMIT_RESULT},
    options::{
        CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern,
    },
};
use outbox_traits::{Error, ErrorKind, Result};

use crate::{
    indexes::{ID_KEYS, Index, PROCESSED_KEYS, seconds},
    schema::MIGRATE,
};

/// What is beside the events of an outbox, by the end of its name.
pub(crate) const LEASES: &str = ".leases";
pub(crate) const KEYS: &str = ".keys";

const SOMETHING_ELSE: &str = "holds something else";

/// For how long a majority that has what the primary has is waited for.
const MAJORITY: Duration = Duration::from_secs(5);

/// How often a commit whose fate is unknown is asked for.
const MAX_COMMITS: usize = 3;

const NAMESPACE_EXISTS: i32 = 48;
const INDEX_NOT_FOUND: i32 = 27;

/// One that is read and written as the store promises.
pub(crate) fn open<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(WriteConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.collection_with_options(name, options)
}

/// A session for transactions of the store's own, which heed the client's settings as little as [`open`] does.
pub(crate) async fn session(database: &Database) -> Result<ClientSession, DriverError> {
    let options = TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.client().start_session().default_transaction_options(options).await
}

/// Commits a transaction of the store's own, and asks again where the fate of that is unknown.
pub(crate) async fn commit(session: &mut ClientSession) -> Result<(), DriverError> {
    for _ in 1..MAX_COMMITS {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            done => return done,
        }
    }
    session.commit_transaction().await
}

/// The name as people know it.
pub(crate) fn namespace(database: &Database, name: &str) -> String {
    format!("{}.{name}", database.name())
}

/// Whether an outbox or an inbox can have that name.
pub(crate) fn check_name(database: &Database, name: &str) -> Result<()> {
    // The server counts the name of the database and the dot between them; and there are those beside it.
    let room = 255_usize.saturating_sub(database.name().len() + 1 + LEASES.len());
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.contains(['\0', '$']) {
        "contains a NUL or a `$`".to_owned()
    } else if name.starts_with("system.") {
        "begins with `system.`, which is the server's own".to_owned()
    } else if name.starts_with('.') || name.ends_with('.') {
        "begins or ends with a dot".to_owned()
    } else if name.ends_with(LEASES) || name.ends_with(KEYS) {
        "ends like those beside an outbox".to_owned()
    } else if name.len() > room {
        format!("is longer than the {room} bytes that its database leaves it")
    } else {
        return Ok(());
    };
    let message = format!("the collection name {name:?} {problem}: choose another");
    Err(Error::new(ErrorKind::Schema, message))
}

/// A server on its own has no transactions.
pub(crate) async fn deployment_problem(database: &Database) -> Result<Option<String>, DriverError> {
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    Ok((!has_transactions(&hello)).then(|| {
        "the server is on its own and has no transactions: start it as a replica set, which may be of one member"
            .to_owned()
    }))
}

/// By what the server says of itself: it is a member of a replica set, or a `mongos`.
fn has_transactions(hello: &Document) -> bool {
    hello.contains_key("setName") || matches!(hello.get_str("msg"), Ok("isdbgrid"))
}

/// What the server says about a collection, if there is one.
pub(crate) async fn found(database: &Database, name: &str) -> Result<Option<Document>, DriverError> {
    let list = doc! { "listCollections": 1, "filter": { "name": name } };
    let answer = database.run_command(list).await?;
    Ok(first_batch(&answer).into_iter().next())
}

/// All indexes, once a majority has them, which is what is asked by them; without a majority an error says so after a while. A
/// collection has 64 at most, which one answer holds.
pub(crate) async fn indexes(database: &Database, name: &str) -> Result<Vec<Document>, DriverError> {
    // What is read in it later is read after what it has seen.
    let mut session = database.client().start_session().causal_consistency(true).await?;
    let list = doc! { "listIndexes": name };
    let found = first_batch(&database.run_command(list).session(&mut session).await?);
    let collection = open::<Document>(database, name);
    collection.find_one(doc! { "_id": Bson::Null }).max_time(MAJORITY).session(&mut session).await?;
    Ok(found)
}

/// Creates indexes but for those that are there by another name, or as they were made at first. One that is being built by somebody
/// else is waited for.
pub(crate) async fn create_indexes(
    database: &Database,
    name: &str,
    found: &[Document],
    wanted: impl IntoIterator<Item = Index>,
) -> Result<(), DriverError> {
    let is_named =
        |index: &Index, found: &Document| found.get_str("name").is_ok_and(|name| name == index.name());
    let is_as_good = |index: &Index, found: &Document| {
        index.is_of(found) && (!is_named(index, found) || index.is_formerly(found))
    };
    let there = |index: &Index| found.iter().any(|found| is_as_good(index, found));
    // One by which the server deletes is wanted only where none is there; somebody's that is the same but for that is in its way.
    let is_missing = |index: &Index| index.seconds.is_some() || !there(index);
    let models: Vec<_> = wanted.into_iter().filter(is_missing).map(|index| index.model()).collect();
    if !models.is_empty() {
        open::<Document>(database, name).create_indexes(models).await?;
    }
    Ok(())
}

/// That an index is missing or another.
pub(crate) fn missing(database: &Database, name: &str, index: &Index) -> String {
    format!(
        "the collection `{}` has no index `{}` as it is to be: run `migrate`",
        namespace(database, name),
        index.name()
    )
}

/// Makes what is not there yet.
pub(crate) async fn create_missing(database: &Database, name: &str) -> Result<(), DriverError> {
    done_by_others(NAMESPACE_EXISTS, database.create_collection(name).await)
}

/// Makes one that is fit for an outbox or an inbox, or finds it.
pub(crate) async fn create(
    database: &Database,
    name: &str,
    kind: &Kind,
    failed: impl Fn(DriverError) -> Error,
) -> Result<()> {
    if let Some(problem) = deployment_problem(database).await.map_err(&failed)? {
        let message = format!("could not {MIGRATE} collection `{}`: {problem}", namespace(database, name));
        return Err(Error::new(ErrorKind::Schema, message));
    }
    let mut there = found(database, name).await.map_err(&failed)?;
    if there.is_none() {
        create_missing(database, name).await.map_err(&failed)?;
        there = found(database, name).await.map_err(&failed)?;
    }
    // Gone again, it is missed by what comes next.
    let Some(there) = there else { return Ok(()) };
    let Some(what) = what_else(database, name, &there, kind).await.map_err(&failed)? else { return Ok(()) };
    let message = format!(
        "there is a collection `{}` already which {what}: choose another name with `with_collection`",
        namespace(database, name)
    );
    Err(Error::new(ErrorKind::Schema, message))
}

/// Why a collection cannot serve at all, if so.
pub(crate) async fn problem(
    database: &Database,
    name: &str,
    kind: &Kind,
) -> Result<Option<String>, DriverError> {
    let namespace = namespace(database, name);
    let Some(there) = found(database, name).await? else {
        return Ok(Some(format!("the collection `{namespace}` is missing: run `migrate`")));
    };
    let what = what_else(database, name, &there, kind).await?;
    Ok(what.map(|what| in_the_way(&namespace, what)))
}

/// What has the name of a collection beside an outbox and is none, by a question for what no such collection has.
pub(crate) async fn problem_beside(
    database: &Database,
    name: &str,
    others: Vec<Document>,
) -> Result<Option<String>, DriverError> {
    let Some(there) = found(database, name).await? else { return Ok(None) };
    let mut what = foreign(&there);
    if what.is_none() && open::<Document>(database, name).aggregate(others).await?.advance().await? {
        what = Some(SOMETHING_ELSE);
    }
    Ok(what.map(|what| in_the_way(&namespace(database, name), what)))
}

fn in_the_way(namespace: &str, what: &str) -> String {
    format!("the collection `{namespace}` {what}: choose another name with `with_collection`")
}

/// What tells an outbox or an inbox from whatever else a collection may hold.
pub(crate) struct Kind {
    /// The keys of an index that no other has.
    index: &'static str,
    /// What each of its documents has.
    field: &'static str,
}

pub(crate) const OUTBOX: Kind = Kind { index: ID_KEYS, field: "eventId" };
pub(crate) const INBOX: Kind = Kind { index: PROCESSED_KEYS, field: "_id.consumer" };

/// What a collection, as [`found`], is or holds, if not such a thing or nothing yet.
async fn what_else(
    database: &Database,
    name: &str,
    there: &Document,
    kind: &Kind,
) -> Result<Option<&'static str>, DriverError> {
    if let Some(what) = foreign(there) {
        return Ok(Some(what));
    }
    let found = indexes(database, name).await?;
    let has = |kind: &Kind| found.iter().any(|found| Index::of(kind.index).has_keys_of(found));
    if has(kind) {
        return Ok(None);
    }
    // Nobody has migrated it yet, or not as this.
    let other = doc! { kind.field: { "$exists": false } };
    let is_other = [OUTBOX, INBOX].iter().any(has)
        || open::<Document>(database, name).find_one(other).projection(doc! { "_id": 1 }).await?.is_some();
    Ok(is_other.then_some(SOMETHING_ELSE))
}

/// Makes the index by which the server deletes be as it is wanted, if at all, and says whether one is to be created.
pub(crate) async fn follow_ttl(
    database: &Database,
    name: &str,
    found: &[Document],
    wanted: Option<Index>,
    own: &Index,
) -> Result<Option<Index>, DriverError> {
    let mut is_there = false;
    for old in found.iter().filter(|found| seconds(found).is_some() && own.has_keys_of(found)) {
        let old_name = old.get_str("name")?;
        let Some(wanted) = wanted.as_ref().filter(|wanted| !is_there && wanted.is_of(old)) else {
            // One of another filter would delete by the wrong rule.
            drop_index(database, name, old_name).await?;
            continue;
        };
        if seconds(old) != wanted.seconds {
            change_seconds(database, name, old_name, wanted).await?;
        }
        is_there = true;
    }
    Ok(wanted.filter(|_| !is_there))
}

/// Changes after how long the server deletes by an index.
pub(crate) async fn change_seconds(
    database: &Database,
    name: &str,
    index: &str,
    wanted: &Index,
) -> Result<(), DriverError> {
    let index = doc! { "name": index, "expireAfterSeconds": wanted.seconds };
    database.run_command(doc! { "collMod": name, "index": index }).await?;
    Ok(())
}

pub(crate) async fn drop_index(database: &Database, name: &str, index: &str) -> Result<(), DriverError> {
    done_by_others(INDEX_NOT_FOUND, database.collection::<Document>(name).drop_index(index).await)
}

/// What is wrong with the indexes by which the server deletes, one sentence each.
pub(crate) fn ttl_problems(
    namespace: &str,
    found: &[Document],
    wanted: Option<&Index>,
    field: &str,
) -> Vec<String> {
    let mut problems = Vec::new();
    let is_wanted =
        |found: &Document| wanted.is_some_and(|index| index.is_of(found) && seconds(found) == index.seconds);
    if wanted.is_some() && !found.iter().any(is_wanted) {
        problems.push(format!("the collection `{namespace}` has no TTL index as it is to be: run `migrate`"));
    }
    for found in found.iter().filter(|found| seconds(found).is_some() && !is_wanted(found)) {
        let name = found.get_str("name").unwrap_or_default();
        // The one of a former `with_ttl`, or somebody's, which may delete what is not to go.
        problems.push(format!(
            "the collection `{namespace}` has a TTL index `{name}` that it is not to have: run `migrate` or, if \
             it is not on `{field}` alone, drop it"
        ));
    }
    problems
}

/// What many processes do at once is done by the quickest: with this code the server tells the others.
fn done_by_others(code: i32, done: Result<(), DriverError>) -> Result<(), DriverError> {
    match done {
        Err(error) if matches!(&*error.kind, DriverErrorKind::Command(error) if error.code == code) => Ok(()),
        done => done,
    }
}

/// What makes a collection unfit, if anything does.
fn foreign(collection: &Document) -> Option<&'static str> {
    let options = collection.get_document("options").ok();
    match collection.get_str("type") {
        Ok("view") => Some("is a view"),
        Ok("timeseries") => Some("is a time series"),
        _ if options.is_some_and(|options| options.get_bool("capped").unwrap_or(false)) => Some("is capped"),
        // Ids and keys are compared exactly.
        _ if options.is_some_and(|options| options.contains_key("collation")) => Some("has a collation"),
        _ => None,
    }
}

fn first_batch(answer: &Document) -> Vec<Document> {
    let batch = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map_or_else(|_| Vec::new(), |batch| batch.iter().filter_map(Bson::as_document).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_set_and_mongos_have_transactions_and_a_server_on_its_own_has_none() {
        assert!(has_transactions(&doc! { "setName": "rs0", "isWritablePrimary": true }));
        assert!(has_transactions(&doc! { "msg": "isdbgrid", "isWritablePrimary": true }));
        assert!(!has_transactions(&doc! { "isWritablePrimary": true }));
        assert!(!has_transactions(&doc! { "msg": "something", "isWritablePrimary": true }));
    }
}

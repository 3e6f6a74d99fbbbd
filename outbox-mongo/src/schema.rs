//! Creating, upgrading and checking the collection and its indexes.

use std::sync::atomic::Ordering;

use bson::{Bson, Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};
use outbox_traits::{Error, ErrorKind, Result, SchemaReport, SchemaStore, async_trait};

use crate::{
    MongoOutbox,
    indexes::{self, Index, READY_KEYS, TIME_TO_LIVE_KEYS, indexes, seconds},
};

pub(crate) const MIGRATE: &str = "migrate";
const VERIFY: &str = "verify";

impl MongoOutbox {
    /// Refuses work on a collection that is not there: the server would make one at the first insert, without the
    /// indexes that tell duplicates. Asked until it is there, and then never again.
    pub(crate) async fn ready(&self, tried: &str) -> Result<()> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut problem = self.deployment_problem().await.map_err(self.error(tried))?;
        if problem.is_none() {
            let found = self.found_indexes().await.map_err(self.error(tried))?;
            let missing = indexes().into_iter().find(|index| !found.iter().any(|found| index.is_of(found)));
            problem = missing.map(|index| self.missing(&index));
        }
        if let Some(problem) = problem {
            let message = format!("could not {tried} collection `{}`: {problem}", self.namespace());
            return Err(Error::new(ErrorKind::Schema, message));
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    fn missing(&self, index: &Index) -> String {
        format!(
            "the collection `{}` has no index `{}` as it is to be: run `migrate`",
            self.namespace(),
            index.name()
        )
    }

    /// A server on its own has no transactions.
    async fn deployment_problem(&self) -> Result<Option<String>, DriverError> {
        let hello = self.database.run_command(doc! { "hello": 1 }).await?;
        let has_transactions =
            hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        Ok((!has_transactions).then(|| {
            "the server is on its own and has no transactions: start it as a replica set, which may be of one member"
                .to_owned()
        }))
    }

    /// What the server says about the collection, if there is one.
    async fn found_collection(&self) -> Result<Option<Document>, DriverError> {
        let list = doc! { "listCollections": 1, "filter": { "name": self.events.name() } };
        let answer = self.database.run_command(list).await?;
        Ok(first_batch(&answer).into_iter().next())
    }

    /// All indexes: a collection has 64 at most, which one answer holds.
    async fn found_indexes(&self) -> Result<Vec<Document>, DriverError> {
        self.indexes_of(self.events.name()).await
    }

    async fn indexes_of(&self, collection: &str) -> Result<Vec<Document>, DriverError> {
        let list = doc! { "listIndexes": collection };
        Ok(first_batch(&self.database.run_command(list).await?))
    }

    async fn create_collection(&self) -> Result<()> {
        const NAMESPACE_EXISTS: i32 = 48;
        let failed = self.error(MIGRATE);
        if self.found_collection().await.map_err(&failed)?.is_none() {
            let created = self.database.create_collection(self.events.name()).await;
            or_done_by_another(created, NAMESPACE_EXISTS).map_err(&failed)?;
        }
        let found = self.found_collection().await.map_err(&failed)?;
        let Some(what) = found.as_ref().and_then(foreign) else { return Ok(()) };
        let message = format!(
            "there is a collection `{}` already which is {what}: choose another name for the outbox with \
             `with_collection`",
            self.namespace()
        );
        Err(Error::new(ErrorKind::Schema, message))
    }

    /// The collections of leases and keys: where they are missing, a transaction would make them, and two at once
    /// would meet.
    async fn create_beside(&self) -> Result<(), DriverError> {
        const NAMESPACE_EXISTS: i32 = 48;
        let found = self.database.list_collection_names().await?;
        for name in [self.leases.name(), self.keys.name()] {
            if !found.iter().any(|found| found == name) {
                let created = self.database.create_collection(name).await;
                or_done_by_another(created, NAMESPACE_EXISTS)?;
            }
        }
        self.keys.create_index(Index::of(READY_KEYS).model()).await?;
        Ok(())
    }

    async fn create_indexes(&self) -> Result<(), DriverError> {
        const INDEX_NOT_FOUND: i32 = 27;
        let found = self.found_indexes().await?;
        let mut missing: Vec<Index> =
            indexes().into_iter().filter(|index| !found.iter().any(|found| index.is_of(found))).collect();
        let wanted = self.time_to_live.map(indexes::time_to_live);
        let own = Index::of(TIME_TO_LIVE_KEYS);
        let old = found.iter().find(|found| seconds(found).is_some() && own.has_keys_of(found));
        match (wanted, old) {
            (Some(wanted), Some(old)) if wanted.is_of(old) => {
                if seconds(old) != wanted.seconds {
                    let index = doc! { "name": old.get_str("name")?, "expireAfterSeconds": wanted.seconds };
                    let change = doc! { "collMod": self.events.name(), "index": index };
                    self.database.run_command(change).await?;
                }
            }
            (wanted, old) => {
                // One of another filter would delete by the wrong rule.
                if let Some(old) = old {
                    let dropped = self.events.drop_index(old.get_str("name")?).await;
                    or_done_by_another(dropped, INDEX_NOT_FOUND)?;
                }
                missing.extend(wanted);
            }
        }
        if !missing.is_empty() {
            self.events.create_indexes(missing.iter().map(Index::model)).await?;
        }
        Ok(())
    }

    async fn problems(&self) -> Result<Vec<String>, DriverError> {
        let mut problems: Vec<String> = self.deployment_problem().await?.into_iter().collect();
        let namespace = self.namespace();
        let Some(collection) = self.found_collection().await? else {
            problems.push(format!("the collection `{namespace}` is missing: run `migrate`"));
            return Ok(problems);
        };
        if let Some(what) = foreign(&collection) {
            problems.push(format!(
                "the collection `{namespace}` is {what}: choose another name for the outbox with `with_collection`"
            ));
            return Ok(problems);
        }
        let names = self.database.list_collection_names().await?;
        for name in [self.leases.name(), self.keys.name()] {
            if !names.iter().any(|found| found == name) {
                problems.push(format!(
                    "the collection `{}.{name}` is missing: run `migrate`",
                    self.database.name()
                ));
            } else if name == self.keys.name()
                && !self.indexes_of(name).await?.iter().any(|found| Index::of(READY_KEYS).is_of(found))
            {
                problems.push(format!(
                    "the collection `{}.{name}` has no index `{}` as it is to be: run `migrate`",
                    self.database.name(),
                    Index::of(READY_KEYS).name()
                ));
            }
        }
        let found = self.found_indexes().await?;
        for index in indexes() {
            if !found.iter().any(|found| index.is_of(found)) {
                problems.push(self.missing(&index));
            }
        }
        let wanted = self.time_to_live.map(indexes::time_to_live);
        let is_wanted = |found: &Document| {
            wanted.as_ref().is_some_and(|index| index.is_of(found) && seconds(found) == index.seconds)
        };
        if wanted.is_some() && !found.iter().any(is_wanted) {
            problems
                .push(format!("the collection `{namespace}` has no TTL index as it is to be: run `migrate`"));
        }
        for found in found.iter().filter(|found| seconds(found).is_some() && !is_wanted(found)) {
            let name = found.get_str("name").unwrap_or_default();
            // The one of a former `with_ttl`, or somebody's, which may delete what is not delivered.
            problems.push(format!(
                "the collection `{namespace}` has a TTL index `{name}` that the outbox is not to have: run \
                 `migrate` or, if it is not on `deliveredAt` alone, drop it"
            ));
        }
        Ok(problems)
    }
}

#[async_trait]
impl SchemaStore for MongoOutbox {
    async fn migrate(&self) -> Result<()> {
        if let Some(problem) = self.deployment_problem().await.map_err(self.error(MIGRATE))? {
            let message = format!("could not {MIGRATE} collection `{}`: {problem}", self.namespace());
            return Err(Error::new(ErrorKind::Schema, message));
        }
        self.create_collection().await?;
        // Before the indexes, by which others see that all is there.
        self.create_beside().await.map_err(self.error(MIGRATE))?;
        self.create_indexes().await.map_err(self.error(MIGRATE))
    }

    async fn verify(&self) -> Result<SchemaReport> {
        self.problems().await.map(SchemaReport::new).map_err(self.error(VERIFY))
    }
}

/// What many processes do at once is done by the quickest.
fn or_done_by_another(done: Result<(), DriverError>, code: i32) -> Result<(), DriverError> {
    match done {
        Err(error) if matches!(&*error.kind, DriverErrorKind::Command(error) if error.code == code) => Ok(()),
        done => done,
    }
}

/// What makes a collection unfit for an outbox, if anything does.
fn foreign(collection: &Document) -> Option<&'static str> {
    let options = collection.get_document("options").ok();
    match collection.get_str("type") {
        Ok("view") => Some("a view"),
        Ok("timeseries") => Some("a time series"),
        _ if options.is_some_and(|options| options.get_bool("capped").unwrap_or(false)) => Some("capped"),
        // Ids and keys are compared exactly.
        _ if options.is_some_and(|options| options.contains_key("collation")) => Some("of a collation"),
        _ => None,
    }
}

fn first_batch(answer: &Document) -> Vec<Document> {
    let batch = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map_or_else(|_| Vec::new(), |batch| batch.iter().filter_map(Bson::as_document).cloned().collect())
}

//! Creating, upgrading and checking the collection and its indexes.

use std::sync::atomic::Ordering;

use bson::Document;
use mongodb::error::Error as DriverError;
use outbox_traits::{Error, ErrorKind, Result, SchemaReport, SchemaStore, async_trait};

use crate::{
    MongoOutbox, collection,
    indexes::{self, Index, READY_KEYS, TIME_TO_LIVE_KEYS, indexes},
};

pub(crate) const MIGRATE: &str = "migrate";
pub(crate) const VERIFY: &str = "verify";

impl MongoOutbox {
    /// Refuses work on a collection that is not there: the server would make one at the first insert, without the
    /// indexes that tell duplicates. Asked until it is there, and then never again.
    pub(crate) async fn ready(&self, tried: &str) -> Result<()> {
        if self.seen.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut problem = collection::deployment_problem(&self.database).await.map_err(self.error(tried))?;
        if problem.is_none() {
            let found = self.found_indexes().await.map_err(self.error(tried))?;
            let missing = indexes().into_iter().find(|index| !index.is_among(&found));
            problem = missing.map(|index| self.missing(&index));
        }
        if problem.is_none() && !self.are_keys_whole().await.map_err(self.error(tried))? {
            problem = Some(self.missing_of_keys());
        }
        if let Some(problem) = problem {
            return Err(self.unfit(tried, &problem));
        }
        self.seen.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    fn unfit(&self, tried: &str, problem: &str) -> Error {
        let message = format!("could not {tried} collection `{}`: {problem}", self.namespace());
        Error::new(ErrorKind::Schema, message)
    }

    fn missing(&self, index: &Index) -> String {
        collection::missing(&self.database, self.events.name(), index)
    }

    fn missing_of_keys(&self) -> String {
        collection::missing(&self.database, self.keys.name(), &Index::of(READY_KEYS))
    }

    /// Whether the keys have their index. It is made last, and so says that all have their documents too.
    async fn are_keys_whole(&self) -> Result<bool, DriverError> {
        let found = collection::indexes(&self.database, self.keys.name()).await?;
        Ok(Index::of(READY_KEYS).is_among(&found))
    }

    async fn found_indexes(&self) -> Result<Vec<Document>, DriverError> {
        collection::indexes(&self.database, self.events.name()).await
    }

    /// The collections of leases and keys: where they are missing, a transaction would make them, and two at once
    /// would meet.
    async fn create_beside(&self) -> Result<(), DriverError> {
        for name in [self.leases.name(), self.keys.name()] {
            collection::create_missing(&self.database, name).await?;
        }
        Ok(())
    }

    /// Where the collection of keys was lost, what waits would be stuck in an empty one, which the next claim makes by itself.
    async fn complete_keys(&self) -> Result<(), DriverError> {
        let (database, name) = (&self.database, self.keys.name());
        let found = collection::indexes(database, name).await?;
        let index = Index::of(READY_KEYS);
        if !index.is_among(&found) || self.has_lost_keys().await? {
            self.restore_keys().await?;
        }
        collection::create_indexes(database, name, &found, [index]).await
    }

    /// What something else is in the place of.
    async fn problems_beside(&self) -> Result<Vec<String>, DriverError> {
        let mut problems = Vec::new();
        for (name, others) in self.others_beside() {
            problems.extend(collection::problem_beside(&self.database, name, others).await?);
        }
        Ok(problems)
    }

    async fn create_indexes(&self) -> Result<(), DriverError> {
        let found = self.found_indexes().await?;
        let (database, name) = (&self.database, self.events.name());
        let ttl = self.time_to_live.map(indexes::time_to_live);
        let own = Index::of(TIME_TO_LIVE_KEYS);
        let ttl = collection::follow_ttl(database, name, &found, ttl, &own).await?;
        collection::create_indexes(database, name, &found, indexes().into_iter().chain(ttl)).await
    }

    async fn problems(&self) -> Result<Vec<String>, DriverError> {
        let mut problems: Vec<String> =
            collection::deployment_problem(&self.database).await?.into_iter().collect();
        let beside = self.problems_beside().await?;
        if !beside.is_empty() {
            // What else is to be said would be to run `migrate`, which would be in vain.
            problems.extend(beside);
            return Ok(problems);
        }
        if let Some(problem) =
            collection::problem(&self.database, self.events.name(), &collection::OUTBOX).await?
        {
            problems.push(problem);
            return Ok(problems);
        }
        let names = self.database.list_collection_names().await?;
        for name in [self.leases.name(), self.keys.name()] {
            if !names.iter().any(|found| found == name) {
                let namespace = collection::namespace(&self.database, name);
                problems.push(format!("the collection `{namespace}` is missing: run `migrate`"));
            } else if name == self.keys.name() && !self.are_keys_whole().await? {
                problems.push(self.missing_of_keys());
            }
        }
        let found = self.found_indexes().await?;
        for index in indexes() {
            if !index.is_among(&found) {
                problems.push(self.missing(&index));
            }
        }
        // By these indexes.
        if problems.is_empty() && self.has_lost_keys().await? {
            let namespace = collection::namespace(&self.database, self.keys.name());
            problems.push(format!(
                "the collection `{namespace}` has lost keys of events that wait: run `migrate`"
            ));
        }
        let wanted = self.time_to_live.map(indexes::time_to_live);
        problems.extend(collection::ttl_problems(
            &self.namespace(),
            &found,
            wanted.as_ref(),
            TIME_TO_LIVE_KEYS,
        ));
        Ok(problems)
    }
}

#[async_trait]
impl SchemaStore for MongoOutbox {
    async fn migrate(&self) -> Result<()> {
        // Before anything is made.
        if let Some(problem) = self.problems_beside().await.map_err(self.error(MIGRATE))?.first() {
            return Err(self.unfit(MIGRATE, problem));
        }
        collection::create(&self.database, self.events.name(), &collection::OUTBOX, self.error(MIGRATE))
            .await?;
        // Before the indexes, by which others see that all is there.
        self.create_beside().await.map_err(self.error(MIGRATE))?;
        self.create_indexes().await.map_err(self.error(MIGRATE))?;
        self.complete_keys().await.map_err(self.error(MIGRATE))
    }

    async fn verify(&self) -> Result<SchemaReport> {
        self.problems().await.map(SchemaReport::new).map_err(self.error(VERIFY))
    }
}

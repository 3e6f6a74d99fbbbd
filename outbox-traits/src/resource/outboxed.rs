//! A repository whose writes are recorded.

use async_trait::async_trait;

use super::{Repository, ResourceEvents};
use crate::OutboxStore;

/// Decorates a repository: every write that succeeds is recorded as an event in the same session.
///
/// The business row is written first and the event after it, so that generated ids are known and a failed write
/// records nothing. The session of the store must be that of the repository: the transaction of another
/// database does not compile.
#[derive(Clone, Debug)]
pub struct Outboxed<R, S> {
    repository: R,
    events: ResourceEvents<S>,
}

impl<R, S> Outboxed<R, S>
where
    R: Repository,
    S: OutboxStore<Session = R::Session>,
{
    /// Records the writes of `repository` with `events`.
    pub fn new(repository: R, events: ResourceEvents<S>) -> Self {
        Self { repository, events }
    }

    /// The repository itself, for reads.
    pub fn repository(&self) -> &R {
        &self.repository
    }
}

#[async_trait]
impl<R, S> Repository for Outboxed<R, S>
where
    R: Repository,
    S: OutboxStore<Session = R::Session>,
{
    type Session = R::Session;
    type Id = R::Id;
    type Entity = R::Entity;
    type Changes = R::Changes;
    type Error = R::Error;

    fn id_of(entity: &Self::Entity) -> Self::Id {
        R::id_of(entity)
    }

    async fn create(
        &self,
        entity: Self::Entity,
        session: &mut Self::Session,
    ) -> Result<Self::Entity, Self::Error> {
        let created = self.repository.create(entity, session).await?;
        self.events.created(&R::id_of(&created), &created, session).await?;
        Ok(created)
    }

    async fn update(
        &self,
        id: &Self::Id,
        changes: &Self::Changes,
        session: &mut Self::Session,
    ) -> Result<bool, Self::Error> {
        let was_there = self.repository.update(id, changes, session).await?;
        if was_there {
            self.events.updated(id, changes, session).await?;
        }
        Ok(was_there)
    }

    async fn delete(&self, id: &Self::Id, session: &mut Self::Session) -> Result<bool, Self::Error> {
        let was_there = self.repository.delete(id, session).await?;
        if was_there {
            self.events.deleted(id, session).await?;
        }
        Ok(was_there)
    }

    async fn create_all(
        &self,
        entities: Vec<Self::Entity>,
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Entity>, Self::Error> {
        let created = self.repository.create_all(entities, session).await?;
        let rows: Vec<_> = created.iter().map(|entity| (R::id_of(entity), entity)).collect();
        self.events.created_all(rows, session).await?;
        Ok(created)
    }

    async fn update_all(
        &self,
        ids: &[Self::Id],
        changes: &Self::Changes,
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Id>, Self::Error> {
        let updated = self.repository.update_all(ids, changes, session).await?;
        self.events.updated_all(&updated, changes, session).await?;
        Ok(updated)
    }

    async fn delete_all(
        &self,
        ids: &[Self::Id],
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Id>, Self::Error> {
        let deleted = self.repository.delete_all(ids, session).await?;
        self.events.deleted_all(&deleted, session).await?;
        Ok(deleted)
    }
}

//! The small shape of a repository that can be decorated.

use async_trait::async_trait;
use serde::Serialize;

/// The writes of a repository, in the caller's session.
///
/// A host whose repository has another shape calls [`ResourceEvents`](super::ResourceEvents) by itself.
#[async_trait]
pub trait Repository: Send + Sync {
    /// The caller's transaction, as that of the outbox store.
    type Session: ?Sized + Send;
    /// What identifies an entity.
    type Id: Serialize + ToString + Clone + Send + Sync;
    /// What is created.
    type Entity: Serialize + Send + Sync;
    /// What an update changes.
    type Changes: Serialize + Send + Sync;
    /// The repository's own error, into which an error of the outbox fits.
    type Error: From<crate::Error> + Send;

    /// The id of an entity that was created.
    fn id_of(entity: &Self::Entity) -> Self::Id;

    /// Creates an entity and returns it as it was written, with its generated id.
    async fn create(
        &self,
        entity: Self::Entity,
        session: &mut Self::Session,
    ) -> Result<Self::Entity, Self::Error>;

    /// Updates an entity; false if there was none.
    async fn update(
        &self,
        id: &Self::Id,
        changes: &Self::Changes,
        session: &mut Self::Session,
    ) -> Result<bool, Self::Error>;

    /// Deletes an entity; false if there was none.
    async fn delete(&self, id: &Self::Id, session: &mut Self::Session) -> Result<bool, Self::Error>;

    /// Creates many entities and returns them as they were written.
    ///
    /// The default creates one after the other.
    async fn create_all(
        &self,
        entities: Vec<Self::Entity>,
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Entity>, Self::Error> {
        let mut created = Vec::with_capacity(entities.len());
        for entity in entities {
            created.push(self.create(entity, session).await?);
        }
        Ok(created)
    }

    /// Makes the same changes to many entities and returns the ids of those that there were.
    ///
    /// The default updates one after the other.
    async fn update_all(
        &self,
        ids: &[Self::Id],
        changes: &Self::Changes,
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Id>, Self::Error> {
        let mut updated = Vec::with_capacity(ids.len());
        for id in ids {
            if self.update(id, changes, session).await? {
                updated.push(id.clone());
            }
        }
        Ok(updated)
    }

    /// Deletes many entities and returns the ids of those that there were.
    ///
    /// The default deletes one after the other.
    async fn delete_all(
        &self,
        ids: &[Self::Id],
        session: &mut Self::Session,
    ) -> Result<Vec<Self::Id>, Self::Error> {
        let mut deleted = Vec::with_capacity(ids.len());
        for id in ids {
            if self.delete(id, session).await? {
                deleted.push(id.clone());
            }
        }
        Ok(deleted)
    }
}

//! MongoDB: a database on the server.

use std::path::Path;

use anyhow::Result;
use async_trait::async_trait;
use outbox_mongo::{
    MongoOutbox,
    mongodb::{
        Client, ClientSession, Collection,
        bson::{Document, doc},
    },
};
use outbox_traits::SchemaStore;

use super::Engine;

#[derive(Clone, Debug)]
pub(crate) struct Mongo {
    store: MongoOutbox,
}

impl Mongo {
    fn business(&self) -> Collection<Document> {
        self.store.database().collection("business")
    }
}

#[async_trait]
impl Engine for Mongo {
    type Store = MongoOutbox;
    type Transaction = ClientSession;

    const MANY_PROCESSES: bool = true;

    fn place(_: &Path) -> Result<String> {
        Ok(super::unique())
    }

    async fn open(place: &str) -> Result<Self> {
        let client = Client::with_uri_str(super::server("OUTBOX_TEST_MONGODB_URL")?).await?;
        Ok(Self { store: MongoOutbox::new(&client.database(place)) })
    }

    async fn make(&self) -> Result<()> {
        self.store.migrate().await?;
        Ok(self.store.database().create_collection("business").await?)
    }

    async fn remove(&self) -> Result<()> {
        Ok(self.store.database().drop().await?)
    }

    fn store(&self) -> &MongoOutbox {
        &self.store
    }

    async fn begin(&self) -> Result<ClientSession> {
        let mut session = self.store.database().client().start_session().await?;
        session.start_transaction().await?;
        Ok(session)
    }

    fn session<'a>(&self, transaction: &'a mut ClientSession) -> &'a mut ClientSession {
        transaction
    }

    async fn write_row(&self, session: u64, transaction: &mut ClientSession) -> Result<()> {
        self.business().insert_one(doc! { "name": session.to_string() }).session(transaction).await?;
        Ok(())
    }

    async fn commit(&self, mut transaction: ClientSession) -> Result<()> {
        Ok(transaction.commit_transaction().await?)
    }

    async fn rollback(&self, mut transaction: ClientSession) -> Result<()> {
        Ok(transaction.abort_transaction().await?)
    }

    async fn rows(&self) -> Result<Vec<u64>> {
        let mut names = Vec::new();
        let mut rows = self.business().find(doc! {}).await?;
        while rows.advance().await? {
            names.push(rows.current().get_str("name")?.to_owned());
        }
        super::numbers(names)
    }
}

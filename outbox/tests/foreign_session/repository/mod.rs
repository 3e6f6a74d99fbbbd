//! Orders in a table of SQLite.

use outbox::{async_trait, resource::Repository, sqlx::SqliteConnection};
use serde::Serialize;

pub struct Orders;

#[derive(Serialize)]
pub struct Order {
    pub id: String,
}

#[async_trait]
impl Repository for Orders {
    type Session = SqliteConnection;
    type Id = String;
    type Entity = Order;
    type Changes = Order;
    type Error = outbox::Error;

    fn id_of(order: &Order) -> String {
        order.id.clone()
    }

    async fn create(&self, order: Order, _: &mut SqliteConnection) -> outbox::Result<Order> {
        Ok(order)
    }

    async fn update(&self, _: &String, _: &Order, _: &mut SqliteConnection) -> outbox::Result<bool> {
        Ok(true)
    }

    async fn delete(&self, _: &String, _: &mut SqliteConnection) -> outbox::Result<bool> {
        Ok(true)
    }
}

//! What a relay takes for a store.

use std::sync::Arc;

use outbox_traits::OutboxStore;

/// A store, or an `Arc` of one: what [`Relay`](crate::Relay) takes. Never implemented by hand.
///
/// `Form` says which of the two it is, and is always inferred.
pub trait IntoStore<Form> {
    /// The store as the relay keeps it.
    fn into_store(self) -> Arc<dyn OutboxStore>;
}

/// The forms, which tell the implementations apart.
mod form {
    #[derive(Debug)]
    pub enum Store {}
    #[derive(Debug)]
    pub enum Shared {}
    #[derive(Debug)]
    pub enum Dynamic {}
}

impl<S: OutboxStore> IntoStore<form::Store> for S {
    fn into_store(self) -> Arc<dyn OutboxStore> {
        Arc::new(self)
    }
}

impl<S: OutboxStore> IntoStore<form::Shared> for Arc<S> {
    fn into_store(self) -> Arc<dyn OutboxStore> {
        self
    }
}

impl IntoStore<form::Dynamic> for Arc<dyn OutboxStore> {
    fn into_store(self) -> Arc<dyn OutboxStore> {
        self
    }
}

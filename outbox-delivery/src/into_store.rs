//! What a relay takes for a store.

use std::sync::Arc;

use outbox_traits::{ClaimStore, OutboxStore, StatsStore, WakeStore};

/// A store, or an `Arc` of one: what [`Relay`](crate::Relay) takes. Never implemented by hand.
///
/// `Form` says which of the two it is, and is always inferred. `Dyn` is the capability that is asked for.
pub trait IntoStore<Form, Dyn: ?Sized = dyn OutboxStore> {
    /// The store as the relay keeps it.
    fn into_store(self) -> Arc<Dyn>;
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

macro_rules! into_store {
    ($($capability:ident),*) => {$(
        impl<S: $capability> IntoStore<form::Store, dyn $capability> for S {
            fn into_store(self) -> Arc<dyn $capability> {
                Arc::new(self)
            }
        }

        impl<S: $capability> IntoStore<form::Shared, dyn $capability> for Arc<S> {
            fn into_store(self) -> Arc<dyn $capability> {
                self
            }
        }

        impl IntoStore<form::Dynamic, dyn $capability> for Arc<dyn $capability> {
            fn into_store(self) -> Arc<dyn $capability> {
                self
            }
        }
    )*};
}

into_store!(OutboxStore, ClaimStore, StatsStore, WakeStore);

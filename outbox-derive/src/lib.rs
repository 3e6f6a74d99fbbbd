//! `#[derive(DomainEvent)]` for the transactional outbox.
//!
//! Use it through the crates `outbox` or `outbox-traits` with their feature `derive`, which re-export it beside
//! the trait. The macro itself is documented at [`macro@DomainEvent`].

mod attributes;
mod event_type;
mod expand;
mod paths;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `DomainEvent` for a struct, or for an enum with one type of event for each variant.
///
/// The payload of the event is the value itself, by `serde::Serialize`, which is derived or written beside it.
///
/// ```
/// # use outbox_traits::{DomainEvent, Event};
/// use serde::Serialize;
/// use uuid::Uuid;
///
/// #[derive(Serialize, DomainEvent)]
/// #[domain_event(type = "order.placed", resource = "order")]
/// struct OrderPlaced {
///     #[domain_event(resource_id)]
///     order_id: Uuid,
///     #[domain_event(partition_key)]
///     customer: String,
/// }
///
/// let event = Event::of(&OrderPlaced { order_id: Uuid::nil(), customer: "c-042".into() })?;
/// assert_eq!(event.event_type(), "order.placed");
/// assert_eq!(event.meta().resource.as_deref(), Some("order"));
/// assert_eq!(event.partition_key(), Some("c-042"));
/// # Ok::<(), outbox_traits::Error>(())
/// ```
///
/// An enum names the type on each variant, and may name the resource once for all of them:
///
/// ```
/// # use outbox_traits::DomainEvent;
/// use serde::Serialize;
///
/// #[derive(Serialize, DomainEvent)]
/// #[domain_event(resource = "order")]
/// enum OrderEvent {
///     #[domain_event(type = "order.placed")]
///     Placed {
///         #[domain_event(resource_id)]
///         id: u64,
///         total: u64,
///     },
///     #[domain_event(type = "order.shipped")]
///     Shipped(#[domain_event(resource_id)] u64),
///     #[domain_event(type = "shop.opened", resource = "shop")]
///     ShopOpened,
/// }
///
/// assert_eq!(OrderEvent::Shipped(7).resource_id().as_deref(), Some("7"));
/// assert_eq!(OrderEvent::ShopOpened.resource(), Some("shop"));
/// ```
///
/// # Attributes
///
/// | where | attribute | meaning |
/// |---|---|---|
/// | struct, variant | `type = "…"` | the type of the event; required |
/// | struct, enum, variant | `resource = "…"` | the kind of thing that it is about; a variant's own wins |
/// | field | `resource_id` | which one of them, by `ToString` |
/// | field | `partition_key` | events that share it are delivered in order, by `ToString` |
/// | struct, enum | `crate = "…"` | the path of the crate with the trait, where it is not found by itself |
///
/// - A field whose type is written as an `Option` gives no id or key when it is `None`.
/// - Without a partition key, or where it is `None`, the resource id serves.
/// - The type is checked when the program is compiled: it is not blank, has at most 256 characters, does not
///   start with `$` and contains no NUL.
/// - The crate is found in `Cargo.toml` as `outbox-traits` or `outbox`, renamed or not. It is not told whether one is
///   there for tests alone: where `outbox-traits` is a dev-dependency and `outbox` a dependency, say
///   `#[domain_event(crate = "outbox")]`.
#[proc_macro_derive(DomainEvent, attributes(domain_event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

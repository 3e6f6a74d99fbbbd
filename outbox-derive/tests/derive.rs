//! What the derived implementation answers.

use std::fmt::Display;

use outbox_traits::{DomainEvent, Event};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "order.placed", resource = "order")]
struct OrderPlaced {
    #[domain_event(resource_id)]
    order_id: Uuid,
    #[domain_event(partition_key)]
    customer: String,
    total: u64,
}

#[test]
fn a_struct_fills_the_envelope() {
    let event = Event::of(&OrderPlaced { order_id: Uuid::nil(), customer: "c-1".into(), total: 3 }).unwrap();
    assert_eq!(event.event_type(), "order.placed");
    assert_eq!(event.meta().resource.as_deref(), Some("order"));
    assert_eq!(event.meta().resource_id.as_deref(), Some("00000000-0000-0000-0000-000000000000"));
    assert_eq!(event.meta().partition_key.as_deref(), Some("c-1"));
    assert_eq!(event.payload()["total"], 3);
}

#[derive(Serialize, DomainEvent)]
#[domain_event(resource = "order")]
enum OrderEvent {
    #[domain_event(type = "order.placed")]
    Placed {
        #[domain_event(resource_id)]
        id: u64,
        #[domain_event(partition_key)]
        customer: Option<String>,
    },
    #[domain_event(type = "order.moved")]
    Moved(String, #[domain_event(resource_id, partition_key)] u64),
    #[domain_event(type = "order.counted")]
    Counted(#[domain_event(resource_id)] std::option::Option<u64>),
    #[domain_event(type = "shop.opened", resource = "shop")]
    ShopOpened,
}

#[test]
fn each_variant_has_its_own_type() {
    let types = [
        OrderEvent::Placed { id: 1, customer: None },
        OrderEvent::Moved("x".into(), 2),
        OrderEvent::Counted(None),
        OrderEvent::ShopOpened,
    ];
    let types: Vec<_> = types.iter().map(|event| event.event_type().to_owned()).collect();
    assert_eq!(types, ["order.placed", "order.moved", "order.counted", "shop.opened"]);
}

#[test]
fn a_variant_overrides_the_resource_of_the_enum() {
    assert_eq!(OrderEvent::Counted(None).resource(), Some("order"));
    assert_eq!(OrderEvent::ShopOpened.resource(), Some("shop"));
}

#[test]
fn fields_of_named_tuple_and_unit_variants_give_the_keys() {
    let placed = OrderEvent::Placed { id: 1, customer: Some("c-1".into()) };
    assert_eq!((placed.resource_id(), placed.partition_key()), (Some("1".into()), Some("c-1".into())));
    let moved = OrderEvent::Moved("x".into(), 2);
    assert_eq!((moved.resource_id(), moved.partition_key()), (Some("2".into()), Some("2".into())));
    assert_eq!((OrderEvent::ShopOpened.resource_id(), OrderEvent::ShopOpened.partition_key()), (None, None));
}

#[test]
fn an_option_that_is_none_gives_none() {
    assert_eq!(OrderEvent::Counted(None).resource_id(), None);
    assert_eq!(OrderEvent::Counted(Some(4)).resource_id().as_deref(), Some("4"));
    assert_eq!(OrderEvent::Placed { id: 1, customer: None }.partition_key(), None);
}

#[test]
fn where_the_key_is_none_the_resource_id_serves() {
    let event = Event::of(&OrderEvent::Placed { id: 1, customer: None }).unwrap();
    assert_eq!(event.partition_key(), Some("1"));
    assert_eq!(OrderEvent::Counted(Some(4)).partition_key().as_deref(), Some("4"));
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "thing.seen")]
struct Seen<'a, I, T = ()>
where
    T: Clone,
{
    #[domain_event(resource_id)]
    id: I,
    #[domain_event(partition_key)]
    area: Option<&'a str>,
    what: T,
}

/// The bounds of the implementation are those that it needs: none is asked of the caller.
fn type_of<I: Serialize + Display, T: Serialize + Clone>(seen: &Seen<'_, I, T>) -> String {
    seen.event_type().to_owned()
}

#[test]
fn generics_and_lifetimes_are_kept() {
    let seen = Seen { id: 5_u8, area: Some("north"), what: json!({}) };
    assert_eq!(type_of(&seen), "thing.seen");
    assert_eq!((seen.resource_id(), seen.partition_key()), (Some("5".into()), Some("north".into())));
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "batch.done")]
struct Batch<const N: usize> {
    #[domain_event(resource_id)]
    r#type: String,
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "shop.closed")]
struct ShopClosed;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "shop.renamed")]
struct ShopRenamed(#[domain_event(resource_id)] &'static str, String);

#[test]
fn const_generics_unit_and_tuple_structs_work() {
    assert_eq!(Batch::<3> { r#type: "b".into() }.resource_id().as_deref(), Some("b"));
    assert_eq!(ShopClosed.event_type(), "shop.closed");
    assert_eq!((ShopClosed.resource(), ShopClosed.resource_id()), (None, None));
    assert_eq!(ShopRenamed("s", "new".into()).resource_id().as_deref(), Some("s"));
}

mod elsewhere {
    pub(crate) use outbox_traits as events;
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "path.given", crate = "elsewhere::events")]
struct PathGiven;

#[test]
fn the_crate_can_be_named() {
    assert_eq!(PathGiven.event_type(), "path.given");
}

macro_rules! event {
    ($name:ident, $key:ty) => {
        #[derive(Serialize, DomainEvent)]
        #[domain_event(type = "made.by_macro")]
        struct $name(#[domain_event(resource_id)] $key);
    };
}
event!(Made, Option<String>);

#[test]
fn an_option_that_a_macro_passes_on_is_recognised() {
    assert_eq!(Made(None).resource_id(), None);
}

/// 256 characters, of which some have several bytes: the longest type that the core takes.
#[derive(Serialize, DomainEvent)]
#[domain_event(
    type = "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
struct Longest;

#[test]
fn the_longest_type_is_the_same_as_that_of_the_core() {
    assert_eq!(Longest.event_type().chars().count(), outbox_traits::MAX_TYPE_CHARS);
    assert!(Event::of(&Longest).is_ok());
}

#[test]
fn what_is_wrong_does_not_compile_and_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}

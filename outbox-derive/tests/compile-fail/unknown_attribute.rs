use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[domain_event(name = "order.placed")]
struct OnStruct;

#[derive(Serialize, DomainEvent)]
#[domain_event(version = 2)]
enum OnEnum {
    #[domain_event(type = "a.b")]
    A,
}

#[derive(Serialize, DomainEvent)]
enum OnVariant {
    #[domain_event(type = "a.b", topic = "x")]
    A,
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b")]
struct OnField {
    #[domain_event(id)]
    id: u64,
}

fn main() {}

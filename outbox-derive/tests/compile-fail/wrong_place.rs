use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b")]
enum TypeOnEnum {
    A,
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b", resource_id = "id")]
struct IdOnStruct {
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b")]
struct TypeOnField {
    #[domain_event(type = "a.b")]
    id: u64,
}

#[derive(Serialize, DomainEvent)]
enum CrateOnVariant {
    #[domain_event(type = "a.b", crate = "outbox")]
    A,
}

#[derive(Serialize, DomainEvent)]
#[domain_event]
struct Bare;

fn main() {}

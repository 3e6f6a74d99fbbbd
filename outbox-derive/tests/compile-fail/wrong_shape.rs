use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize)]
struct NoText;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b")]
struct NoToString {
    #[domain_event(resource_id)]
    id: NoText,
}

#[derive(DomainEvent)]
enum Empty {}

#[derive(DomainEvent)]
union Union {
    id: u64,
}

fn main() {}

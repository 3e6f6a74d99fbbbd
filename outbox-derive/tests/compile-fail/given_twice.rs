use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b")]
struct TwoIds {
    #[domain_event(resource_id)]
    one: u64,
    #[domain_event(resource_id)]
    two: u64,
}

#[derive(Serialize, DomainEvent)]
enum TwoKeys {
    #[domain_event(type = "a.b")]
    A(#[domain_event(partition_key)] u64, #[domain_event(partition_key)] u64),
}

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "a.b", type = "a.c")]
struct TwoTypes;

fn main() {}

use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
struct Nothing;

#[derive(Serialize, DomainEvent)]
#[domain_event(resource = "order")]
enum Some {
    #[domain_event(type = "order.placed")]
    Placed,
    Shipped,
    #[domain_event(resource = "parcel")]
    Packed,
}

fn main() {}

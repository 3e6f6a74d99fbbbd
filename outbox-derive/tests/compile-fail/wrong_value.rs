use outbox_traits::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "  ")]
struct Blank;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "$set")]
struct Dollar;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "order\0placed")]
struct Nul;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = order)]
struct NoString;

#[derive(Serialize, DomainEvent)]
#[domain_event(type)]
struct NoValue;

#[derive(Serialize, DomainEvent)]
#[domain_event(type = "order.placed", resource = "")]
struct BlankResource;

fn main() {}

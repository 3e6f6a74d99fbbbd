//! What becomes of delivered events.

/// What a store does with an event when it is delivered: acknowledged, or settled as delivered.
///
/// A setting of each handle on a store, not of what is stored: it may be changed at any time, and those that were
/// kept before stay until they are purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retention {
    /// It is kept until [`purge`](crate::OutboxStore::purge) deletes it. Until then its id and its idempotency key
    /// are taken: saved again, it is a [`Duplicate`](crate::Saved::Duplicate).
    #[default]
    UntilPurged,
    /// It is deleted at once, which spares the writing of its new state, the room and the purge. Then its id and
    /// its idempotency key are free: saved again, it is delivered again. A second acknowledgement is one of an
    /// unknown id, which is no error, and a purge finds nothing.
    DeleteOnDelivery,
}

//! Events for the creates, updates and deletes of a repository.
//!
//! [`ResourceEvents`] records changes as events in the session of the business write; [`Outboxed`] decorates a
//! [`Repository`], so that no caller can forget to.
//!
//! | change | type | payload |
//! |---|---|---|
//! | created | `{resource}.created` | the entity |
//! | updated | `{resource}.updated` | `{"id", "changes"}` |
//! | deleted | `{resource}.deleted` | `{"id"}` |

mod events;
mod outboxed;
mod repository;

pub use self::{
    events::{Change, ResourceEvents},
    outboxed::Outboxed,
    repository::Repository,
};

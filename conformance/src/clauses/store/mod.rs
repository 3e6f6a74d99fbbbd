//! Sections 1 to 6 of the contract: what every store promises.

mod acknowledge;
mod events;
mod order;
mod pending;
mod purge;
mod retention;
mod save;

pub use self::{acknowledge::*, events::*, order::*, pending::*, purge::*, retention::*, save::*};

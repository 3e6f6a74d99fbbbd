//! The contract of a transport, by group. Each clause is a function over a [`TransportHarness`] with a fresh
//! transport, and is listed once, in the macro below; a unit test fails if one is not.
//!
//! ```
//! # mod example {
//! use std::sync::{Arc, Mutex};
//! use outbox_conformance::{Skip, transport::{Received, TransportHarness}};
//! use outbox_traits::{Event, PublishError, Transport, async_trait};
//!
//! #[derive(Debug, Default)]
//! struct List(Arc<Mutex<Vec<Event>>>);
//!
//! #[async_trait]
//! impl Transport for List {
//!     async fn publish(&self, event: &Event) -> Result<(), PublishError> {
//!         self.0.lock().unwrap().push(event.clone());
//!         Ok(())
//!     }
//! }
//!
//! struct Lists(List);
//!
//! #[async_trait]
//! impl TransportHarness for Lists {
//!     type Transport = List;
//!
//!     async fn open() -> Result<Self, Skip> {
//!         Ok(Self(List::default()))
//!     }
//!     fn transport(&self) -> &List {
//!         &self.0
//!     }
//!     async fn received(&self) -> Vec<Received> {
//!         self.0.0.lock().unwrap().iter().map(Received::from).collect()
//!     }
//! }
//!
//! // One named test for each clause, in a module for each group.
//! outbox_conformance::transport_suite!(Lists; publish);
//! # }
//! ```
//!
//! | group | what it needs | what it checks |
//! |---|---|---|
//! | `publish` | [`TransportHarness`] | what arrives, the report, the order of each key |
//! | `refuse` | [`RefusingHarness`] | events that are too large, and the order across a failure |
//! | `outage` | [`OutageHarness`] | a broker that goes away and comes back |
//! | `part` | [`PartHarness`] | a part of the broker that goes away, and the rest of it |
//! | `durable` | [`OutageHarness`] | what was accepted survives a `kill -9` of the broker |
//!
//! A group that makes no sense for a transport is left out: a function of the same program has no outage.

#![allow(clippy::missing_panics_doc, reason = "a clause that is not kept panics: that is how it says so")]

pub mod durable;
mod harness;
pub mod outage;
pub mod part;
pub mod publish;
pub mod refuse;
mod support;

pub use self::harness::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness};

/// One named test for each clause of the groups of a transport, in a module for each group.
///
/// `transport_suite!(Harness; publish, refuse)`. See [`transport`](crate::transport) for the groups.
#[macro_export]
macro_rules! transport_suite {
    ($harness:ty; $($group:ident),+ $(,)?) => { $($crate::__transport_group! { $group [tests $harness] })+ };
}

/// The clauses of the groups of a transport as a `Vec` of `Clause`s, to run them by a program.
#[macro_export]
macro_rules! transport_clauses {
    ($harness:ty; $($group:ident),+ $(,)?) => {{
        let mut clauses = ::std::vec::Vec::<$crate::Clause>::new();
        $(clauses.extend($crate::__transport_group! { $group [list $harness] });)+
        clauses
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __emit_transport {
    ([tests $harness:ty] $group:ident: $($clause:ident)+) => {
        mod $group {
            use super::*;
            $(#[test]
            fn $clause() {
                $crate::__private::run_transport::<$harness, _>(
                    concat!(stringify!($group), "::", stringify!($clause)),
                    $crate::transport::$group::$clause,
                );
            })+
        }
    };
    ([list $harness:ty] $group:ident: $($clause:ident)+) => {
        [$($crate::__private::transport_clause::<$harness, _>(
            concat!(stringify!($group), "::", stringify!($clause)),
            $crate::transport::$group::$clause,
        )),+]
    };
    ([names] $group:ident: $($clause:ident)+) => { [$(stringify!($clause)),+] };
}

/// The one list of all clauses of a transport.
#[doc(hidden)]
#[macro_export]
macro_rules! __transport_group {
    (publish $mode:tt) => {
        $crate::__emit_transport! { $mode publish:
            every_event_arrives
            a_report_names_each_event_once
            an_accepted_event_has_arrived
            the_id_the_type_and_the_payload_arrive
            unusual_payloads_arrive_exactly
            an_unusual_type_arrives_exactly_or_is_refused
            the_partition_key_arrives
            headers_and_the_trace_arrive
            an_unusual_header_arrives_exactly_or_is_refused
            the_order_of_a_key_is_kept
            batches_at_the_same_time_are_kept_apart
            an_event_may_be_published_again
            a_call_that_is_given_up_harms_no_other
        }
    };
    (refuse $mode:tt) => {
        $crate::__emit_transport! { $mode refuse:
            what_is_too_large_is_rejected
            a_refused_event_holds_up_no_other
            what_follows_a_failed_event_of_its_key_waits
        }
    };
    (outage $mode:tt) => {
        $crate::__emit_transport! { $mode outage:
            a_broker_that_is_down_is_unavailable
            a_broker_that_is_back_is_used_again
            a_key_keeps_its_order_across_an_outage
        }
    };
    (part $mode:tt) => {
        $crate::__emit_transport! { $mode part:
            a_part_that_is_away_fails_its_own_events_alone
            a_part_that_is_back_is_used_again
        }
    };
    (durable $mode:tt) => {
        $crate::__emit_transport! { $mode durable:
            what_was_accepted_survives_a_kill
            nothing_accepted_is_lost_amid_outages
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_clause_goes_unlisted() {
        macro_rules! every_clause_is_listed {
            ($($group:ident: $file:literal;)+) => {$(
                let listed = crate::__transport_group! { $group [names] };
                let source = include_str!($file);
                let written: Vec<_> = source.split("\npub async fn ").skip(1)
                    .filter_map(|rest| rest.split_once('<').map(|(name, _)| name)).collect();
                assert_eq!(listed.to_vec(), written, "the group {}", stringify!($group));
            )+};
        }
        every_clause_is_listed! {
            publish: "publish.rs";
            refuse: "refuse.rs";
            outage: "outage.rs";
            part: "part.rs";
            durable: "durable.rs";
        }
    }
}

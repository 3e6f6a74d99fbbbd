//! The suite of transports is tried against broken ones, each of which it must reject by the clause that names the
//! fault.

#[macro_use]
#[path = "../rejection/mod.rs"]
mod rejection;

mod broken;
mod fault;

use outbox_conformance::{Clause, transport_clauses};

use crate::{broken::Faulty, fault::Fault, rejection::hush_expected_panics};

/// The clauses that a transport with this fault fails, of those that are asked for.
fn failures(fault: Fault, is_asked: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    hush_expected_panics();
    Faulty::with(fault);
    all_clauses()
        .iter()
        .filter(|clause| is_asked(clause.name))
        .filter_map(|clause| Some((clause.name, clause.run().err()?)))
        .collect()
}

fn all_clauses() -> Vec<Clause> {
    transport_clauses!(Faulty; publish, refuse, outage, part, durable)
}

/// Which keep every clause.
const ACCEPTED: [Fault; 1] = [Fault::None];

#[test]
fn the_transport_without_a_fault_keeps_every_clause() {
    assert_eq!(failures(Fault::None, |_| true), []);
}

rejected! {
    an_event_that_is_accepted_and_lost: AnEventIsAcceptedAndLost
        by "publish::every_event_arrives";
    an_event_that_arrives_twice: AnEventArrivesTwice
        by "publish::every_event_arrives";
    an_event_that_is_accepted_before_the_broker_has_it: AcceptedBeforeTheBrokerHasIt
        by "publish::an_accepted_event_has_arrived", "durable::what_was_accepted_survives_a_kill";
    types_without_their_last_part: TheTypeIsCutOff
        by "publish::the_id_the_type_and_the_payload_arrive";
    types_in_lower_case: TheTypeIsInLowerCase
        by "publish::an_unusual_type_arrives_exactly_or_is_refused";
    unusual_types_that_fail_for_ever: UnusualTypesFailForEver
        by "publish::an_unusual_type_arrives_exactly_or_is_refused";
    unusual_types_that_are_accepted_and_lost: UnusualTypesAreAcceptedAndLost
        by "publish::an_unusual_type_arrives_exactly_or_is_refused";
    large_integers_that_become_floats: LargeIntegersBecomeFloats
        by "publish::unusual_payloads_arrive_exactly";
    nul_characters_that_are_dropped: NulCharactersAreDropped
        by "publish::unusual_payloads_arrive_exactly";
    a_partition_key_that_is_dropped: ThePartitionKeyIsDropped
        by "publish::the_partition_key_arrives";
    a_resource_id_that_is_no_key: TheResourceIdIsNoKey
        by "publish::the_partition_key_arrives";
    headers_that_are_dropped: HeadersAreDropped
        by "publish::headers_and_the_trace_arrive";
    a_trace_that_is_dropped: TheTraceIsDropped
        by "publish::headers_and_the_trace_arrive";
    headers_that_stay_for_the_next_event: HeadersStayForTheNextEvent
        by "publish::headers_and_the_trace_arrive";
    headers_that_overwrite_attributes: HeadersOverwriteAttributes
        by "publish::an_unusual_header_arrives_exactly_or_is_refused";
    headers_that_are_injected: HeadersAreInjected
        by "publish::an_unusual_header_arrives_exactly_or_is_refused";
    headers_without_a_form_that_fail_for_ever: HeadersThatTheProtocolHasNoFormForFailForEver
        by "publish::an_unusual_header_arrives_exactly_or_is_refused";
    an_event_published_again_that_is_an_error: AnEventPublishedAgainIsAnError
        by "publish::an_event_may_be_published_again";

    an_id_that_is_forgotten: AnIdIsForgotten
        by "publish::a_report_names_each_event_once";
    an_id_that_is_reported_twice: AnIdIsReportedTwice
        by "publish::a_report_names_each_event_once";
    an_empty_batch_that_is_reported_on: AnEmptyBatchIsReportedOn
        by "publish::a_report_names_each_event_once";
    reports_of_concurrent_batches_that_are_mixed: ReportsOfConcurrentBatchesAreMixed
        by "publish::batches_at_the_same_time_are_kept_apart";
    a_call_that_is_given_up_and_spoils_the_next: ACallThatIsGivenUpSpoilsTheNext
        by "publish::a_call_that_is_given_up_harms_no_other";

    a_batch_that_is_reversed: ABatchIsReversed
        by "publish::the_order_of_a_key_is_kept";
    a_batch_that_overtakes_itself: ABatchOvertakesItself
        by "publish::the_order_of_a_key_is_kept";
    what_follows_a_failed_event_and_is_published: WhatFollowsAFailedEventIsPublished
        by "refuse::what_follows_a_failed_event_of_its_key_waits";
    an_event_that_is_overtaken_after_an_outage: AfterAnOutageAnEventIsOvertaken
        by "outage::a_key_keeps_its_order_across_an_outage";

    too_large_that_is_failed: TooLargeIsFailed
        by "refuse::what_is_too_large_is_rejected";
    too_large_that_is_unavailable: TooLargeIsUnavailable
        by "refuse::what_is_too_large_is_rejected";
    too_large_that_is_accepted_and_lost: TooLargeIsAcceptedAndLost
        by "refuse::what_is_too_large_is_rejected";
    a_refused_event_that_stops_the_batch: ARefusedEventStopsTheBatch
        by "refuse::a_refused_event_holds_up_no_other";
    a_refused_event_that_stops_the_transport: ARefusedEventStopsTheTransport
        by "refuse::what_is_too_large_is_rejected";
    the_wrong_event_that_is_blamed: TheWrongEventIsBlamed
        by "refuse::a_refused_event_holds_up_no_other";

    a_down_broker_that_is_a_failed_event: ADownBrokerIsAFailedEvent
        by "outage::a_broker_that_is_down_is_unavailable";
    a_down_broker_that_is_a_rejected_event: ADownBrokerIsARejectedEvent
        by "outage::a_broker_that_is_down_is_unavailable", "outage::a_key_keeps_its_order_across_an_outage";
    a_down_broker_that_hangs: ADownBrokerHangs
        by "outage::a_broker_that_is_down_is_unavailable";
    a_broker_that_is_back_and_not_used: ABrokerThatIsBackIsNotUsed
        by "outage::a_broker_that_is_back_is_used_again";
    a_broker_that_forgets: TheBrokerForgets
        by "durable::what_was_accepted_survives_a_kill", "durable::nothing_accepted_is_lost_amid_outages";
    a_broker_that_forgets_the_last: TheBrokerForgetsTheLast
        by "durable::what_was_accepted_survives_a_kill";

    a_part_that_is_away_and_makes_all_unavailable: APartThatIsAwayIsUnavailable
        by "part::a_part_that_is_away_fails_its_own_events_alone";
    a_part_that_is_away_and_rejects_its_events: APartThatIsAwayIsRejected
        by "part::a_part_that_is_away_fails_its_own_events_alone", "part::a_part_that_is_back_is_used_again";
    a_part_that_is_away_and_accepts_events: APartThatIsAwayIsAcceptedAndLost
        by "part::a_part_that_is_away_fails_its_own_events_alone", "part::a_part_that_is_back_is_used_again";
    a_part_that_is_away_and_fails_the_batch: APartThatIsAwayFailsTheBatch
        by "part::a_part_that_is_away_fails_its_own_events_alone";
    a_part_that_is_away_and_holds_up_the_rest: APartThatIsAwayHoldsUpTheRest
        by "part::a_part_that_is_away_fails_its_own_events_alone";
    a_part_that_is_back_and_not_used: APartThatIsBackIsNotUsed
        by "part::a_part_that_is_back_is_used_again";
}

/// A clause that passes whatever the transport does proves nothing.
#[test]
fn every_clause_rejects_a_fault() {
    let unproven: Vec<_> =
        all_clauses().iter().map(|clause| clause.name).filter(|name| !NAMED.contains(name)).collect();
    assert_eq!(unproven, [""; 0]);
}

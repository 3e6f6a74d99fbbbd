//! The suite, proven: stores with one fault each, every one of which must be rejected, by the clause that names
//! the fault.

#[macro_use]
#[path = "../rejection/mod.rs"]
mod rejection;

mod alter;
mod claim;
mod elsewhere;
mod expiry;
mod fault;
mod fitful;
mod harness;
mod held;
mod inbox;
mod loss;
mod names;
mod refusal;
mod remote;
mod remote_wake;
mod schema;
mod session;
mod store;
mod wake;

use outbox_conformance::{Clause, clauses};

use crate::{
    fault::Fault,
    fitful::Fitful,
    harness::Faulty,
    rejection::{QUIET, hush_expected_panics},
    remote::Remote,
};

/// The clauses that a store with this fault fails, of those that are asked for.
fn failures(fault: Fault, is_asked: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    hush_expected_panics();
    outbox_conformance::__private::expect_faults();
    <Faulty>::with(fault);
    let mut clauses = all_clauses();
    if fault == Fault::DeliveredEventsAreNotDeleted {
        clauses = clauses!(Faulty<true>; store, claim);
    }
    clauses
        .iter()
        .filter(|clause| is_asked(clause.name))
        .filter_map(|clause| Some((clause.name, clause.run().err()?)))
        .collect()
}

/// Of every group but `durable`, whose clauses kill processes.
fn all_clauses() -> Vec<Clause> {
    let mut clauses = clauses!(
        Faulty; store, concurrent, schema, dead_letter, claim, claim_concurrent, claim_schema, claim_durable, stats,
        cost, claim_cost, wake, wake_concurrent, claim_peer, claim_wake, inbox, resource, names, claim_names, inbox_names, migration, inbox_migration, expiry, elsewhere, loss,
        refusal
    );
    clauses.extend(clauses!(Fitful; fault, claim_fault, inbox_fault));
    clauses.extend(clauses!(Remote; outage, claim_outage, claim_meeting, stats_outage, wake_outage));
    clauses
}

/// Which keep every clause.
const ACCEPTED: [Fault; 2] = [Fault::None, Fault::ClaimsTakeOneEventOfAKey];

#[test]
fn the_wrapper_without_a_fault_keeps_every_clause() {
    assert_eq!(failures(Fault::None, |_| true), []);
}

/// That one claim may take several events of a key does not say that it must.
#[test]
fn a_store_whose_claims_take_one_event_of_a_key_keeps_every_clause() {
    // The other groups are of wrappers that heed other faults.
    let is_asked =
        |name: &str| !["outage::", "fault::", "meeting::"].iter().any(|group| name.contains(group));
    assert_eq!(failures(Fault::ClaimsTakeOneEventOfAKey, is_asked), []);
}

rejected! {
    a_child_that_inherits_the_idempotency_key: ChildInheritsTheIdempotencyKey
        by "store::a_child_event_is_stored_beside_its_parent";
    a_partition_key_and_headers_that_get_lost: PartitionKeyAndHeadersGetLost
        by "store::the_partition_key_and_headers_come_back";
    unknown_meta_fields_that_get_lost: UnknownMetaFieldsGetLost
        by "store::unknown_meta_fields_survive";
    headers_that_claims_forget: ClaimsForgetHeaders
        by "claim::a_claimed_event_is_as_it_was_saved";
    unknown_meta_fields_that_claims_forget: ClaimsForgetUnknownMetaFields
        by "claim::a_claimed_event_is_as_it_was_saved";
    times_cut_to_seconds: TimesAreCutToSeconds
        by "store::ids_and_times_come_back_as_constructed";
    invalid_types_that_are_taken: InvalidTypesAreTaken
        by "store::an_invalid_type_is_refused_and_nothing_is_stored";
    large_integers_that_become_floats: LargeIntegersBecomeFloats
        by "store::extreme_numbers_come_back_exactly";
    a_zero_that_loses_its_sign: ZeroLosesItsSign
        by "store::extreme_numbers_come_back_exactly";
    nul_characters_that_are_dropped: NulCharactersAreDropped
        by "store::unusual_text_comes_back_exactly";
    empty_objects_that_become_null: EmptyObjectsBecomeNull
        by "store::unusual_structures_come_back_exactly";
    long_lists_that_are_cut_off: LongListsAreCutOff
        by "store::a_long_list_of_short_things_comes_back_exactly";
    unknown_meta_fields_that_sessions_forget: SessionsForgetUnknownMetaFields
        by "store::an_event_is_the_same_whichever_way_it_was_saved";
    large_integers_that_batches_of_sessions_make_floats_of: BatchesOfSessionsMakeFloatsOfLargeIntegers
        by "store::extreme_numbers_come_back_exactly";
    a_zero_of_an_extra_field_that_loses_its_sign: ExtraFieldsLoseTheSignOfZero
        by "store::an_event_is_the_same_whichever_way_it_was_saved",
            "store::extreme_numbers_come_back_exactly";
    nul_characters_of_headers_that_are_dropped: NulCharactersOfHeadersAreDropped
        by "store::unusual_text_in_the_meta_comes_back_exactly_or_is_refused";
    empty_texts_that_are_absent: EmptyTextsAreAbsent
        by "store::unusual_text_in_the_meta_comes_back_exactly_or_is_refused";
    types_that_are_counted_in_utf_16: TypesAreCountedInUtf16
        by "store::an_invalid_type_is_refused_and_nothing_is_stored";
    times_that_are_nanoseconds: TimesAreNanoseconds
        by "store::early_and_late_timestamps_come_back";

    a_save_that_ignores_its_session: SaveIgnoresItsSession
        by "store::an_event_saved_in_a_session_is_invisible_until_it_commits",
            "store::a_rolled_back_event_never_appears", "store::an_event_shares_the_fate_of_the_business_rows";
    a_dropped_session_that_commits: ADroppedSessionCommits
        by "store::a_dropped_session_leaves_nothing";
    saves_in_a_session_that_are_reversed: SavesInASessionAreReversed
        by "store::saves_in_one_session_keep_their_order";
    batches_that_are_reversed: BatchesAreReversed
        by "store::save_all_keeps_the_order_of_its_slice";
    a_bad_batch_that_is_half_stored: ABadBatchIsHalfStored
        by "store::save_all_is_all_or_nothing",
            "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_duplicate_that_poisons_the_session: ADuplicatePoisonsTheSession
        by "store::a_duplicate_leaves_the_session_usable";
    a_duplicate_in_a_session_that_holds_up_all: ADuplicateInASessionHoldsUpAll
        by "concurrent::a_duplicate_in_an_open_session_delays_nobody";
    a_duplicate_that_is_an_error: ADuplicateIsAnError
        by "store::an_existing_id_is_a_duplicate_and_the_first_stays";
    a_duplicate_that_replaces_the_first: ADuplicateReplacesTheFirst
        by "store::an_existing_id_is_a_duplicate_and_the_first_stays";
    delivered_ids_that_are_forgotten: DeliveredIdsAreForgotten
        by "store::an_existing_id_is_a_duplicate_and_the_first_stays";
    a_batch_that_says_stored_for_duplicates: ABatchSaysStoredForDuplicates
        by "store::a_batch_answers_for_each_event",
            "concurrent::a_batch_answers_for_what_is_committed_meanwhile";
    idempotency_keys_that_are_ignored: IdempotencyKeysAreIgnored
        by "store::an_idempotency_key_is_stored_once";
    idempotency_keys_forgotten_once_delivered: DeliveredIdempotencyKeysAreForgotten
        by "store::an_idempotency_key_is_stored_once";
    idempotency_keys_that_fold_case: IdempotencyKeysFoldCase
        by "store::idempotency_keys_are_compared_exactly";
    idempotency_keys_that_are_cut_off: IdempotencyKeysAreCutOff
        by "store::idempotency_keys_are_compared_exactly";
    purged_keys_that_stay_taken: PurgedKeysStayTaken
        by "store::purging_frees_an_idempotency_key",
            "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    a_settlement_that_frees_no_id_or_key: ASettlementFreesNoIdOrKey
        by "claim::what_was_delivered_by_a_settlement_frees_its_id_and_key";
    a_duplicate_of_what_an_open_session_has_saved: WhatAnOpenSessionHasSavedIsADuplicate
        by "concurrent::what_an_open_session_has_saved_is_no_duplicate";
    a_duplicate_of_the_key_of_an_open_session: TheKeyOfAnOpenSessionIsADuplicate
        by "concurrent::what_an_open_session_has_saved_is_no_duplicate";
    an_error_that_rolls_back: AnErrorRollsBack
        by "store::an_error_leaves_the_session_to_the_caller";
    an_error_that_commits: AnErrorCommits
        by "store::an_error_leaves_the_session_to_the_caller",
            "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored";
    a_not_before_that_is_ignored: NotBeforeIsIgnored
        by "store::an_event_is_hidden_until_its_time";
    a_hidden_event_that_is_hidden_for_ever: AHiddenEventIsHiddenForEver
        by "store::an_event_is_hidden_until_its_time";
    hidden_events_of_which_only_some_become_due: OnlySomeHiddenEventsBecomeDue
        by "store::many_hidden_events_come_at_once_when_their_time_does";
    a_save_that_is_lost_now_and_then: NowAndThenASaveIsLost
        by "store::saves_from_many_sessions_lose_and_duplicate_nothing",
            "store::a_history_of_many_writers_is_delivered_in_causal_order";

    order_by_the_application_s_clock: OrderByTheApplicationClock
        by "store::order_does_not_rest_on_the_application_s_clock";
    order_by_id: OrderById
        by "store::order_does_not_rest_on_the_application_s_clock";
    a_cursor_that_skips_late_commits: ACursorSkipsLateCommits
        by "concurrent::an_event_that_commits_late_is_not_skipped",
            "store::a_history_of_many_writers_is_delivered_in_causal_order";
    gaps_that_are_waited_for: GapsAreWaitedFor
        by "store::a_rolled_back_save_leaves_no_gap", "concurrent::a_long_transaction_delays_only_its_own_events";

    last_in_first_out: LastInFirstOut
        by "store::pending_events_come_first_in_first_out";
    a_limit_that_is_ignored: TheLimitIsIgnored
        by "store::pending_events_come_first_in_first_out";
    a_limit_that_is_one_too_many: TheLimitIsOneTooMany
        by "store::pending_events_come_first_in_first_out";
    a_fetch_that_takes_what_it_returns: AFetchTakesWhatItReturns
        by "store::get_pending_changes_nothing";
    undecodable_rows_that_are_an_error: UndecodableRowsAreAnError
        by "store::an_undecodable_row_is_never_returned_and_blocks_nothing";
    undecodable_rows_that_are_dropped: UndecodableRowsAreDropped
        by "dead_letter::an_undecodable_row_is_shown_with_its_raw_content",
            "claim::an_undecodable_row_is_never_leased";

    an_acknowledge_that_does_nothing: AcknowledgeDoesNothing
        by "store::an_acknowledged_event_is_no_longer_pending";
    an_acknowledge_that_moves_the_delivery_time: AcknowledgeMovesTheDeliveryTime
        by "store::acknowledging_again_does_not_move_the_delivery_time";
    an_acknowledge_that_refuses_unknown_ids: AcknowledgeRefusesUnknownIds
        by "store::acknowledging_an_unknown_id_is_no_error";
    an_acknowledge_that_takes_all_before: AcknowledgeTakesAllBefore
        by "store::events_are_acknowledged_in_any_order_and_subset";
    a_batch_acknowledge_that_forgets_one: ABatchAcknowledgeForgetsOne
        by "store::events_are_acknowledged_in_any_order_and_subset";
    a_batch_acknowledge_that_leaves_the_leases: ABatchAcknowledgeLeavesTheLeases
        by "claim::a_batch_of_acknowledgements_ends_leases_and_frees_keys";
    a_batch_acknowledge_that_leaves_the_retries: ABatchAcknowledgeLeavesTheRetries
        by "claim::a_batch_of_acknowledgements_ends_leases_and_frees_keys";
    an_acknowledge_that_touches_the_dead: AcknowledgeTouchesTheDead
        by "store::acknowledging_leaves_a_dead_event_alone",
            "dead_letter::an_acknowledgement_does_not_touch_a_dead_event";

    a_purge_that_takes_pending_events: PurgeTakesPending
        by "store::purge_touches_only_what_is_delivered";
    a_purge_that_takes_the_dead: PurgeTakesTheDead
        by "store::purge_touches_only_what_is_delivered", "dead_letter::a_purge_does_not_touch_a_dead_event";
    a_purge_that_ignores_the_age: PurgeIgnoresTheAge
        by "store::purge_deletes_by_the_age_of_the_delivery";
    a_purge_by_the_event_s_own_time: PurgeGoesByTheEventsOwnTime
        by "store::purge_does_not_look_at_the_event_s_own_time";
    a_purge_that_miscounts: PurgeMiscounts
        by "store::a_purge_of_many_takes_them_all";
    ages_that_are_cut_to_seconds: AgesAreCutToSeconds
        by "store::an_age_of_a_fraction_of_a_second_counts";

    a_claim_that_ignores_its_limit: AClaimIgnoresItsLimit
        by "claim::a_claim_leases_the_oldest_up_to_its_limit";
    a_claim_that_ignores_its_types: AClaimIgnoresItsTypes
        by "claim::a_claim_takes_only_the_types_it_asks_for";
    a_claim_that_takes_the_newest: AClaimTakesTheNewest
        by "claim::a_claim_leases_the_oldest_up_to_its_limit";
    claims_by_the_application_s_clock: ClaimsGoByTheApplicationClock
        by "claim::claims_do_not_rest_on_the_application_s_clock";
    claims_by_id: ClaimsGoById
        by "claim::claims_do_not_rest_on_the_application_s_clock";
    claims_that_skip_late_commits: ClaimsSkipLateCommits
        by "claim_concurrent::claims_do_not_skip_an_event_that_commits_late";
    claims_that_wait_for_open_sessions: ClaimsWaitForOpenSessions
        by "claim_concurrent::a_long_transaction_delays_no_claim_of_others";
    claims_that_overlap: ClaimsOverlap
        by "claim::claims_at_the_same_time_are_disjoint";
    a_handle_that_heeds_its_own_leases_only: AHandleHeedsItsOwnLeasesOnly
        by "claim_peer::what_one_process_has_leased_no_other_is_given",
            "claim_peer::claims_of_several_processes_at_the_same_time_are_disjoint",
            "claim_peer::a_history_of_several_processes_keeps_the_order_of_each_key";
    a_lease_that_is_of_its_handle: ALeaseIsOfItsHandle
        by "claim_peer::a_lease_is_renewed_and_settled_through_any_handle";
    an_event_that_has_become_due_and_is_overtaken: WhatHasBecomeDueIsOvertaken
        by "claim_peer::what_has_become_due_comes_first_whoever_looks";
    leased_events_that_are_pending: LeasedEventsArePending
        by "claim::a_leased_event_is_neither_pending_nor_claimed";
    leases_that_never_run_out: LeasesNeverRunOut
        by "claim::a_lease_lasts_as_long_as_it_was_asked_for";
    a_lease_that_holds_beyond_its_end: ALeaseHoldsBeyondItsEnd
        by "claim::a_lease_is_over_when_its_time_is";
    keys_that_claims_of_some_types_ignore: AClaimOfSomeTypesIgnoresKeys
        by "claim::a_claim_of_some_types_waits_for_busy_keys";
    claims_of_some_types_that_take_all_of_a_key_that_has_waited: AClaimOfSomeTypesTakesAllOfAKeyThatHasWaited
        by "claim::a_claim_of_some_types_takes_no_other_of_a_key_that_has_waited";
    claims_of_no_type_that_take_every_type: NoTypeIsEveryType
        by "claim::a_claim_takes_only_the_types_it_asks_for";
    claims_that_ignore_the_case_of_their_types: AClaimIgnoresTheCaseOfItsTypes
        by "claim::a_claim_takes_only_the_types_it_asks_for";
    a_lease_for_ever_that_is_none: ALeaseForEverIsNone
        by "claim::a_lease_lasts_as_long_as_it_was_asked_for";
    a_renewal_for_ever_that_is_none: ARenewalForEverIsNone
        by "claim::a_lease_may_be_renewed_for_ever_or_be_of_no_time";
    a_lease_of_no_time_that_never_ends: ALeaseOfNoTimeNeverEnds
        by "claim::a_lease_may_be_renewed_for_ever_or_be_of_no_time";
    leases_that_are_cut_to_seconds: LeasesAreCutToSeconds
        by "claim::fractions_of_a_second_count";
    renewals_that_are_cut_to_seconds: RenewalsAreCutToSeconds
        by "claim::fractions_of_a_second_count";
    delays_that_are_cut_to_seconds: DelaysAreCutToSeconds
        by "claim::fractions_of_a_second_count";
    a_retry_for_ever_that_is_due_at_once: ARetryForEverIsDueAtOnce
        by "claim::a_retry_comes_when_it_is_due_and_not_before";
    a_retried_event_that_forgets_when_it_was_hidden: ARetriedEventForgetsWhenItWasHidden
        by "claim::a_hidden_event_is_not_claimed";
    attempts_of_a_dead_letter_that_are_all_failures: EveryAttemptIsAFailure
        by "claim::failures_are_kept_with_their_times_and_the_last_error";
    a_page_of_none_that_has_one: APageOfNoneHasOne
        by "dead_letter::dead_letters_come_oldest_first_in_pages";
    ownership_by_worker_name_without_a_fence: OwnershipWithoutAFence
        by "claim::a_lease_that_ran_out_has_no_effect";
    a_late_settlement_that_takes: ALateSettlementTakes
        by "claim::a_lease_that_ran_out_has_no_effect";
    renewing_that_brings_a_lost_lease_back: RenewingBringsALostLeaseBack
        by "claim::a_lease_that_ran_out_has_no_effect";
    renewing_that_does_nothing: RenewingDoesNothing
        by "claim::a_renewed_lease_lasts_from_then_on";
    settlements_at_the_same_time_that_undo_one_another: SettlementsAtTheSameTimeUndoOneAnother
        by "claim::calls_at_the_same_time_for_one_claim_undo_nothing_of_one_another";
    a_renewal_beside_a_settlement_that_is_undone: ARenewalBesideASettlementIsUndone
        by "claim::calls_at_the_same_time_for_one_claim_undo_nothing_of_one_another";
    renewing_that_makes_no_lease_shorter: RenewingMakesNoLeaseShorter
        by "claim::a_lease_that_was_renewed_for_less_is_over_sooner";
    a_second_event_handed_out_while_the_first_is_in_flight: KeysAreIgnored
        by "claim::a_key_waits_while_one_of_its_events_is_leased",
            "claim::a_history_of_many_workers_keeps_the_order_of_each_key";
    events_of_sessions_that_have_no_key: EventsOfSessionsHaveNoKey
        by "claim::a_key_waits_for_an_event_that_was_saved_in_a_session";
    hidden_events_that_have_no_key: HiddenEventsHaveNoKey
        by "claim::a_hidden_event_waits_for_its_key";
    an_empty_key_that_is_none: AnEmptyKeyIsNone
        by "claim::an_empty_key_is_a_key";
    partition_keys_that_fold_case: PartitionKeysFoldCase
        by "claim::partition_keys_are_compared_exactly";
    partition_keys_that_are_cut_off: PartitionKeysAreCutOff
        by "claim::partition_keys_are_compared_exactly";
    a_resource_id_that_is_another_key: AResourceIdIsAnotherKey
        by "claim::the_resource_id_is_the_key_where_there_is_no_other";
    a_waiting_key_that_holds_up_all: AWaitingKeyHoldsUpAll
        by "claim::a_key_waits_while_one_of_its_events_waits_for_a_retry";
    a_forgotten_settlement_that_is_reported_as_taken: ASettlementThatIsForgottenIsReported
        by "claim::one_call_settles_many_of_every_outcome";
    a_failure_report_that_resurrects_a_delivered_event: AcknowledgeLeavesTheLease
        by "claim::a_late_failure_does_not_resurrect_a_delivered_event";
    attempts_kept_in_memory: AttemptsAreKeptInMemory
        by "claim::attempts_and_failures_are_counted_in_the_store";
    attempts_kept_by_the_handle: AttemptsAreKeptByTheHandle
        by "claim_durable::what_claims_have_written_survives_closing_and_opening";
    duplicates_known_by_the_handle: DuplicatesAreKnownByTheHandle
        by "claim_durable::what_is_known_of_events_survives_closing_and_opening";
    holds_kept_by_the_handle: HoldsAreKeptByTheHandle
        by "claim_durable::what_claims_have_written_survives_closing_and_opening";
    releasing_that_costs_an_attempt: ReleasingCostsAnAttempt
        by "claim::a_released_event_costs_no_attempt";
    retries_that_do_not_wait: RetriesDoNotWait
        by "claim::a_retry_comes_when_it_is_due_and_not_before";
    dead_letters_that_are_tried_again: DeadLettersAreTriedAgain
        by "claim::a_dead_event_is_claimed_by_nobody_and_blocks_nobody";
    a_dead_letter_that_blocks_its_key: ADeadLetterBlocksItsKey
        by "claim::a_dead_event_is_claimed_by_nobody_and_blocks_nobody";
    held_keys_that_are_handed_out: HeldKeysAreHandedOut
        by "claim::a_held_key_waits_and_no_other_does";
    holds_that_are_not_told: HoldsAreNotTold
        by "claim::a_dead_letter_says_whether_it_holds_its_key";
    a_hold_that_holds_up_all: AHoldHoldsUpAll
        by "claim::a_held_key_waits_and_no_other_does", "claim::many_held_keys_hold_up_no_other";
    a_hold_that_ends_in_time: AHoldEndsInTime
        by "claim::a_held_key_waits_and_no_other_does";
    an_acknowledge_that_ends_the_hold: AnAcknowledgeEndsTheHold
        by "claim::a_held_key_waits_and_no_other_does";
    a_requeued_event_that_comes_last: ARequeuedEventComesLast
        by "claim::a_requeued_event_comes_before_what_waited_for_it";
    a_requeue_that_ends_all_holds: OneRequeueEndsAllHolds
        by "claim::a_key_is_free_when_the_last_that_holds_it_is_gone";
    a_discard_that_does_not_end_the_hold: ADiscardDoesNotEndTheHold
        by "claim::a_discard_ends_the_hold";
    an_error_that_gets_lost: TheErrorGetsLost
        by "claim::failures_are_kept_with_their_times_and_the_last_error";
    a_long_error_that_is_cut_short: ALongErrorIsCutShort
        by "claim::a_long_error_is_kept_from_its_beginning";
    failures_of_one_call_that_share_an_error: FailuresOfOneCallShareAnError
        by "claim::each_of_many_failures_keeps_its_own_error_and_time";
    the_last_of_two_settlements_that_counts: TheLastOfTwoSettlementsCounts
        by "claim::each_settlement_has_its_own_answer";
    undecodable_rows_that_are_leased_again_and_again: UndecodableRowsAreLeased
        by "claim::an_undecodable_row_is_never_leased";

    what_a_claim_leaves_of_waiting_keys_and_is_forgotten: WhatAClaimLeavesOfWaitingKeysIsForgotten
        by "claim::what_a_claim_leaves_of_keys_that_have_waited_comes_next";
    a_claim_that_gives_up_after_many_that_wait: AClaimGivesUpAfterManyThatWait
        by "claim::one_claim_finds_what_comes_after_many_that_wait";
    a_claim_of_some_types_that_gives_up_after_many_of_others: AClaimOfSomeTypesGivesUpAfterManyOfOthers
        by "claim::a_claim_of_some_types_finds_its_own_after_many_keys_that_have_none";

    a_raw_content_that_gets_lost: TheRawContentGetsLost
        by "dead_letter::an_undecodable_row_is_shown_with_its_raw_content";
    rows_without_an_id_that_share_one: RowsWithoutAnIdShareOne
        by "dead_letter::whatever_is_wrong_with_a_row_it_is_set_aside_by_itself";
    a_large_row_that_is_an_error: ALargeRowIsAnError
        by "dead_letter::whatever_is_wrong_with_a_row_it_is_set_aside_by_itself";
    times_of_a_filter_that_are_cut_to_milliseconds: TheTimesOfAFilterAreCutToMilliseconds
        by "dead_letter::dead_letters_are_filtered_by_type_and_time";
    a_last_page_that_promises_another: ALastPagePromisesAnother
        by "dead_letter::dead_letters_come_oldest_first_in_pages";
    a_requeue_of_all_that_takes_some: OnlySomeAreRequeued
        by "claim::many_dead_events_are_requeued_and_discarded";
    a_discard_of_all_that_takes_some: OnlySomeAreDiscarded
        by "claim::many_dead_events_are_requeued_and_discarded";

    a_page_that_is_cut_before_it_is_filtered: APageIsCutBeforeItIsFiltered
        by "claim::pages_requeues_and_discards_heed_the_whole_filter";
    a_requeue_of_all_that_ignores_the_times: ARequeueOfAllIgnoresTheTimes
        by "claim::pages_requeues_and_discards_heed_the_whole_filter";
    a_discard_of_all_that_ignores_the_times: ADiscardOfAllIgnoresTheTimes
        by "claim::pages_requeues_and_discards_heed_the_whole_filter";
    a_page_that_begins_after_so_many: APageBeginsAfterSoMany
        by "dead_letter::a_page_comes_after_the_last_though_what_was_read_is_discarded";
    times_of_a_filter_that_are_cut_off: TheTimesOfAFilterAreCutOff
        by "claim::pages_requeues_and_discards_heed_the_whole_filter";
    a_filter_that_ignores_the_case_of_its_type: AFilterIgnoresTheCaseOfItsType
        by "claim::a_filter_takes_its_type_exactly";
    a_filter_that_takes_its_type_for_a_pattern: AFilterTakesItsTypeForAPattern
        by "claim::a_filter_takes_its_type_exactly";
    a_page_of_all_that_overflows: APageOfAllOverflows
        by "claim::a_filter_takes_its_type_exactly";
    dead_letters_that_forget_headers: DeadLettersForgetHeaders
        by "claim::a_dead_event_is_as_it_was_saved";
    a_requeue_that_forgets_unknown_meta_fields: ARequeueForgetsUnknownMetaFields
        by "claim::a_dead_event_is_as_it_was_saved";
    an_id_of_a_dead_event_that_is_free: TheIdOfADeadEventIsFree
        by "claim::the_id_and_the_idempotency_key_are_taken_in_every_state",
            "dead_letter::the_id_of_a_dead_event_is_taken";
    a_requeue_that_frees_the_idempotency_key: ARequeueFreesTheIdempotencyKey
        by "claim::the_id_and_the_idempotency_key_are_taken_in_every_state";

    delivered_events_that_are_not_kept: DeliveredEventsAreNotKept
        by "store::the_retention_says_what_stays_of_a_delivered_event";
    delivered_events_that_are_not_deleted: DeliveredEventsAreNotDeleted
        by "store::the_retention_says_what_stays_of_a_delivered_event",
            "claim::a_delivered_settlement_is_an_acknowledgement";

    a_migration_that_empties_the_outbox: MigratingAgainEmptiesTheOutbox
        by "schema::migrating_again_loses_nothing";
    a_migration_that_only_one_may_run: OnlyOneMayMigrate
        by "schema::many_may_migrate_at_once", "inbox_names::many_may_migrate_an_inbox_at_once";
    an_engine_that_is_not_fit_and_is_migrated: WhatIsNotFitIsMigrated
        by "schema::what_is_not_fit_is_refused_with_the_reason";
    a_verify_that_says_that_all_is_well: VerifySaysThatAllIsWell
        by "schema::verify_says_what_is_missing";
    a_verify_that_migrates: VerifyMigrates
        by "schema::verify_says_what_is_missing",
            "expiry::the_engine_is_told_what_the_owner_said_last";
    names_that_are_one_outbox: AllNamesAreOneOutbox
        by "schema::outboxes_of_different_names_are_apart",
            "claim_schema::claims_of_different_outboxes_are_apart",
            "names::any_name_that_there_is_room_for_is_that_of_an_outbox";
    settlements_that_reach_other_outboxes: SettlementsReachOtherOutboxes
        by "claim_schema::claims_of_different_outboxes_are_apart";
    acknowledgements_that_reach_other_outboxes: AcknowledgementsReachOtherOutboxes
        by "claim_names::what_is_done_in_one_outbox_leaves_others_alone";
    purges_that_reach_other_outboxes: PurgesReachOtherOutboxes
        by "claim_names::what_is_done_in_one_outbox_leaves_others_alone";
    requeues_that_reach_other_outboxes: RequeuesReachOtherOutboxes
        by "claim_names::what_is_done_in_one_outbox_leaves_others_alone";
    discards_that_reach_other_outboxes: DiscardsReachOtherOutboxes
        by "claim_names::what_is_done_in_one_outbox_leaves_others_alone";
    long_names_that_are_cut_off: LongNamesAreCutOff
        by "schema::outboxes_of_long_and_unusual_names_are_apart",
            "names::any_name_that_there_is_room_for_is_that_of_an_outbox",
            "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    an_error_of_the_driver_that_gets_lost: TheErrorOfTheDriverGetsLost
        by "schema::an_error_of_the_driver_is_the_source",
            "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox",
            "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_missing_table_that_commits: AMissingTableCommits
        by "schema::an_error_of_the_driver_is_the_source";

    any_name_that_is_taken: AnyNameIsTaken
        by "names::a_name_that_there_is_no_room_for_is_refused",
            "inbox_names::a_name_that_there_is_no_room_for_is_no_inbox";
    empty_names_that_alone_are_refused: OnlyEmptyNamesAreRefused
        by "names::a_name_that_there_is_no_room_for_is_refused",
            "inbox_names::a_name_that_there_is_no_room_for_is_no_inbox";
    names_that_are_counted_in_bytes: NamesAreCountedInBytes
        by "names::a_name_that_there_is_no_room_for_is_refused",
            "inbox_names::a_name_that_there_is_no_room_for_is_no_inbox";
    a_refusal_that_does_not_say_the_name: ARefusalDoesNotSayTheName
        by "names::a_name_that_there_is_no_room_for_is_refused",
            "inbox_names::a_name_that_there_is_no_room_for_is_no_inbox";
    names_that_are_trimmed: NamesAreTrimmed
        by "names::any_name_that_there_is_room_for_is_that_of_an_outbox",
            "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    names_that_are_one_inbox: AllNamesAreOneInbox
        by "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    another_name_that_loses_the_retention: AnotherNameLosesTheRetention
        by "names::any_name_that_there_is_room_for_is_that_of_an_outbox";
    another_name_that_is_not_said: AnotherNameIsNotSaid
        by "names::any_name_that_there_is_room_for_is_that_of_an_outbox",
            "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    what_is_spoilt_and_is_not_said: WhatIsSpoiltIsNotSaid
        by "names::what_cannot_be_put_right_is_said";
    something_else_that_is_taken_over: SomethingElseIsTakenOver
        by "names::what_is_something_else_is_left_alone", "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    something_else_that_is_written_to: SomethingElseIsWrittenTo
        by "names::what_is_something_else_is_left_alone", "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    a_refused_migration_that_empties_what_is_there: ARefusedMigrationEmptiesWhatIsThere
        by "names::what_is_something_else_is_left_alone";
    what_is_in_the_way_that_is_not_said: WhatIsInTheWayIsNotSaid
        by "names::what_is_something_else_is_left_alone", "names::a_part_of_an_outbox_is_no_other",
            "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    an_inbox_that_is_made_of_an_outbox: AnInboxIsMadeOfAnOutbox
        by "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    an_outbox_that_is_made_of_an_inbox: AnOutboxIsMadeOfAnInbox
        by "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    an_outbox_that_is_made_a_part_of_another: AnOutboxIsMadeAPartOfAnother
        by "names::a_part_of_an_outbox_is_no_other";
    a_part_of_an_outbox_that_is_made_another: APartOfAnOutboxIsMadeAnother
        by "names::a_part_of_an_outbox_is_no_other";
    half_an_outbox_that_is_made: HalfAnOutboxIsMade
        by "names::what_is_something_else_is_left_alone", "names::a_part_of_an_outbox_is_no_other",
            "inbox_names::an_inbox_and_what_is_none_are_told_apart";
    a_migration_that_forgets_the_marks: MigratingAgainForgetsTheMarks
        by "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    putting_back_that_loses_the_rest: PuttingBackLosesTheRest
        by "names::a_part_that_is_missing_is_named", "inbox_names::a_part_of_an_inbox_that_is_missing_is_named";
    a_verify_that_takes_names_for_patterns: VerifyTakesNamesForPatterns
        by "names::any_name_that_there_is_room_for_is_that_of_an_outbox",
            "inbox_names::any_name_that_there_is_room_for_is_that_of_an_inbox";
    a_verify_that_asks_only_whether_the_name_is_taken: VerifyAsksOnlyWhetherTheNameIsTaken
        by "names::what_is_something_else_is_left_alone", "names::a_part_of_an_outbox_is_no_other",
            "names::a_part_that_is_missing_is_named", "inbox_names::an_inbox_and_what_is_none_are_told_apart",
            "inbox_names::a_part_of_an_inbox_that_is_missing_is_named";
    a_verify_that_names_one_part_only: VerifyNamesOnePartOnly
        by "names::a_part_that_is_missing_is_named";
    a_verify_that_forgets_indexes: VerifyForgetsIndexes
        by "names::a_part_that_is_missing_is_named", "inbox_names::a_part_of_an_inbox_that_is_missing_is_named";
    a_verify_that_does_not_say_what_to_do: VerifyDoesNotSayWhatToDo
        by "names::a_part_that_is_missing_is_named", "names::a_newer_schema_is_left_alone",
            "inbox_names::a_part_of_an_inbox_that_is_missing_is_named";
    a_verify_that_puts_back_what_is_missing: VerifyPutsBackWhatIsMissing
        by "names::a_part_that_is_missing_is_named", "inbox_names::a_part_of_an_inbox_that_is_missing_is_named",
            "expiry::the_engine_is_told_what_the_owner_said_last";
    a_verify_that_knows_no_newer_version: VerifyKnowsNoNewerVersion
        by "names::a_newer_schema_is_left_alone";
    a_newer_schema_that_is_migrated: ANewerSchemaIsMigrated
        by "names::a_newer_schema_is_left_alone";
    a_newer_schema_that_is_made_old: ANewerSchemaIsMadeOld
        by "names::a_newer_schema_is_left_alone";

    what_was_made_by_hand_and_is_missing: WhatWasMadeByHandIsMissing
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    what_was_made_by_hand_and_is_not_migrated: AMigrationRefusesWhatWasMadeByHand
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    plain_sql_that_is_empty: ThePlainSqlIsEmpty
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    plain_sql_that_makes_another_name: ThePlainSqlMakesAnotherName
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    plain_sql_that_forgets_a_part: ThePlainSqlForgetsAPart
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    plain_sql_that_starts_anew: ThePlainSqlStartsAnew
        by "migration::an_outbox_that_is_made_by_hand_is_one",
            "inbox_migration::an_inbox_that_is_made_by_hand_is_one";
    plain_sql_of_an_inbox_that_makes_an_outbox: ThePlainSqlOfAnInboxMakesAnOutbox
        by "inbox_migration::an_inbox_that_is_made_by_hand_is_one";

    pending_events_that_expire: PendingEventsExpire
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    hidden_events_that_expire: HiddenEventsExpire
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    leased_events_that_expire: LeasedEventsExpire
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    dead_letters_that_expire: DeadLettersExpire
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    delivered_events_that_never_expire: DeliveredEventsNeverExpire
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    an_expiry_that_ignores_the_age: ExpiryIgnoresTheAge
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    an_expiry_by_the_event_s_own_time: ExpiryGoesByTheEventsOwnTime
        by "expiry::the_engine_deletes_what_was_delivered_long_enough_ago";
    marks_that_never_expire: MarksNeverExpire
        by "expiry::the_engine_deletes_marks_that_are_old_enough";
    marks_that_all_expire: AllMarksExpire
        by "expiry::the_engine_deletes_marks_that_are_old_enough";
    marks_that_expire_as_events_do: MarksExpireAsEventsDo
        by "expiry::the_engine_deletes_marks_that_are_old_enough";
    what_was_told_first_that_stays: WhatWasToldFirstStays
        by "expiry::the_engine_is_told_what_the_owner_said_last", "expiry::many_may_tell_the_engine_at_once";
    no_time_to_live_that_is_not_told: NoTimeToLiveIsNotTold
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    fractions_of_seconds_that_are_cut_off: FractionsOfSecondsAreCutOff
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    a_long_time_to_live_that_overflows: ALongTimeToLiveOverflows
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    a_time_to_live_that_is_told_without_a_migration: ATimeToLiveIsToldWithoutAMigration
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    an_outbox_and_an_inbox_that_are_told_the_same: OutboxAndInboxAreToldTheSame
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    another_time_to_live_that_empties_the_outbox: AnotherTimeToLiveEmptiesTheOutbox
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    another_time_to_live_that_stops_the_store: AnotherTimeToLiveStopsTheStore
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    a_verify_that_does_not_ask_what_was_told: VerifyDoesNotAskWhatWasTold
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    a_verify_that_forgets_what_is_no_longer_wanted: VerifyForgetsWhatIsNoLongerWanted
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    a_verify_that_does_not_round: VerifyDoesNotRound
        by "expiry::the_engine_is_told_what_the_owner_said_last";
    another_name_that_loses_the_time_to_live: AnotherNameLosesTheTimeToLive
        by "expiry::another_name_keeps_the_time_to_live";

    what_is_written_elsewhere_set_aside: WhatIsWrittenElsewhereIsSetAside
        by "elsewhere::what_is_written_elsewhere_is_an_event_like_any_other";
    one_key_for_all_that_is_written_elsewhere: WhatIsWrittenElsewhereHasOneKey
        by "elsewhere::what_is_written_elsewhere_is_claimed_and_settled";
    counts_filled_in_elsewhere_that_are_forgotten: WhatIsFilledInElsewhereIsNotCounted
        by "elsewhere::what_is_filled_in_elsewhere_is_claimed_and_settled";
    what_is_filled_in_elsewhere_and_never_delivered: WhatIsFilledInElsewhereIsNeverDelivered
        by "elsewhere::what_is_filled_in_elsewhere_is_claimed_and_settled";
    what_is_filled_in_elsewhere_and_never_fails: WhatIsFilledInElsewhereNeverFails
        by "elsewhere::what_is_filled_in_elsewhere_is_claimed_and_settled";
    some_alone_of_what_is_written_elsewhere: OnlySomeThatAreWrittenElsewhereAreFound
        by "elsewhere::many_that_are_written_elsewhere_are_claimed_and_die_page_by_page";
    floats_for_numbers_that_are_written_elsewhere: NumbersThatAreWrittenElsewhereAreFloats
        by "elsewhere::numbers_that_are_written_elsewhere_are_those_that_were_meant";
    kinds_that_are_written_elsewhere_and_are_null: KindsThatAreWrittenElsewhereAreNull
        by "elsewhere::kinds_that_are_written_elsewhere_are_read_as_their_json";
    what_is_written_elsewhere_without_an_age: WhatIsWrittenElsewhereHasNoAge
        by "elsewhere::what_is_written_elsewhere_has_an_age";
    what_is_delivered_elsewhere_and_pending: WhatIsDeliveredElsewhereIsPending
        by "elsewhere::what_is_delivered_elsewhere_is_delivered";
    what_has_no_meta_elsewhere: WhatIsSavedHasNoMetaElsewhere
        by "elsewhere::what_is_saved_is_read_elsewhere";
    what_dies_elsewhere_and_is_not_listed: WhatDiesElsewhereIsNotListed
        by "elsewhere::what_dies_elsewhere_is_a_dead_letter_like_any_other",
            "elsewhere::what_dies_elsewhere_is_found_page_by_page";
    what_dies_elsewhere_at_another_time: WhatDiesElsewhereHasAnotherTime
        by "elsewhere::what_dies_elsewhere_is_a_dead_letter_like_any_other";
    what_dies_elsewhere_without_a_time_and_is_old: WhatDiesElsewhereWithoutATimeDiedLongAgo
        by "elsewhere::what_dies_elsewhere_is_a_dead_letter_like_any_other",
            "elsewhere::what_dies_elsewhere_is_found_page_by_page";
    what_dies_elsewhere_on_longer_pages: WhatDiesElsewhereMakesPagesLonger
        by "elsewhere::what_dies_elsewhere_is_found_page_by_page";
    what_dies_elsewhere_and_is_not_requeued: WhatDiesElsewhereIsLeftByARequeueOfAll
        by "elsewhere::what_dies_elsewhere_is_requeued_and_discarded_with_others";
    what_dies_elsewhere_and_is_not_discarded: WhatDiesElsewhereIsLeftByADiscardOfAll
        by "elsewhere::what_dies_elsewhere_is_requeued_and_discarded_with_others";
    a_loss_that_is_not_told: ALossIsNotTold
        by "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    a_loss_that_is_overlooked: ALossIsOverlooked
        by "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    a_loss_without_a_name: ALossHasNoName
        by "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    a_loss_that_does_not_say_what_to_do: ALossDoesNotSayWhatToDo
        by "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    a_loss_that_is_not_put_back: ALossIsNotPutBack
        by "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    holds_that_are_lost: PuttingBackForgetsWhatIsHeld
        by "loss::what_is_held_alone_is_not_overtaken",
            "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    what_waits_and_is_lost: PuttingBackForgetsWhatWaits
        by "loss::what_waits_alone_is_not_lost",
            "loss::what_is_lost_is_told_of_and_no_event_is_lost_with_it";
    a_refused_event_that_is_a_duplicate: ARefusedEventIsADuplicate
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_refused_event_of_a_batch_that_is_a_duplicate: ARefusedEventOfABatchIsADuplicate
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_refused_event_of_a_batch_in_a_session_that_is_a_duplicate: ARefusedEventOfABatchInASessionIsADuplicate
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_refused_event_beside_a_duplicate_that_is_one_too: ARefusedEventBesideADuplicateIsOneToo
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored";
    a_long_batch_that_is_stored_in_parts: ALongBatchIsStoredInParts
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored";
    a_refused_batch_that_is_left_open: ARefusedBatchIsLeftOpen
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored";
    a_refused_batch_that_stays_in_its_session: ARefusedBatchStaysInItsSession
        by "refusal::nothing_of_a_refused_batch_is_left_in_its_session";
    a_refused_event_that_is_a_conflict: ARefusedEventIsAConflict
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_refused_event_that_is_of_the_schema: ARefusedEventIsOfTheSchema
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_refused_event_that_asks_for_a_migration: ARefusedEventAsksForAMigration
        by "refusal::what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored",
            "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_unique_index_that_is_always_that_of_the_outbox: AnyUniqueIndexIsThatOfTheOutbox
        by "refusal::another_duplicate_is_an_error_and_not_an_outcome";
    a_unique_index_that_is_known_by_the_end_of_its_name: AUniqueIndexIsKnownByTheEndOfItsName
        by "refusal::another_duplicate_is_an_error_and_not_an_outcome";

    a_deadlock_of_no_kind: ADeadlockIsOfNoKind
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing",
            "fault::a_fault_that_stays_is_an_error_and_nothing_is_done",
            "claim_fault::a_claim_that_meets_a_fault_takes_nothing_away",
            "claim_fault::what_is_leased_outlives_a_fault", "claim_fault::dead_letters_outlive_a_fault",
            "inbox_fault::a_mark_that_meets_a_fault_is_none",
            "inbox_fault::a_purge_of_marks_tries_again_or_is_an_error";
    a_fault_that_is_known_by_the_first_of_its_kind_only: OnlyTheFirstOfItsKindIsKnown
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing",
            "inbox_fault::a_mark_that_meets_a_fault_is_none";
    a_shutdown_that_is_a_conflict: AShutdownIsAConflict
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing",
            "fault::a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all";
    a_full_disk_that_is_waited_for: AFullDiskIsWaitedFor
        by "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    an_error_of_the_engine_that_gets_lost: TheErrorOfTheEngineGetsLost
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing",
            "fault::a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all",
            "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    a_fault_in_a_session_that_is_tried_again: AFaultInASessionIsTriedAgain
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing";
    a_fault_that_commits_the_session: AFaultCommitsTheSession
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing";
    a_handle_that_has_failed_and_fails_for_ever: AHandleThatHasFailedFailsForEver
        by "fault::a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing",
            "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    a_handle_that_is_worn_out_by_faults: AHandleIsWornOutByFaults
        by "claim_fault::a_claim_that_meets_a_fault_takes_nothing_away";
    a_save_that_failed_and_is_reported: ASaveThatFailedIsReported
        by "fault::a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all";
    a_save_that_failed_and_is_stored: ASaveThatFailedIsStored
        by "fault::a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all",
            "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    a_save_that_failed_and_is_stored_in_part: ASaveThatFailedIsStoredInPart
        by "fault::a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all",
            "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    conflicts_that_are_not_tried_again: ConflictsAreNotTriedAgain
        by "fault::a_conflict_that_passes_is_tried_again",
            "claim_fault::a_conflict_of_claims_that_passes_is_tried_again",
            "inbox_fault::a_purge_of_marks_tries_again_or_is_an_error";
    conflicts_that_are_tried_again_for_ever: ConflictsAreTriedAgainForEver
        by "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    whatever_fails_and_is_tried_again: WhateverFailsIsTriedAgain
        by "fault::a_fault_that_no_other_try_helps_is_said_at_once",
            "claim_fault::a_fault_of_claims_that_no_other_try_helps_is_said_at_once";
    what_nobody_knows_and_is_not_asked_for_again: WhatNobodyKnowsIsNotAskedForAgain
        by "claim_fault::what_nobody_knows_is_asked_for_again";
    an_acknowledgement_that_failed_and_is_reported: AnAcknowledgementThatFailedIsReported
        by "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    an_acknowledgement_that_failed_and_is_done_in_part: AnAcknowledgementThatFailedIsDoneInPart
        by "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    a_purge_that_failed_and_is_reported: APurgeThatFailedIsReported
        by "fault::a_fault_that_stays_is_an_error_and_nothing_is_done";
    a_claim_that_failed_and_keeps_its_events: AClaimThatFailedKeepsItsEvents
        by "claim_fault::a_claim_that_meets_a_fault_takes_nothing_away";
    a_renewal_that_failed_and_ends_the_lease: ARenewalThatFailedEndsTheLease
        by "claim_fault::what_is_leased_outlives_a_fault";
    a_settlement_that_failed_and_takes_in_part: ASettlementThatFailedTakesInPart
        by "claim_fault::what_is_leased_outlives_a_fault";
    a_requeue_that_failed_and_is_done: ARequeueThatFailedIsDone
        by "claim_fault::dead_letters_outlive_a_fault";
    a_discard_that_failed_and_is_reported: ADiscardThatFailedIsReported
        by "claim_fault::dead_letters_outlive_a_fault";
    a_mark_that_failed_and_is_a_duplicate: AMarkThatFailedIsADuplicate
        by "inbox_fault::a_mark_that_meets_a_fault_is_none";
    a_mark_that_failed_and_is_there: AMarkThatFailedIsThere
        by "inbox_fault::a_mark_that_meets_a_fault_is_none";
    a_purge_of_marks_that_failed_and_is_done: APurgeOfMarksThatFailedIsDone
        by "inbox_fault::a_purge_of_marks_tries_again_or_is_an_error";

    leased_events_that_are_counted_as_pending: LeasedEventsAreCountedAsPending
        by "stats::it_counts_events_by_their_state";
    open_sessions_that_are_counted: OpenSessionsAreCounted
        by "stats::what_is_not_committed_is_not_counted";
    hidden_events_that_are_not_counted: HiddenEventsAreNotCounted
        by "stats::it_counts_events_by_their_state";
    an_oldest_by_the_event_s_own_time: TheOldestIsThatOfTheEventsOwnTime
        by "stats::it_says_how_long_the_oldest_waits";
    an_oldest_that_is_delivered: TheOldestMayBeDelivered
        by "stats::it_says_how_long_the_oldest_waits";
    an_oldest_due_event_that_is_hidden: TheOldestDueMayBeHidden
        by "stats::it_says_how_long_the_oldest_has_been_due";
    leased_events_that_are_not_due: WhatIsLeasedIsNotDue
        by "stats::it_says_how_long_the_oldest_has_been_due";
    events_behind_a_retry_that_are_due: WhatIsBehindARetryIsDue
        by "stats::it_says_how_long_the_oldest_has_been_due";
    a_requeued_event_that_is_due_since_then: WhatIsRequeuedIsDueSinceThen
        by "stats::a_requeued_event_has_been_due_since_its_save";
    undecodable_rows_that_are_not_counted: UndecodableRowsAreNotCounted
        by "stats::it_counts_events_by_their_state";
    an_oldest_that_is_neither_hidden_nor_waiting: TheOldestMayBeNeitherHiddenNorWaiting
        by "stats::the_oldest_may_be_hidden_or_wait_for_a_retry";

    a_fetch_that_reads_all: AFetchReadsAll
        by "cost::a_fetch_reads_no_more_amid_many_events";
    a_claim_that_reads_what_is_done: AClaimReadsWhatIsDone
        by "claim_cost::a_claim_reads_no_more_amid_many_events",
            "claim_cost::a_claim_reads_no_more_after_many_keys_have_waited",
            "claim_cost::a_claim_of_some_types_reads_no_more_after_many_keys_have_waited";
    a_claim_that_steps_over_what_waits: AClaimStepsOverWhatWaits
        by "claim_cost::a_claim_reads_no_more_behind_a_busy_key",
            "claim_cost::a_claim_gets_past_very_many_events_of_a_busy_key_at_once",
            "claim_cost::a_claim_reads_no_more_beside_many_keys_that_wait",
            "claim_cost::a_claim_reads_no_more_beside_many_held_keys",
            "claim_cost::a_claim_reads_no_more_of_a_backlog_beside_a_busy_key",
            "claim_cost::a_claim_reads_no_more_of_keys_that_have_more_than_it_takes";
    a_claim_that_puts_few_aside_at_once: AClaimPutsFewAsideAtOnce
        by "claim_cost::a_claim_gets_past_very_many_events_of_a_busy_key_at_once";
    a_claim_in_vain_that_reads_all: AClaimInVainReadsAll
        by "claim_cost::a_claim_in_vain_gets_past_very_many_events_of_a_busy_key_at_once",
            "claim_cost::a_claim_reads_no_more_beside_many_keys_that_wait";
    a_settlement_that_reads_all: ASettlementReadsAll
        by "claim_cost::a_claim_reads_no_more_amid_many_events";
    a_save_that_reads_all: ASaveReadsAll
        by "cost::a_save_and_an_acknowledgement_read_no_more_amid_many_events";
    an_acknowledgement_that_reads_all: AnAcknowledgementReadsAll
        by "cost::a_save_and_an_acknowledgement_read_no_more_amid_many_events";
    a_purge_that_reads_all: APurgeReadsAll
        by "cost::a_purge_reads_no_more_than_it_deletes";

    wakeups_that_never_come: WakeupsNeverCome
        by "wake::a_save_wakes_a_listener";
    wakeups_that_come_before_the_commit: WakeupsComeBeforeTheCommit
        by "wake::a_session_wakes_when_it_commits";
    commits_of_others_that_are_not_heard: CommitsOfOthersAreNotHeard
        by "wake::a_commit_through_another_handle_wakes";
    one_listener_that_is_woken_for_all: OneListenerIsWoken
        by "wake::every_listener_is_woken";
    commits_before_the_wait_that_are_missed: CommitsBeforeTheWaitAreMissed
        by "wake::a_commit_before_the_wait_is_not_missed";
    a_dropped_wait_that_loses_the_wakeup: ADroppedWaitLosesTheWakeup
        by "wake::a_wait_that_is_dropped_loses_nothing";
    a_first_commit_that_is_the_only_one_to_wake: OnlyTheFirstCommitWakes
        by "wake::each_of_many_commits_is_noticed";
    wakeups_that_come_all_the_time: WakeupsComeAllTheTime
        by "wake::nobody_is_woken_for_nothing";
    an_open_session_that_wakes_all_the_time: AnOpenSessionWakesAllTheTime
        by "wake::a_session_wakes_nobody_all_the_time";
    a_commit_that_wakes_again_and_again: ACommitWakesAgainAndAgain
        by "wake::a_session_wakes_nobody_all_the_time";
    deliveries_that_wake: DeliveriesWake
        by "wake::deliveries_wake_nobody_all_the_time";
    a_first_runtime_that_hears_for_all: TheFirstRuntimeHearsForAll
        by "wake::a_runtime_that_ends_takes_no_wakeups_with_it";
    a_first_runtime_that_tells_for_all: TheFirstRuntimeTellsForAll
        by "wake_concurrent::a_commit_wakes_after_a_runtime_of_its_handle_has_ended";
    a_newest_event_that_alone_wakes: OnlyTheNewestWakes
        by "wake_concurrent::a_commit_wakes_after_others_that_were_saved_later";
    a_last_of_several_sessions_that_alone_wakes: OnlyTheLastOfSeveralSessionsWakes
        by "wake_concurrent::each_of_several_open_sessions_wakes_by_itself";
    a_batch_in_a_session_that_wakes_nobody: ABatchInASessionWakesNobody
        by "wake::a_session_wakes_when_it_commits";
    an_idle_process_that_alone_wakes: OnlyAnIdleProcessWakes
        by "wake_concurrent::a_commit_of_a_busy_process_wakes_others";
    a_requeue_that_does_not_wake: ARequeueDoesNotWake
        by "claim_wake::what_can_be_claimed_again_wakes";
    a_requeue_of_another_process_that_wakes_nobody: ARequeueOfAnotherProcessWakesNobody
        by "claim_wake::what_can_be_claimed_again_wakes";
    a_requeue_of_nothing_that_wakes: ARequeueOfNothingWakes
        by "claim_wake::what_finds_no_dead_letter_wakes_nobody";
    a_listener_that_dies_with_its_connection: AListenerDiesWithItsConnection
        by "wake::a_listener_survives_its_connection";
    others_that_are_heard_on_the_first_connection_only: OthersAreHeardOnTheFirstConnectionOnly
        by "wake::a_listener_survives_its_connection";

    a_batch_that_is_saved_one_by_one: ABatchIsSavedOneByOne
        by "outage::a_save_that_is_cut_off_is_made_or_not", "outage::a_batch_takes_few_round_trips";
    calls_about_nothing_that_ask_the_server: CallsAboutNothingAskTheServer
        by "outage::a_batch_of_one_or_none_takes_no_more_than_it_has_to",
            "claim_outage::a_call_about_many_leases_takes_few_round_trips";
    a_claim_in_vain_that_asks_again_and_again: AClaimInVainAsksAgainAndAgain
        by "claim_outage::a_claim_in_vain_takes_few_round_trips";
    a_claim_that_asks_again_where_nothing_is_leased: AClaimAsksAgainWhereNothingIsLeased
        by "claim_outage::a_claim_with_nothing_in_its_way_takes_no_more_round_trips";
    an_acknowledgement_that_is_a_transaction: AnAcknowledgementIsATransaction
        by "claim_outage::what_is_nearly_always_so_takes_few_round_trips";
    a_settlement_that_is_made_twice: ASettlementIsMadeTwice
        by "claim_outage::what_is_nearly_always_so_takes_few_round_trips";
    a_claim_that_hands_out_what_it_has_seen: AClaimHandsOutWhatItHasSeen
        by "claim_meeting::whatever_is_done_during_a_claim_it_keeps_the_order";
    a_settlement_that_goes_by_what_it_has_seen: ASettlementGoesByWhatItHasSeen
        by "claim_meeting::whatever_is_done_during_a_settlement_it_takes_once";
    a_renewal_that_goes_by_what_it_has_seen: ARenewalGoesByWhatItHasSeen
        by "claim_meeting::whatever_is_done_during_a_renewal_a_lease_ends_once";
    an_acknowledgement_that_goes_by_what_it_has_seen: AnAcknowledgementGoesByWhatItHasSeen
        by "claim_meeting::whatever_is_done_during_an_acknowledgement_it_counts";
    a_requeue_that_goes_by_what_it_has_seen: ARequeueGoesByWhatItHasSeen
        by "claim_meeting::whatever_is_done_during_a_requeue_it_is_done_once";
    a_claim_that_looks_again_as_often_as_another_is_quicker: AClaimLooksAgainWithoutEnd
        by "claim_meeting::a_claim_comes_to_an_end_beside_others_that_are_quicker";
    a_claim_that_loses_what_fails_meanwhile: AClaimLosesWhatFailsMeanwhile
        by "claim_meeting::what_fails_while_a_claim_looks_comes_again";
    a_claim_that_passes_over_what_commits_behind_it: AClaimSeesNotAllThatHasComeSince
        by "claim_meeting::what_commits_while_a_claim_looks_comes_before_what_is_saved_then";
    a_batch_of_one_that_is_a_transaction: ABatchOfOneIsATransaction
        by "outage::a_batch_of_one_or_none_takes_no_more_than_it_has_to";
    a_lost_lease_that_holds_up_its_key: ALostLeaseHoldsUpItsKey
        by "claim_outage::no_key_waits_for_what_an_acknowledgement_reached_that_was_cut_off";
    a_claim_that_stops_at_what_was_acknowledged: AClaimStopsAtWhatWasAcknowledged
        by "claim_outage::a_claim_gets_past_what_an_acknowledgement_reached_that_was_cut_off",
            "claim_outage::no_key_waits_for_an_acknowledgement_that_nobody_makes_again";
    each_listener_that_connects: EachListenerConnects
        by "wake_outage::listeners_cost_little";
    a_listener_that_asks_all_the_time: AListenerAsksAllTheTime
        by "wake_outage::listeners_cost_little";
    a_commit_that_is_told_once: ACommitIsToldOnce
        by "wake_outage::a_commit_wakes_though_its_process_is_cut_off_then";
    a_save_that_was_cut_off_and_is_reported: ASaveThatWasCutOffIsReported
        by "outage::a_save_that_is_cut_off_is_made_or_not";
    a_save_that_was_cut_off_and_is_remembered_by_the_handle: ASaveThatWasCutOffIsRememberedByTheHandle
        by "outage::a_save_that_is_cut_off_is_made_or_not";
    a_call_that_was_cut_off_and_is_not_to_be_tried_again: WhatWasCutOffIsNotTriedAgain
        by "outage::a_save_that_is_cut_off_is_made_or_not",
            "outage::a_session_that_is_cut_off_leaves_all_of_it_or_nothing",
            "outage::an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again",
            "outage::a_fetch_that_is_cut_off_can_be_made_again",
            "claim_outage::what_a_claim_that_was_cut_off_has_leased_comes_again_in_order",
            "claim_outage::a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all",
            "claim_outage::a_renewal_that_is_cut_off_costs_nobody_the_lease",
            "claim_outage::what_is_done_to_dead_letters_is_done_though_it_was_cut_off";
    an_error_of_the_network_that_gets_lost: TheErrorOfTheNetworkGetsLost
        by "outage::a_fetch_that_is_cut_off_can_be_made_again",
            "outage::while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on",
            "claim_outage::leases_outlive_an_outage";
    rows_and_events_that_are_committed_apart: RowsAndEventsAreCommittedApart
        by "outage::a_session_that_is_cut_off_leaves_all_of_it_or_nothing";
    a_session_that_forgets_what_was_cut_off: ASessionForgetsWhatWasCutOff
        by "outage::a_session_that_is_cut_off_leaves_all_of_it_or_nothing";
    an_acknowledgement_that_was_cut_off_and_is_reported: AnAcknowledgementThatWasCutOffIsReported
        by "outage::an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again";
    a_purge_that_was_cut_off_and_is_reported: APurgeThatWasCutOffIsReported
        by "outage::an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again";
    a_purge_that_is_made_again_behind_the_scenes: APurgeIsMadeAgainBehindTheScenes
        by "outage::an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again";
    a_purge_of_all_at_once: APurgeIsDoneAtOnce
        by "outage::a_purge_of_many_is_done_in_parts";
    a_fetch_that_was_cut_off_and_is_empty: AFetchThatWasCutOffIsEmpty
        by "outage::a_fetch_that_is_cut_off_can_be_made_again";
    a_handle_that_never_connects_again: AHandleNeverConnectsAgain
        by "outage::a_fetch_that_is_cut_off_can_be_made_again",
            "outage::while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on",
            "claim_outage::leases_outlive_an_outage";
    an_outage_that_is_a_conflict: AnOutageIsAConflict
        by "outage::while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on",
            "claim_outage::leases_outlive_an_outage";
    an_outage_that_is_waited_for_without_end: AnOutageIsWaitedForWithoutEnd
        by "outage::while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on";
    a_call_that_failed_in_an_outage_and_is_done_after_it: WhatFailedInAnOutageIsDoneAfterIt
        by "outage::while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on";
    a_claim_that_was_cut_off_and_loses_its_events: AClaimThatWasCutOffLosesItsEvents
        by "claim_outage::what_a_claim_that_was_cut_off_has_leased_comes_again_in_order";
    a_claim_that_is_rolled_back_and_handed_out: AClaimThatIsRolledBackIsHandedOut
        by "claim_outage::what_a_claim_that_was_cut_off_has_leased_comes_again_in_order";
    settlements_that_are_made_one_by_one: SettlementsAreMadeOneByOne
        by "claim_outage::a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all",
            "claim_outage::a_call_about_many_leases_takes_few_round_trips";
    a_settlement_that_was_cut_off_and_is_reported: ASettlementThatWasCutOffIsReported
        by "claim_outage::a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all";
    a_settlement_that_is_made_again_behind_the_scenes: ASettlementIsMadeAgainBehindTheScenes
        by "claim_outage::a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all";
    a_renewal_that_was_cut_off_and_ends_the_lease: ARenewalThatWasCutOffEndsTheLease
        by "claim_outage::a_renewal_that_is_cut_off_costs_nobody_the_lease";
    a_renewal_that_was_cut_off_and_is_reported: ARenewalThatWasCutOffIsReported
        by "claim_outage::a_renewal_that_is_cut_off_costs_nobody_the_lease";
    a_requeue_that_was_cut_off_and_is_reported: ARequeueThatWasCutOffIsReported
        by "claim_outage::what_is_done_to_dead_letters_is_done_though_it_was_cut_off";
    attempts_that_are_forgotten_after_the_requeue: AttemptsAreForgottenAfterTheRequeue
        by "claim_outage::what_is_done_to_dead_letters_is_done_though_it_was_cut_off";
    a_settlement_that_was_cut_off_and_is_counted_twice: WhatWasCutOffIsCountedTwice
        by "stats_outage::what_was_settled_is_counted_though_it_was_cut_off";
    a_settlement_that_was_cut_off_and_is_marked_later: WhatWasCutOffIsMarkedLater
        by "stats_outage::what_was_settled_is_counted_though_it_was_cut_off";
    a_settlement_that_was_cut_off_and_is_pending: WhatWasCutOffIsPendingUntilItIsMadeAgain
        by "stats_outage::what_was_settled_is_counted_though_it_was_cut_off";
    a_renewal_that_was_cut_off_and_holds_up_all: ARenewalThatWasCutOffHoldsUpAll
        by "claim_outage::what_nobody_goes_on_with_does_not_hold_up_others";
    what_a_dropped_call_has_begun_and_is_left_open: WhatADroppedCallHasBegunIsLeftOpen
        by "claim_outage::what_a_dropped_call_has_begun_is_not_waited_for";
    leases_that_end_with_the_connection: LeasesEndWithTheConnection
        by "claim_outage::leases_outlive_an_outage";
    a_listener_that_gives_up: AListenerGivesUp
        by "wake_outage::a_listener_hears_again_after_an_outage";
    a_listener_that_connects_without_a_pause: AListenerConnectsWithoutAPause
        by "wake_outage::a_listener_hears_again_after_an_outage";
    an_outage_that_wakes_all_the_time: AnOutageWakesAllTheTime
        by "wake_outage::a_listener_hears_again_after_an_outage";
    what_came_in_an_outage_and_is_not_heard: WhatCameInAnOutageIsNotHeard
        by "wake_outage::a_listener_hears_again_after_an_outage";
    a_listener_that_is_deaf_after_an_outage: AListenerIsDeafAfterAnOutage
        by "wake_outage::a_listener_hears_again_after_an_outage";

    deliveries_that_are_always_new: EveryDeliveryIsNew
        by "inbox::an_event_is_new_once_to_a_consumer";
    marks_that_ignore_their_session: MarksIgnoreTheirSession
        by "inbox::a_mark_shares_the_fate_of_its_session",
            "inbox::a_mark_and_a_saved_event_share_their_fate";
    a_repeated_delivery_that_poisons_the_session: ARepeatedDeliveryPoisonsTheSession
        by "inbox::a_repeated_delivery_leaves_the_session_usable";
    consumers_that_share_their_marks: ConsumersShareTheirMarks
        by "inbox::consumers_are_apart_and_compared_exactly";
    consumers_that_fold_case: ConsumersFoldCase
        by "inbox::consumers_are_apart_and_compared_exactly";
    consumers_that_are_trimmed: ConsumersAreTrimmed
        by "inbox::consumers_are_apart_and_compared_exactly";
    consumers_that_are_cut_off: ConsumersAreCutOff
        by "inbox::consumers_are_apart_and_compared_exactly";
    a_consumer_without_a_name_that_is_taken: AnyConsumerIsTaken
        by "inbox::a_consumer_without_a_proper_name_is_refused";
    two_that_are_told_that_it_is_new: TwoAreToldThatItIsNew
        by "inbox::of_many_at_once_one_is_told_that_it_is_new";
    an_open_session_that_counts_as_processed: AnOpenSessionCountsAsProcessed
        by "inbox::a_mark_that_is_rolled_back_is_free_for_the_next";
    an_inbox_that_purges_all: TheInboxPurgesAll
        by "inbox::marks_are_purged_by_their_age";
    an_inbox_that_never_purges: TheInboxNeverPurges
        by "inbox::marks_are_purged_by_their_age";
    an_inbox_that_miscounts: TheInboxMiscounts
        by "inbox::a_purge_of_many_marks_takes_them_all";
}

/// Those clauses that no fault was made for, and one that each rejects.
const ALSO: &[(&str, Fault)] = &[
    ("claim_names::an_outbox_of_any_name_is_claimed_and_settled", Fault::AllNamesAreOneOutbox),
    ("store::a_batch_larger_than_any_message_is_stored_as_a_whole", Fault::NowAndThenASaveIsLost),
    ("store::extreme_times_come_back_or_are_refused", Fault::NotBeforeIsIgnored),
    ("store::an_event_comes_back_in_the_published_json_shape", Fault::PartitionKeyAndHeadersGetLost),
    ("store::every_meta_field_comes_back_exactly", Fault::PartitionKeyAndHeadersGetLost),
    ("store::unusual_text_in_the_meta_comes_back_exactly_or_is_refused", Fault::IdempotencyKeysAreCutOff),
    ("store::deeply_nested_payloads_come_back_exactly", Fault::LastInFirstOut),
    ("store::a_payload_of_one_mebibyte_comes_back_exactly", Fault::TimesAreCutToSeconds),
    ("store::an_extra_field_that_shadows_a_known_one_is_refused", Fault::InvalidTypesAreTaken),
    ("store::a_key_that_the_json_library_keeps_for_itself_is_refused", Fault::InvalidTypesAreTaken),
    ("store::a_time_beyond_the_calendar_is_refused", Fault::InvalidTypesAreTaken),
    ("store::an_event_beyond_eight_mebibytes_is_refused", Fault::InvalidTypesAreTaken),
    ("store::a_saved_event_is_pending", Fault::TimesAreCutToSeconds),
    ("store::enqueue_writes_in_the_session", Fault::SaveIgnoresItsSession),
    ("store::the_time_before_which_it_is_hidden_comes_back", Fault::NotBeforeIsIgnored),
    ("store::a_hidden_event_can_be_acknowledged", Fault::AcknowledgeDoesNothing),
    ("store::of_many_that_save_one_key_at_once_one_is_stored", Fault::IdempotencyKeysAreIgnored),
    ("store::the_order_outlives_the_purge_of_the_newest", Fault::LastInFirstOut),
    ("store::an_open_session_hides_nothing_that_is_committed", Fault::SaveIgnoresItsSession),
    ("store::delivered_and_hidden_events_are_not_pending", Fault::NotBeforeIsIgnored),
    ("store::a_fetch_is_right_amid_many_events", Fault::TheLimitIsOneTooMany),
    ("store::acknowledging_comes_after_saving", Fault::DeliveredIdsAreForgotten),
    ("store::a_purge_beside_saves_and_deliveries_loses_nothing", Fault::NowAndThenASaveIsLost),
    ("concurrent::an_id_of_a_rolled_back_session_is_free", Fault::PurgedKeysStayTaken),
    ("dead_letter::the_id_of_a_dead_event_is_taken", Fault::ADuplicateIsAnError),
    ("dead_letter::dead_letters_are_filtered_by_type_and_time", Fault::UndecodableRowsAreDropped),
    (
        "dead_letter::a_requeued_row_that_cannot_be_decoded_is_set_aside_again",
        Fault::UndecodableRowsAreDropped,
    ),
    ("dead_letter::a_discarded_event_is_gone", Fault::UndecodableRowsAreDropped),
    ("claim::a_hidden_event_is_not_claimed", Fault::NotBeforeIsIgnored),
    ("claim::a_claim_may_ask_for_very_many_types", Fault::AClaimIgnoresItsTypes),
    ("claim::each_settlement_has_its_own_answer", Fault::OwnershipWithoutAFence),
    ("claim::events_without_a_key_do_not_wait_for_one_another", Fault::AWaitingKeyHoldsUpAll),
    ("claim::keys_do_not_wait_for_one_another", Fault::ClaimsOverlap),
    ("claim::the_resource_id_is_the_key_where_there_is_no_other", Fault::KeysAreIgnored),
    ("claim::an_event_saved_while_its_key_is_busy_comes_after", Fault::KeysAreIgnored),
    ("claim::a_key_keeps_its_order_when_a_lease_runs_out", Fault::KeysAreIgnored),
    ("claim::an_earlier_event_comes_back_before_a_later_one_of_its_key", Fault::AClaimTakesTheNewest),
    (
        "claim::what_comes_back_behind_a_lease_that_has_just_begun_keeps_its_order",
        Fault::AClaimTakesTheNewest,
    ),
    ("claim::what_comes_back_in_front_of_a_busy_key_keeps_its_order", Fault::AClaimTakesTheNewest),
    ("claim::a_claim_of_some_types_has_come_past_nothing_of_others", Fault::ClaimsSkipLateCommits),
    (
        "claim_concurrent::what_commits_late_in_front_of_a_busy_key_is_not_overtaken",
        Fault::ClaimsSkipLateCommits,
    ),
    ("claim::a_busy_key_with_many_events_holds_up_no_other", Fault::AWaitingKeyHoldsUpAll),
    ("claim::an_acknowledgement_frees_the_key_that_waits_for_its_event", Fault::AcknowledgeLeavesTheLease),
    ("claim::an_acknowledgement_that_meets_a_claim_frees_the_key", Fault::AcknowledgeLeavesTheLease),
    ("claim::many_events_of_a_key_that_has_waited_come_before_a_later_one", Fault::KeysAreIgnored),
    ("claim::many_waiting_keys_hold_up_no_other", Fault::AWaitingKeyHoldsUpAll),
    ("claim::a_requeued_event_has_fresh_attempts", Fault::DeadLettersAreTriedAgain),
    ("claim::leases_of_a_held_key_go_on_and_nothing_comes_after_them", Fault::KeysAreIgnored),
    ("resource::writes_of_a_repository_are_recorded", Fault::SaveIgnoresItsSession),
    ("resource::recorded_events_share_the_fate_of_the_rows", Fault::SaveIgnoresItsSession),
    ("resource::changes_can_be_recorded_by_hand", Fault::LastInFirstOut),
    ("resource::a_filter_decides_for_each_change", Fault::LastInFirstOut),
    ("resource::an_enricher_fills_the_meta", Fault::PartitionKeyAndHeadersGetLost),
    ("resource::bulk_writes_give_one_event_for_each_row", Fault::LastInFirstOut),
];

/// It speaks of the decorator of repositories alone, which no store can break.
const OF_NO_STORE: &str = "resource::a_failed_business_write_writes_no_event";

/// A clause that passes whatever the store does proves nothing.
#[test]
fn every_clause_rejects_a_fault() {
    for (clause, fault) in ALSO {
        assert_ne!(
            failures(*fault, |name| name == *clause),
            [],
            "{clause} does not reject the fault {fault:?}"
        );
    }
    let is_proven = |name: &str| NAMED.contains(&name) || ALSO.iter().any(|(clause, _)| *clause == name);
    let unproven: Vec<_> =
        all_clauses().iter().map(|clause| clause.name).filter(|name| !is_proven(name)).collect();
    assert_eq!(unproven, [OF_NO_STORE]);
}

/// Random histories reject these too, and shrink them to a few steps.
#[test]
fn random_histories_reject_broken_stores() {
    let message = |check: fn(u32), fault: Fault| {
        <Faulty>::with(fault);
        std::panic::catch_unwind(|| check(256)).err().map(|panic| {
            let text = panic.downcast::<String>().expect("a message");
            text.lines().next().unwrap_or_default().to_owned()
        })
    };
    hush_expected_panics();
    QUIET.set(true);
    let list: fn(u32) = outbox_conformance::__private::check_model::<Faulty<false>>;
    let claims: fn(u32) = outbox_conformance::__private::check_claim_model::<Faulty<false>>;
    let outcomes = [
        (list, Fault::None, false),
        (list, Fault::SaveIgnoresItsSession, true),
        (list, Fault::LastInFirstOut, true),
        (list, Fault::DeliveredIdsAreForgotten, true),
        (list, Fault::PurgeIgnoresTheAge, true),
        (claims, Fault::None, false),
        (claims, Fault::ClaimsTakeOneEventOfAKey, false),
        (claims, Fault::KeysAreIgnored, true),
        (claims, Fault::AClaimIgnoresItsTypes, true),
        (claims, Fault::ClaimsGoById, true),
        (claims, Fault::ClaimsGoByTheApplicationClock, true),
        (claims, Fault::OwnershipWithoutAFence, true),
        (claims, Fault::AttemptsAreKeptInMemory, true),
        (claims, Fault::DeadLettersAreTriedAgain, true),
        (claims, Fault::HeldKeysAreHandedOut, true),
        (claims, Fault::HoldsAreNotTold, true),
        (claims, Fault::AHoldHoldsUpAll, true),
    ]
    .map(|(check, fault, is_rejected)| (fault, is_rejected, message(check, fault)));
    QUIET.set(false);
    for (fault, is_rejected, message) in outcomes {
        assert_eq!(message.is_some(), is_rejected, "{fault:?}: {message:?}");
    }
}

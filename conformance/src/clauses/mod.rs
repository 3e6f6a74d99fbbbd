//! The clauses, by group. Each is a function over a [`Harness`](crate::Harness) with a fresh store, and each
//! is listed once, in the macros below; a unit test fails if one is not.

#![allow(clippy::missing_panics_doc, reason = "a clause that is not kept panics: that is how it says so")]

pub mod claim;
pub mod claim_concurrent;
pub mod claim_cost;
pub mod claim_durable;
pub mod claim_fault;
pub mod claim_meeting;
pub mod claim_names;
pub mod claim_outage;
pub mod claim_peer;
pub mod claim_schema;
pub mod claim_wake;
pub mod concurrent;
pub mod cost;
pub mod dead_letter;
pub mod durable;
pub mod elsewhere;
pub mod expiry;
pub mod fault;
pub mod inbox;
pub mod inbox_fault;
pub mod inbox_migration;
pub mod inbox_names;
pub mod loss;
pub mod migration;
pub mod names;
pub mod outage;
pub mod refusal;
pub mod resource;
pub mod schema;
pub mod stats;
pub mod stats_outage;
pub mod store;
pub mod wake;
pub mod wake_concurrent;
pub mod wake_outage;

/// One named test for each clause of the groups, in a module for each group.
///
/// `suite!(Harness; store, durable)`. See the [crate documentation](crate) for the groups.
#[macro_export]
macro_rules! suite {
    ($harness:ty; $($group:ident),+ $(,)?) => { $($crate::__group! { $group [tests $harness] })+ };
}

/// Random histories of saves, sessions, fetches, acknowledgements, purges and passing time, each run against a
/// fresh store and against a plain list, which must agree. A failure is shrunk to a short counter-example.
///
/// `model!(Harness, 64)` runs 64 of them, as a test named `model::histories_agree_with_a_list`.
#[macro_export]
macro_rules! model {
    ($harness:ty, $cases:literal) => {
        mod model {
            use super::*;
            #[test]
            fn histories_agree_with_a_list() {
                $crate::__private::check_model::<$harness>($cases);
            }
        }
    };
}

/// Random histories of saves, claims, settlements of every kind, leases that run out, acknowledgements, requeues and
/// discards, each run against a fresh store and against a model of the clauses. A failure is shrunk to a short
/// counter-example.
///
/// `claim_model!(Harness, 64)` runs 64 of them, as a test named `claim_model::histories_agree_with_the_clauses`.
#[macro_export]
macro_rules! claim_model {
    ($harness:ty, $cases:literal) => {
        mod claim_model {
            use super::*;
            #[test]
            fn histories_agree_with_the_clauses() {
                $crate::__private::check_claim_model::<$harness>($cases);
            }
        }
    };
}

/// The clauses of the groups as a `Vec` of `Clause`s, to run them by a program.
///
/// `clauses!(Harness; store, dead_letter)`. The group `durable` starts tests as processes and is not among
/// them, nor are the clauses of `claim_durable` that do.
#[macro_export]
macro_rules! clauses {
    ($harness:ty; $($group:ident),+ $(,)?) => {{
        let mut clauses = ::std::vec::Vec::<$crate::Clause>::new();
        $(clauses.extend($crate::__group! { $group [list $harness] });)+
        clauses
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __emit {
    ([tests $harness:ty] durable: $($clause:ident)+) => {
        mod durable {
            use super::*;
            $(#[test]
            fn $clause() {
                $crate::__private::run_durable::<$harness, _>(
                    concat!("durable::", stringify!($clause)),
                    $crate::clauses::durable::$clause,
                    concat!(module_path!(), "::", stringify!($clause)),
                );
            })+
        }
    };
    ([tests $harness:ty] claim_durable: $($clause:ident)+) => {
        mod claim_durable {
            use super::*;
            $(#[test]
            fn $clause() {
                $crate::__private::run_claim_durable::<$harness, _>(
                    concat!("claim_durable::", stringify!($clause)),
                    $crate::clauses::claim_durable::$clause,
                    concat!(module_path!(), "::", stringify!($clause)),
                );
            })+
        }
    };
    ([list $harness:ty] claim_durable: $($clause:ident)+) => {
        [$($crate::__private::durable_clause::<$harness, _>(
            concat!("claim_durable::", stringify!($clause)),
            $crate::clauses::claim_durable::$clause,
        )),+]
    };
    ([tests $harness:ty] $group:ident: $($clause:ident)+) => {
        mod $group {
            use super::*;
            $(#[test]
            fn $clause() {
                $crate::__private::run::<$harness, _>(
                    concat!(stringify!($group), "::", stringify!($clause)),
                    $crate::clauses::$group::$clause,
                );
            })+
        }
    };
    ([list $harness:ty] $group:ident: $($clause:ident)+) => {
        [$($crate::__private::clause::<$harness, _>(
            concat!(stringify!($group), "::", stringify!($clause)),
            $crate::clauses::$group::$clause,
        )),+]
    };
    ([names] $group:ident: $($clause:ident)+) => { [$(stringify!($clause)),+] };
}

/// The one list of all clauses.
#[doc(hidden)]
#[macro_export]
macro_rules! __group {
    (store $mode:tt) => {
        $crate::__emit! { $mode store:
            an_event_comes_back_in_the_published_json_shape
            unknown_meta_fields_survive
            ids_and_times_come_back_as_constructed
            an_invalid_type_is_refused_and_nothing_is_stored
            a_child_event_is_stored_beside_its_parent
            every_meta_field_comes_back_exactly
            an_event_is_the_same_whichever_way_it_was_saved
            early_and_late_timestamps_come_back
            the_partition_key_and_headers_come_back
            extreme_numbers_come_back_exactly
            a_long_list_of_short_things_comes_back_exactly
            unusual_text_comes_back_exactly
            unusual_text_in_the_meta_comes_back_exactly_or_is_refused
            unusual_structures_come_back_exactly
            deeply_nested_payloads_come_back_exactly
            a_payload_of_one_mebibyte_comes_back_exactly
            an_extra_field_that_shadows_a_known_one_is_refused
            a_key_that_the_json_library_keeps_for_itself_is_refused
            a_time_beyond_the_calendar_is_refused
            an_event_beyond_eight_mebibytes_is_refused
            a_saved_event_is_pending
            an_event_saved_in_a_session_is_invisible_until_it_commits
            enqueue_writes_in_the_session
            a_rolled_back_event_never_appears
            a_dropped_session_leaves_nothing
            an_event_shares_the_fate_of_the_business_rows
            saves_in_one_session_keep_their_order
            save_all_keeps_the_order_of_its_slice
            a_batch_larger_than_any_message_is_stored_as_a_whole
            save_all_is_all_or_nothing
            an_existing_id_is_a_duplicate_and_the_first_stays
            a_duplicate_leaves_the_session_usable
            a_batch_answers_for_each_event
            an_idempotency_key_is_stored_once
            idempotency_keys_are_compared_exactly
            purging_frees_an_idempotency_key
            an_error_leaves_the_session_to_the_caller
            an_event_is_hidden_until_its_time
            many_hidden_events_come_at_once_when_their_time_does
            the_time_before_which_it_is_hidden_comes_back
            extreme_times_come_back_or_are_refused
            a_hidden_event_can_be_acknowledged
            saves_from_many_sessions_lose_and_duplicate_nothing
            of_many_that_save_one_key_at_once_one_is_stored
            a_history_of_many_writers_is_delivered_in_causal_order
            order_does_not_rest_on_the_application_s_clock
            the_order_outlives_the_purge_of_the_newest
            a_rolled_back_save_leaves_no_gap
            an_open_session_hides_nothing_that_is_committed
            pending_events_come_first_in_first_out
            get_pending_changes_nothing
            delivered_and_hidden_events_are_not_pending
            a_fetch_is_right_amid_many_events
            an_undecodable_row_is_never_returned_and_blocks_nothing
            an_acknowledged_event_is_no_longer_pending
            acknowledging_again_does_not_move_the_delivery_time
            acknowledging_an_unknown_id_is_no_error
            acknowledging_comes_after_saving
            events_are_acknowledged_in_any_order_and_subset
            acknowledging_leaves_a_dead_event_alone
            purge_deletes_by_the_age_of_the_delivery
            an_age_of_a_fraction_of_a_second_counts
            purge_touches_only_what_is_delivered
            a_purge_of_many_takes_them_all
            a_purge_beside_saves_and_deliveries_loses_nothing
            purge_does_not_look_at_the_event_s_own_time
            the_retention_says_what_stays_of_a_delivered_event
        }
    };
    (concurrent $mode:tt) => {
        $crate::__emit! { $mode concurrent:
            a_long_transaction_delays_only_its_own_events
            an_event_that_commits_late_is_not_skipped
            an_id_of_a_rolled_back_session_is_free
            what_an_open_session_has_saved_is_no_duplicate
            a_batch_answers_for_what_is_committed_meanwhile
            a_duplicate_in_an_open_session_delays_nobody
        }
    };
    (durable $mode:tt) => {
        $crate::__emit! { $mode durable:
            events_survive_closing_and_opening
            commits_and_acknowledgements_survive_a_kill
        }
    };
    (schema $mode:tt) => {
        $crate::__emit! { $mode schema:
            migrating_again_loses_nothing
            many_may_migrate_at_once
            what_is_not_fit_is_refused_with_the_reason
            verify_says_what_is_missing
            outboxes_of_different_names_are_apart
            outboxes_of_long_and_unusual_names_are_apart
            an_error_of_the_driver_is_the_source
        }
    };
    (names $mode:tt) => {
        $crate::__emit! { $mode names:
            any_name_that_there_is_room_for_is_that_of_an_outbox
            a_name_that_there_is_no_room_for_is_refused
            what_is_something_else_is_left_alone
            a_part_of_an_outbox_is_no_other
            a_part_that_is_missing_is_named
            what_cannot_be_put_right_is_said
            a_newer_schema_is_left_alone
        }
    };
    (inbox_names $mode:tt) => {
        $crate::__emit! { $mode inbox_names:
            any_name_that_there_is_room_for_is_that_of_an_inbox
            many_may_migrate_an_inbox_at_once
            a_name_that_there_is_no_room_for_is_no_inbox
            an_inbox_and_what_is_none_are_told_apart
            a_part_of_an_inbox_that_is_missing_is_named
        }
    };
    (migration $mode:tt) => {
        $crate::__emit! { $mode migration:
            an_outbox_that_is_made_by_hand_is_one
        }
    };
    (inbox_migration $mode:tt) => {
        $crate::__emit! { $mode inbox_migration:
            an_inbox_that_is_made_by_hand_is_one
        }
    };
    (expiry $mode:tt) => {
        $crate::__emit! { $mode expiry:
            the_engine_deletes_what_was_delivered_long_enough_ago
            the_engine_deletes_marks_that_are_old_enough
            the_engine_is_told_what_the_owner_said_last
            many_may_tell_the_engine_at_once
            another_name_keeps_the_time_to_live
        }
    };
    (elsewhere $mode:tt) => {
        $crate::__emit! { $mode elsewhere:
            what_is_written_elsewhere_is_an_event_like_any_other
            what_is_written_elsewhere_is_claimed_and_settled
            what_is_filled_in_elsewhere_is_claimed_and_settled
            many_that_are_written_elsewhere_are_claimed_and_die_page_by_page
            numbers_that_are_written_elsewhere_are_those_that_were_meant
            kinds_that_are_written_elsewhere_are_read_as_their_json
            what_is_delivered_elsewhere_is_delivered
            what_is_written_elsewhere_has_an_age
            what_is_saved_is_read_elsewhere
            what_dies_elsewhere_is_a_dead_letter_like_any_other
            what_dies_elsewhere_is_found_page_by_page
            what_dies_elsewhere_is_requeued_and_discarded_with_others
        }
    };
    (loss $mode:tt) => {
        $crate::__emit! { $mode loss:
            what_is_lost_is_told_of_and_no_event_is_lost_with_it
            what_waits_alone_is_not_lost
            what_is_held_alone_is_not_overtaken
        }
    };
    (refusal $mode:tt) => {
        $crate::__emit! { $mode refusal:
            what_the_engine_refuses_is_an_error_and_nothing_of_it_is_stored
            nothing_of_a_refused_batch_is_left_in_its_session
            another_duplicate_is_an_error_and_not_an_outcome
        }
    };
    (fault $mode:tt) => {
        $crate::__emit! { $mode fault:
            a_fault_in_a_session_is_an_error_of_its_kind_and_leaves_nothing
            a_save_that_meets_a_fault_is_made_as_a_whole_or_not_at_all
            a_conflict_that_passes_is_tried_again
            a_fault_that_stays_is_an_error_and_nothing_is_done
            a_fault_that_no_other_try_helps_is_said_at_once
        }
    };
    (claim_fault $mode:tt) => {
        $crate::__emit! { $mode claim_fault:
            a_conflict_of_claims_that_passes_is_tried_again
            a_claim_that_meets_a_fault_takes_nothing_away
            what_is_leased_outlives_a_fault
            dead_letters_outlive_a_fault
            a_fault_of_claims_that_no_other_try_helps_is_said_at_once
            what_nobody_knows_is_asked_for_again
        }
    };
    (inbox_fault $mode:tt) => {
        $crate::__emit! { $mode inbox_fault:
            a_mark_that_meets_a_fault_is_none
            a_purge_of_marks_tries_again_or_is_an_error
        }
    };
    (dead_letter $mode:tt) => {
        $crate::__emit! { $mode dead_letter:
            an_undecodable_row_is_shown_with_its_raw_content
            whatever_is_wrong_with_a_row_it_is_set_aside_by_itself
            an_acknowledgement_does_not_touch_a_dead_event
            a_purge_does_not_touch_a_dead_event
            the_id_of_a_dead_event_is_taken
            dead_letters_come_oldest_first_in_pages
            a_page_comes_after_the_last_though_what_was_read_is_discarded
            dead_letters_are_filtered_by_type_and_time
            a_requeued_row_that_cannot_be_decoded_is_set_aside_again
            a_discarded_event_is_gone
        }
    };
    (claim $mode:tt) => {
        $crate::__emit! { $mode claim:
            a_claim_leases_the_oldest_up_to_its_limit
            a_hidden_event_is_not_claimed
            a_claimed_event_is_as_it_was_saved
            claims_do_not_rest_on_the_application_s_clock
            a_claim_takes_only_the_types_it_asks_for
            a_leased_event_is_neither_pending_nor_claimed
            claims_at_the_same_time_are_disjoint
            calls_at_the_same_time_for_one_claim_undo_nothing_of_one_another
            a_lease_that_ran_out_has_no_effect
            a_lease_lasts_as_long_as_it_was_asked_for
            a_lease_may_be_renewed_for_ever_or_be_of_no_time
            fractions_of_a_second_count
            a_lease_is_over_when_its_time_is
            a_renewed_lease_lasts_from_then_on
            a_lease_that_was_renewed_for_less_is_over_sooner
            each_settlement_has_its_own_answer
            a_batch_of_acknowledgements_ends_leases_and_frees_keys
            a_late_failure_does_not_resurrect_a_delivered_event
            an_undecodable_row_is_never_leased
            a_key_waits_while_one_of_its_events_is_leased
            a_key_waits_for_an_event_that_was_saved_in_a_session
            a_hidden_event_waits_for_its_key
            events_without_a_key_do_not_wait_for_one_another
            keys_do_not_wait_for_one_another
            an_empty_key_is_a_key
            a_claim_of_some_types_waits_for_busy_keys
            a_claim_of_some_types_takes_no_other_of_a_key_that_has_waited
            a_claim_of_some_types_finds_its_own_after_many_keys_that_have_none
            a_claim_may_ask_for_very_many_types
            the_resource_id_is_the_key_where_there_is_no_other
            partition_keys_are_compared_exactly
            a_key_waits_while_one_of_its_events_waits_for_a_retry
            an_event_saved_while_its_key_is_busy_comes_after
            a_key_keeps_its_order_when_a_lease_runs_out
            an_earlier_event_comes_back_before_a_later_one_of_its_key
            what_comes_back_behind_a_lease_that_has_just_begun_keeps_its_order
            what_comes_back_in_front_of_a_busy_key_keeps_its_order
            a_claim_of_some_types_has_come_past_nothing_of_others
            a_busy_key_with_many_events_holds_up_no_other
            an_acknowledgement_frees_the_key_that_waits_for_its_event
            an_acknowledgement_that_meets_a_claim_frees_the_key
            many_events_of_a_key_that_has_waited_come_before_a_later_one
            what_a_claim_leaves_of_keys_that_have_waited_comes_next
            many_waiting_keys_hold_up_no_other
            one_claim_finds_what_comes_after_many_that_wait
            a_delivered_settlement_is_an_acknowledgement
            what_was_delivered_by_a_settlement_frees_its_id_and_key
            one_call_settles_many_of_every_outcome
            a_released_event_costs_no_attempt
            attempts_and_failures_are_counted_in_the_store
            a_retry_comes_when_it_is_due_and_not_before
            failures_are_kept_with_their_times_and_the_last_error
            a_long_error_is_kept_from_its_beginning
            each_of_many_failures_keeps_its_own_error_and_time
            a_dead_event_is_claimed_by_nobody_and_blocks_nobody
            the_id_and_the_idempotency_key_are_taken_in_every_state
            a_dead_event_is_as_it_was_saved
            a_requeued_event_has_fresh_attempts
            many_dead_events_are_requeued_and_discarded
            pages_requeues_and_discards_heed_the_whole_filter
            a_filter_takes_its_type_exactly
            a_held_key_waits_and_no_other_does
            a_dead_letter_says_whether_it_holds_its_key
            a_requeued_event_comes_before_what_waited_for_it
            a_discard_ends_the_hold
            a_key_is_free_when_the_last_that_holds_it_is_gone
            leases_of_a_held_key_go_on_and_nothing_comes_after_them
            many_held_keys_hold_up_no_other
            a_history_of_many_workers_keeps_the_order_of_each_key
        }
    };
    (claim_concurrent $mode:tt) => {
        $crate::__emit! { $mode claim_concurrent:
            a_long_transaction_delays_no_claim_of_others
            claims_do_not_skip_an_event_that_commits_late
            what_commits_late_in_front_of_a_busy_key_is_not_overtaken
        }
    };
    (claim_schema $mode:tt) => {
        $crate::__emit! { $mode claim_schema:
            claims_of_different_outboxes_are_apart
        }
    };
    // Without those that start tests as processes.
    (claim_durable [list $harness:ty]) => {
        $crate::__emit! { [list $harness] claim_durable:
            what_claims_have_written_survives_closing_and_opening
            what_is_known_of_events_survives_closing_and_opening
        }
    };
    (claim_durable $mode:tt) => {
        $crate::__emit! { $mode claim_durable:
            what_claims_have_written_survives_closing_and_opening
            what_is_known_of_events_survives_closing_and_opening
            settlements_survive_a_kill
        }
    };
    (claim_names $mode:tt) => {
        $crate::__emit! { $mode claim_names:
            an_outbox_of_any_name_is_claimed_and_settled
            what_is_done_in_one_outbox_leaves_others_alone
        }
    };
    (stats $mode:tt) => {
        $crate::__emit! { $mode stats:
            it_counts_events_by_their_state
            what_is_not_committed_is_not_counted
            it_says_how_long_the_oldest_waits
            the_oldest_may_be_hidden_or_wait_for_a_retry
            it_says_how_long_the_oldest_has_been_due
            a_requeued_event_has_been_due_since_its_save
        }
    };
    (cost $mode:tt) => {
        $crate::__emit! { $mode cost:
            a_fetch_reads_no_more_amid_many_events
            a_save_and_an_acknowledgement_read_no_more_amid_many_events
            a_purge_reads_no_more_than_it_deletes
        }
    };
    (claim_cost $mode:tt) => {
        $crate::__emit! { $mode claim_cost:
            a_claim_reads_no_more_amid_many_events
            a_claim_reads_no_more_behind_a_busy_key
            a_claim_gets_past_very_many_events_of_a_busy_key_at_once
            a_claim_in_vain_gets_past_very_many_events_of_a_busy_key_at_once
            a_claim_reads_no_more_beside_many_keys_that_wait
            a_claim_reads_no_more_beside_many_held_keys
            a_claim_reads_no_more_after_many_keys_have_waited
            a_claim_of_some_types_reads_no_more_after_many_keys_have_waited
            a_claim_reads_no_more_of_a_backlog_beside_a_busy_key
            a_claim_reads_no_more_of_keys_that_have_more_than_it_takes
        }
    };
    (outage $mode:tt) => {
        $crate::__emit! { $mode outage:
            a_save_that_is_cut_off_is_made_or_not
            a_session_that_is_cut_off_leaves_all_of_it_or_nothing
            an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again
            a_purge_of_many_is_done_in_parts
            a_fetch_that_is_cut_off_can_be_made_again
            while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on
            a_batch_takes_few_round_trips
            a_batch_of_one_or_none_takes_no_more_than_it_has_to
        }
    };
    (claim_outage $mode:tt) => {
        $crate::__emit! { $mode claim_outage:
            what_a_claim_that_was_cut_off_has_leased_comes_again_in_order
            a_settlement_that_is_cut_off_takes_as_a_whole_or_not_at_all
            a_renewal_that_is_cut_off_costs_nobody_the_lease
            what_is_done_to_dead_letters_is_done_though_it_was_cut_off
            leases_outlive_an_outage
            a_call_about_many_leases_takes_few_round_trips
            a_claim_in_vain_takes_few_round_trips
            what_is_nearly_always_so_takes_few_round_trips
            a_claim_with_nothing_in_its_way_takes_no_more_round_trips
            no_key_waits_for_what_an_acknowledgement_reached_that_was_cut_off
            a_claim_gets_past_what_an_acknowledgement_reached_that_was_cut_off
            no_key_waits_for_an_acknowledgement_that_nobody_makes_again
            what_nobody_goes_on_with_does_not_hold_up_others
            what_a_dropped_call_has_begun_is_not_waited_for
        }
    };
    (claim_meeting $mode:tt) => {
        $crate::__emit! { $mode claim_meeting:
            whatever_is_done_during_a_claim_it_keeps_the_order
            what_fails_while_a_claim_looks_comes_again
            whatever_is_done_during_a_settlement_it_takes_once
            whatever_is_done_during_a_renewal_a_lease_ends_once
            whatever_is_done_during_an_acknowledgement_it_counts
            whatever_is_done_during_a_requeue_it_is_done_once
            a_claim_comes_to_an_end_beside_others_that_are_quicker
            what_commits_while_a_claim_looks_comes_before_what_is_saved_then
        }
    };
    (stats_outage $mode:tt) => {
        $crate::__emit! { $mode stats_outage:
            what_was_settled_is_counted_though_it_was_cut_off
        }
    };
    (wake_outage $mode:tt) => {
        $crate::__emit! { $mode wake_outage:
            a_listener_hears_again_after_an_outage
            listeners_cost_little
            a_commit_wakes_though_its_process_is_cut_off_then
        }
    };
    (wake $mode:tt) => {
        $crate::__emit! { $mode wake:
            a_save_wakes_a_listener
            a_session_wakes_when_it_commits
            a_commit_through_another_handle_wakes
            every_listener_is_woken
            a_commit_before_the_wait_is_not_missed
            a_wait_that_is_dropped_loses_nothing
            each_of_many_commits_is_noticed
            nobody_is_woken_for_nothing
            a_session_wakes_nobody_all_the_time
            deliveries_wake_nobody_all_the_time
            a_runtime_that_ends_takes_no_wakeups_with_it
            a_listener_survives_its_connection
        }
    };
    (wake_concurrent $mode:tt) => {
        $crate::__emit! { $mode wake_concurrent:
            a_commit_wakes_after_others_that_were_saved_later
            each_of_several_open_sessions_wakes_by_itself
            a_commit_of_a_busy_process_wakes_others
            a_commit_wakes_after_a_runtime_of_its_handle_has_ended
        }
    };
    (claim_peer $mode:tt) => {
        $crate::__emit! { $mode claim_peer:
            what_one_process_has_leased_no_other_is_given
            a_lease_is_renewed_and_settled_through_any_handle
            claims_of_several_processes_at_the_same_time_are_disjoint
            what_has_become_due_comes_first_whoever_looks
            a_history_of_several_processes_keeps_the_order_of_each_key
        }
    };
    (claim_wake $mode:tt) => {
        $crate::__emit! { $mode claim_wake:
            what_can_be_claimed_again_wakes
            what_finds_no_dead_letter_wakes_nobody
        }
    };
    (inbox $mode:tt) => {
        $crate::__emit! { $mode inbox:
            an_event_is_new_once_to_a_consumer
            a_mark_shares_the_fate_of_its_session
            a_mark_and_a_saved_event_share_their_fate
            a_repeated_delivery_leaves_the_session_usable
            consumers_are_apart_and_compared_exactly
            a_consumer_without_a_proper_name_is_refused
            of_many_at_once_one_is_told_that_it_is_new
            a_mark_that_is_rolled_back_is_free_for_the_next
            marks_are_purged_by_their_age
            a_purge_of_many_marks_takes_them_all
        }
    };
    (resource $mode:tt) => {
        $crate::__emit! { $mode resource:
            writes_of_a_repository_are_recorded
            recorded_events_share_the_fate_of_the_rows
            changes_can_be_recorded_by_hand
            a_filter_decides_for_each_change
            an_enricher_fills_the_meta
            a_failed_business_write_writes_no_event
            bulk_writes_give_one_event_for_each_row
        }
    };
}

#[cfg(test)]
mod tests {
    /// The clauses that stand in the source of a group.
    fn written(sources: &[&'static str]) -> Vec<&'static str> {
        sources
            .iter()
            .flat_map(|source| source.split("\npub async fn ").skip(1))
            .filter_map(|rest| rest.split_once('<').map(|(name, _)| name))
            .collect()
    }

    fn sorted(mut names: Vec<&'static str>) -> Vec<&'static str> {
        names.sort_unstable();
        names
    }

    macro_rules! every_clause_is_listed {
        ($($group:ident: $($file:literal),+;)+) => {$(
            let listed = crate::__group! { $group [names] };
            let in_source = written(&[$(include_str!($file)),+]);
            assert!(!in_source.is_empty());
            assert_eq!(sorted(listed.to_vec()), sorted(in_source), "the group {}", stringify!($group));
        )+};
    }

    #[test]
    fn no_clause_goes_unlisted() {
        every_clause_is_listed! {
            store: "store/events.rs", "store/save.rs", "store/order.rs", "store/pending.rs",
                "store/acknowledge.rs", "store/purge.rs", "store/retention.rs";
            claim: "claim/lease.rs", "claim/keys.rs", "claim/settle.rs", "claim/held.rs", "claim/types.rs",
                "claim/order.rs", "claim/filter.rs", "claim/history.rs", "claim/waited.rs";
            claim_concurrent: "claim_concurrent.rs";
            claim_durable: "claim_durable.rs";
            claim_outage: "claim_outage.rs";
            claim_meeting: "claim_meeting.rs";
            claim_names: "claim_names.rs";
            claim_schema: "claim_schema.rs";
            concurrent: "concurrent.rs";
            durable: "durable.rs";
            schema: "schema.rs";
            names: "names.rs";
            migration: "migration.rs";
            inbox_migration: "inbox_migration.rs";
            elsewhere: "elsewhere.rs";
            loss: "loss.rs";
            refusal: "refusal.rs";
            fault: "fault.rs";
            claim_fault: "claim_fault.rs";
            inbox_fault: "inbox_fault.rs";
            expiry: "expiry.rs";
            inbox_names: "inbox_names.rs";
            dead_letter: "dead_letter.rs";
            resource: "resource.rs";
            stats: "stats.rs";
            stats_outage: "stats_outage.rs";
            cost: "cost.rs";
            claim_cost: "claim_cost.rs";
            wake: "wake.rs";
            wake_outage: "wake_outage.rs";
            wake_concurrent: "wake_concurrent.rs";
            claim_peer: "claim_peer.rs";
            claim_wake: "claim_wake.rs";
            outage: "outage.rs";
            inbox: "inbox.rs";
        }
    }

    /// A file of clauses that the test above does not know would hide its clauses from it.
    #[test]
    fn no_file_of_clauses_goes_unread() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clauses");
        let files = |folder: String| -> Vec<String> {
            let entries = std::fs::read_dir(folder).expect("the folder of the clauses");
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
        };
        let known = include_str!("mod.rs");
        for file in files(folder.to_owned()).into_iter().filter(|name| name.contains('.') && name != "mod.rs")
        {
            assert!(known.contains(&format!("\"{file}\"")), "{file} is not read by the test");
        }
        for group in ["claim", "store"] {
            for file in files(format!("{folder}/{group}")).into_iter().filter(|name| name != "mod.rs") {
                assert!(
                    known.contains(&format!("\"{group}/{file}\"")),
                    "{group}/{file} is not read by the test"
                );
            }
        }
    }
}

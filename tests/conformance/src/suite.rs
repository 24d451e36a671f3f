//! The list of the properties, as tests.

/// Makes one test of each property. The first argument is an expression that makes the harness, and may await; a
/// second one, `ignore = "needs etcd: make test"`, has the tests ignored unless they are asked for.
///
/// The file that calls it needs `tokio` with the features `macros` and `rt-multi-thread`.
///
/// ```text
/// // tests/conformance.rs of a backend. `MyHarness` is a `Harness`; it starts a server, say, and knows how to break it.
/// callboard_conformance::suite!(MyHarness::start().await, ignore = "needs my registry");
/// ```
// It is a macro because only a macro can make tests that are listed, run and reported one by one.
#[macro_export]
macro_rules! suite {
    ($harness:expr $(, ignore = $why:literal)?) => {
        $crate::suite! {
            @each ($harness) [$(#[ignore = $why])?]
            a_registered_instance_is_seen
            an_update_is_seen_in_place
            a_revoked_instance_is_gone
            a_dead_instance_is_gone_within_its_time_to_live
            a_live_instance_outlasts_its_time_to_live
            an_error_says_where
            a_refused_change_leaves_what_is_there
            a_lease_outlasts_changes_that_fail_or_are_dropped
            the_first_set_is_complete_and_comes_even_if_empty
            sets_are_complete_after_a_burst
            five_hundred_instances_are_seen
            names_and_metadata_come_back_as_they_were
            garbage_beside_good_records_is_skipped
            services_with_a_common_prefix_do_not_mix
            unreadable_records_are_not_an_empty_set
            many_services_share_one_client
            a_newer_incarnation_takes_over
            an_older_incarnation_is_refused
            the_same_incarnation_may_register_again
            what_failed_claims_leave_behind_harms_no_successor
            a_dead_newer_incarnation_is_waited_for
            of_two_equal_announcements_the_later_stays
            a_record_under_another_key_takes_nobodys_place
            a_record_of_the_far_future_takes_no_place
            a_registry_that_comes_late
            a_registry_that_is_killed_and_restarted
            a_registry_that_is_paused
            a_registry_that_is_wiped
            who_leaves_during_an_outage_stays_away
            an_entry_deleted_by_hand_comes_back
            a_lease_ended_by_hand_is_made_again
            a_lost_entry_is_noticed_by_its_lease
            a_dropped_watch_leaves_nothing
            a_client_outlasts_the_runtime_that_made_it
            a_config_is_seen_changed_and_removed
            a_config_put_by_hand_is_seen
            garbage_for_a_config_costs_nothing_else
            a_config_outlasts_its_writer_and_an_outage
        }
    };
    (@each ($harness:expr) $ignored:tt $($property:ident)*) => {
        $($crate::suite! { @one ($harness) $ignored $property })*
    };
    (@one ($harness:expr) [$(#[$ignored:meta])?] $property:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$ignored])?
        async fn $property() {
            let harness = $harness;
            $crate::$property(&harness).await;
        }
    };
}

/// Makes one test of each property of a backend whose registry asks who may do what: of a harness that is
/// [`Rights`](crate::Rights). The arguments are those of [`suite!`].
#[macro_export]
macro_rules! suite_of_rights {
    ($harness:expr $(, ignore = $why:literal)?) => {
        $crate::suite! {
            @each ($harness) [$(#[ignore = $why])?]
            a_right_that_is_taken_away_is_told
        }
    };
}

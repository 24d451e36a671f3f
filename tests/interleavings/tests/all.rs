//! Every model. Each is a test, so that one can be run alone.

use callboard_interleavings::models::{expiry, in_flight, places, publication, throttle, turns, waiting};

#[test]
fn a_place_that_becomes_free_reaches_who_waits() {
    places::a_place_that_becomes_free_reaches_who_waits();
}

#[test]
fn each_place_that_becomes_free_reaches_somebody() {
    places::each_place_that_becomes_free_reaches_somebody();
}

#[test]
fn a_place_given_to_who_is_dropped_goes_to_the_next() {
    places::a_place_given_to_who_is_dropped_goes_to_the_next();
}

#[test]
fn a_place_given_to_who_has_given_up_goes_to_the_next() {
    places::a_place_given_to_who_has_given_up_goes_to_the_next();
}

#[test]
fn who_waits_at_two_takes_one_and_leaves_the_other() {
    places::who_waits_at_two_takes_one_and_leaves_the_other();
}

#[test]
fn who_has_moved_on_is_given_nothing_of_before() {
    places::who_has_moved_on_is_given_nothing_of_before();
}

#[test]
fn places_are_given_in_turn() {
    places::places_are_given_in_turn();
}

#[test]
fn who_waits_is_told_when_the_peer_allows_more() {
    places::who_waits_is_told_when_the_peer_allows_more();
}

#[test]
fn there_are_never_more_than_places() {
    places::there_are_never_more_than_places();
}

#[test]
fn nothing_is_given_on_a_connection_that_is_closed() {
    places::nothing_is_given_on_a_connection_that_is_closed();
}

#[test]
fn who_awaits_a_call_is_woken_at_its_deadline() {
    expiry::who_awaits_a_call_is_woken_at_its_deadline();
}

#[test]
fn a_place_that_comes_at_the_deadline_is_used_or_goes_to_the_next() {
    expiry::a_place_that_comes_at_the_deadline_is_used_or_goes_to_the_next();
}

#[test]
fn a_place_that_comes_for_who_is_not_polled_goes_to_the_next_at_the_deadline() {
    expiry::a_place_that_comes_for_who_is_not_polled_goes_to_the_next_at_the_deadline();
}

#[test]
fn a_place_that_is_kept_is_free_at_the_deadline_or_taken_back() {
    expiry::a_place_that_is_kept_is_free_at_the_deadline_or_taken_back();
}

#[test]
fn a_stream_ends_once_at_its_deadline_or_before() {
    expiry::a_stream_ends_once_at_its_deadline_or_before();
}

#[test]
fn a_stream_that_nobody_polls_ends_at_its_deadline() {
    expiry::a_stream_that_nobody_polls_ends_at_its_deadline();
}

#[test]
fn a_stream_that_begins_at_the_deadline_ends_though_nobody_polls() {
    expiry::a_stream_that_begins_at_the_deadline_ends_though_nobody_polls();
}

#[test]
fn who_waits_for_an_endpoint_hears_of_it() {
    publication::who_waits_for_an_endpoint_hears_of_it();
}

#[test]
fn everybody_who_waits_for_an_endpoint_hears_of_it() {
    publication::everybody_who_waits_for_an_endpoint_hears_of_it();
}

#[test]
fn who_waits_for_a_place_goes_where_the_connection_is_that_follows() {
    publication::who_waits_for_a_place_goes_where_the_connection_is_that_follows();
}

#[test]
fn who_wants_to_know_of_anything_does() {
    publication::who_wants_to_know_of_anything_does();
}

#[test]
fn who_sees_a_config_is_not_told_that_there_is_none() {
    publication::who_sees_a_config_is_not_told_that_there_is_none();
}

#[test]
fn there_are_never_more_than_may_wait() {
    waiting::there_are_never_more_than_may_wait();
}

#[test]
fn who_waits_for_room_hears_of_it() {
    waiting::who_waits_for_room_hears_of_it();
}

#[test]
fn each_turn_is_taken_once() {
    turns::each_turn_is_taken_once();
}

#[test]
fn who_is_overtaken_again_and_again_goes_on_in_a_lane() {
    turns::who_is_overtaken_again_and_again_goes_on_in_a_lane();
}

#[test]
fn no_token_is_lost() {
    throttle::no_token_is_lost();
}

#[test]
fn what_is_in_flight_is_counted_whatever_ends_meanwhile() {
    in_flight::what_is_in_flight_is_counted_whatever_ends_meanwhile();
}

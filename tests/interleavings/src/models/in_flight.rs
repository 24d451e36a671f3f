//! The calls that pickers see an endpoint have.

use loom::thread::spawn;

use super::check;
use crate::endpoint::Endpoint;

/// A call that is in flight is never left out because others start and end meanwhile.
pub fn what_is_in_flight_is_counted_whatever_ends_meanwhile() {
    check(4, || {
        let endpoint = Endpoint::default();
        endpoint.call_started();
        let others = {
            let endpoint = endpoint.clone();
            spawn(move || {
                for _ in 0..2 {
                    endpoint.call_started();
                    endpoint.call_ended();
                }
            })
        };
        assert!(endpoint.in_flight() >= 1, "one is");
        others.join().expect("no thread panics");
        assert_eq!(endpoint.in_flight(), 1);
    });
}

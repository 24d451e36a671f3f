//! The figures of an endpoint.

#[path = "../../../core/src/endpoint/calls.rs"]
mod calls;

use self::calls::Calls;
use crate::sync::Arc;

/// What stands for an endpoint: its calls.
#[derive(Clone, Default)]
pub(crate) struct Endpoint(Arc<Calls>);

impl Endpoint {
    pub(crate) fn call_started(&self) {
        self.0.start();
    }

    pub(crate) fn call_ended(&self) {
        self.0.end();
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }
}

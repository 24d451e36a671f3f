//! Whether and when a failed call is sent again: gRPC's A6, and what the caller permits.

mod policy;
mod pushback;
mod state;

pub(super) use self::pushback::Pushback;
pub(super) use self::state::Retries;

//! Whether and when a failed call is sent again: gRPC's A6, and what the caller permits.

mod by_policy;
mod decide;
mod pushback;

pub(super) use self::decide::Retries;
pub(super) use self::pushback::Pushback;

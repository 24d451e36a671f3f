//! Whether a call that has failed is sent again, and when: gRPC's A6, and what the caller permits.

mod policy;
mod pushback;
mod state;

pub(super) use self::pushback::Pushback;
pub(super) use self::state::Retries;

//! Choosing the endpoint for one call.

use std::fmt;
use std::sync::Arc;

use super::{Call, CallMetadata, Member, Outcome};
use crate::Status;

/// Chooses the endpoint for one call.
///
/// A picker is made for one set of members and never changes it. When the set or the ready members change, the channel
/// makes a new picker. It is called from many tasks at once, for every call. So it must never block, and must hold a
/// lock for a few instructions at most.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Chooses the member for a call. It should not choose a member that the call [avoids](Call::avoids) while there is
    /// another one.
    fn pick(&self, call: &Call<'_>) -> Pick;

    /// Reports the outcome of a pick: once for each pick that named a member to send the call to, used or not. It may
    /// be called long after the picker was replaced. So a picker may increment a counter in `pick` and decrement it
    /// here. A pick is not [used](Outcome::used) if the endpoint had no free stream, or the deadline had passed. Each
    /// attempt of a call has a pick of its own.
    fn done(&self, picked: Member, outcome: &Outcome) {
        let _ = (picked, outcome);
    }
}

/// What a picker decides about a call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// Send the call to this member. If the member is not ready, the call waits for a change. If it is of another set,
    /// the call fails with `INTERNAL`.
    To(Member),
    /// The same, with metadata from the balancer.
    With(Member, Arc<CallMetadata>),
    /// Connect this member, and ask again when there is a new picker. The call waits until its deadline. It is for
    /// balancers that do not connect [all](super::Connect::All) members. If the member is being connected already, no
    /// other attempt is made.
    Connect(Member),
    /// Ask again when there is a new picker. The call waits until its deadline.
    Wait,
    /// Fail the call with this status, unless it waits for ready. Then ask again when there is a new picker.
    Fail(Status),
    /// Fail the call with this status, whether or not it waits for ready.
    Drop(Status),
}

impl Pick {
    /// The member that the call is sent to. None if it is not sent now.
    pub fn member(&self) -> Option<Member> {
        match self {
            Self::To(member) | Self::With(member, _) => Some(*member),
            _ => None,
        }
    }
}

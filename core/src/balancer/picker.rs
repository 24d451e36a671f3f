//! Choosing the endpoint for one call.

use std::fmt;
use std::sync::Arc;

use super::{Call, CallMetadata, Member, Outcome};
use crate::Status;

/// Chooses the endpoint for one call.
///
/// A picker is made for one set of members and never changes it; when the set or the ready members change, the channel
/// makes a new one. It is called from many tasks at once, for every call: it never blocks, and holds a lock, if it must,
/// for a handful of instructions.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Chooses. What the call [avoids](Call::avoids) is not to be chosen while there is anything else.
    fn pick(&self, call: &Call<'_>) -> Pick;

    /// Says what has become of a pick: once for each that named a member to send the call to, used or not, and perhaps
    /// long after a newer picker has come. So a picker may count in one method what it uncounts in the other. A pick is
    /// not [used](Outcome::used) if the endpoint had no free place, or the call's time was up. A call that is sent again
    /// is picked for again.
    fn done(&self, picked: Member, outcome: &Outcome) {
        let _ = (picked, outcome);
    }
}

/// What a picker says of a call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// Send it to this member. One that is not ready makes the call wait for news; one of another set fails it with
    /// `INTERNAL`.
    To(Member),
    /// The same, with metadata of the balancer's own.
    With(Member, Arc<CallMetadata>),
    /// Connect this member, and ask again when there is a new picker; the call waits, within its deadline. It is for
    /// balancers that do not connect [all](super::Connect::All); one that is being connected is no reason for another
    /// attempt.
    Connect(Member),
    /// Ask again when there is a new picker; the call waits, within its deadline.
    Wait,
    /// Fail the call with this status, unless it is to wait for ready: then ask again when there is a new picker.
    Fail(Status),
    /// Fail the call with this status, whether or not it would wait.
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

//! What a picker sees of a call.

use http::{Extensions, HeaderMap};

use super::{Member, Members};
use crate::{Address, Endpoint};

/// What a picker sees of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    path: &'a str,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    avoid: Avoid<'a>,
    asked_again: bool,
    previous_attempts: u32,
}

/// The members that a call should avoid.
#[derive(Clone, Copy, Debug, Default)]
struct Avoid<'a> {
    /// The channel's endpoints.
    endpoints: &'a [Endpoint],
    /// The addresses at which it has failed.
    failed: &'a [Address],
    /// The members without a free stream.
    full: &'a [Member],
}

impl<'a> Call<'a> {
    /// Describes a call. Used by the channel, and by tests of pickers.
    pub fn new(path: &'a str, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        let avoid = Avoid::default();
        Self { path, headers, extensions, avoid, asked_again: false, previous_attempts: 0 }
    }

    /// The same call, which has failed at these addresses. `members` are those that the picker was made with. Used by
    /// the channel, and by tests of pickers.
    #[must_use]
    pub fn failed_at(mut self, members: &'a Members, failed: &'a [Address]) -> Self {
        (self.avoid.endpoints, self.avoid.failed) = (members.endpoints(), failed);
        self
    }

    /// The same call, which finds no free stream at these members. Used by the channel, and by tests of pickers.
    #[must_use]
    pub fn no_place_at(mut self, full: &'a [Member]) -> Self {
        self.avoid.full = full;
        self
    }

    /// The same call, asked for once more because the pick for it cannot be used. Used by the channel, and by tests of
    /// pickers.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.asked_again = true;
        self
    }

    /// The same call after so many attempts that have failed. Used by the channel, and by tests of pickers.
    #[must_use]
    pub fn after_attempts(mut self, made: u32) -> Self {
        self.previous_attempts = made;
        self
    }

    /// Whether the picker is asked once more because its last pick for this call cannot be used, for instance because
    /// the endpoint has no free stream. A picker that counts calls, for instance to drop a share of them, should not
    /// count the call again then.
    pub fn is_asked_again(&self) -> bool {
        self.asked_again
    }

    /// How many attempts of this call have failed before: 0 for most.
    pub fn previous_attempts(&self) -> u32 {
        self.previous_attempts
    }

    /// Whether the call avoids any member. Nearly always it avoids none, and a picker need not check
    /// [`avoids`](Self::avoids).
    pub fn avoids_any(&self) -> bool {
        !self.avoid.failed.is_empty() || !self.avoid.full.is_empty()
    }

    /// Whether the call should go to another member: it has failed at this one, or this one has no free stream. A
    /// picker that has no other member may still choose it. The call is then sent there again, or waits for a free
    /// stream.
    pub fn avoids(&self, member: Member) -> bool {
        let Avoid { endpoints, failed, full } = self.avoid;
        let has_failed = |endpoint: &Endpoint| failed.contains(endpoint.instance().address());
        full.contains(&member) || !failed.is_empty() && endpoints.get(member.index()).is_some_and(has_failed)
    }

    /// The method's path: `/package.Service/Method`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The request's headers: its ASCII and binary metadata.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// A value that the caller has put into the request's extensions.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.extensions.get()
    }
}

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

/// Where a call had better not go.
#[derive(Clone, Copy, Debug, Default)]
struct Avoid<'a> {
    /// The channel's endpoints.
    endpoints: &'a [Endpoint],
    /// Where it has failed.
    failed: &'a [Address],
    /// Which of them have no free place now.
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

    /// The same call, which finds no place at these members. Used by the channel, and by tests of pickers.
    #[must_use]
    pub fn no_place_at(mut self, full: &'a [Member]) -> Self {
        self.avoid.full = full;
        self
    }

    /// The same call, asked for once more because what was picked for it will not do. Used by the channel, and by tests of
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

    /// Whether the picker is asked once more because what it has just picked for this call will not do, such as an
    /// endpoint without a free place. What is counted once for each call, such as a share of calls that are dropped,
    /// is not counted then.
    pub fn is_asked_again(&self) -> bool {
        self.asked_again
    }

    /// How many attempts of this call have failed before: 0 for most.
    pub fn previous_attempts(&self) -> u32 {
        self.previous_attempts
    }

    /// Whether there is anything that the call had better not be given to. Nearly always there is not: a picker need not
    /// look at [`avoids`](Self::avoids) then.
    pub fn avoids_any(&self) -> bool {
        !self.avoid.failed.is_empty() || !self.avoid.full.is_empty()
    }

    /// Whether the call had better go to another member than this one: it has failed there, or there is no free place. A
    /// picker that has nothing else to choose may choose it all the same: the call is then sent there again, or waits for
    /// a place.
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

    /// A value of the caller's own, as it was put into the request's extensions.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.extensions.get()
    }
}

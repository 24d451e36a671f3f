//! The endpoints that a balancer chooses from.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use crate::{ConnectivityState, Endpoint};

/// Identifies one endpoint among [`Members`]: the same one in every view of them.
///
/// It is valid only for the set that it comes from: a picker keeps members of the set that it was made with. State that
/// shall outlast a change of the set is kept [on the endpoint](Endpoint::attribute).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(u32);

impl Member {
    fn at(index: usize) -> Self {
        // A channel bounds how many instances it uses far below this.
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Its index among all endpoints of the channel, in the registry's order. Used by the channel, and by tests of
    /// pickers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A snapshot of all endpoints of a channel, in the registry's order, and of which ones are ready.
///
/// It can be [narrowed](Self::subset) for a child. Cloning and narrowing are cheap, because the endpoints are shared.
///
/// ```
/// use callboard_core::{ConnectivityState, Endpoint, Instance, Members};
///
/// let endpoint = |id: &str, port| -> callboard_core::Result<Endpoint> {
///     Ok(Endpoint::new(Instance::new(id, callboard_core::Address::tcp("10.0.0.7", port)?)?))
/// };
/// let (a, b) = (endpoint("a", 1)?, endpoint("b", 2)?);
/// b.set_state(ConnectivityState::Ready);
/// let members = Members::new([a, b]);
/// let ready: Vec<_> = members.ready().iter().map(|member| members[*member].instance().id()).collect();
/// assert_eq!((members.len(), ready), (2, vec!["b"]));
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Members {
    /// The endpoints of the whole channel, whatever the view.
    endpoints: Arc<[Endpoint]>,
    /// The members in this view. None for all.
    view: Option<Arc<[Member]>>,
    /// The members in this view that are ready.
    ready: Arc<[Member]>,
}

impl Members {
    /// Makes a set of these endpoints. Those whose state is `READY` now are ready. Used by the channel, and by tests of
    /// balancers.
    pub fn new(endpoints: impl Into<Arc<[Endpoint]>>) -> Self {
        let endpoints = endpoints.into();
        let ready = |(_, endpoint): &(usize, &Endpoint)| endpoint.state() == ConnectivityState::Ready;
        let ready = endpoints.iter().enumerate().filter(ready).map(|(index, _)| Member::at(index)).collect();
        Self { endpoints, view: None, ready }
    }

    /// The number of members in this view.
    pub fn len(&self) -> usize {
        self.view.as_ref().map_or(self.endpoints.len(), |view| view.len())
    }

    /// Whether this view has no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of this view, in the registry's order.
    pub fn iter(&self) -> impl Iterator<Item = Member> {
        let view = self.view.as_deref();
        (0..self.len()).map(move |index| view.map_or_else(|| Member::at(index), |view| view[index]))
    }

    /// The ready members of this view, in the same order.
    pub fn ready(&self) -> &Arc<[Member]> {
        &self.ready
    }

    /// The endpoint of a member, in this view or not. None if the index is beyond this set.
    pub fn get(&self, member: Member) -> Option<&Endpoint> {
        self.endpoints.get(member.index())
    }

    /// The endpoints of the whole channel, whatever the view.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The view of those members of this view for which `keep` holds.
    #[must_use]
    pub fn subset(&self, mut keep: impl FnMut(Member) -> bool) -> Self {
        let view: Arc<[Member]> = self.iter().filter(|member| keep(*member)).collect();
        // Both are in the same order, so one pass is enough.
        let mut left = view.iter().peekable();
        let ready = self.ready.iter().copied().filter(|member| {
            while left.next_if(|kept| *kept < member).is_some() {}
            left.next_if(|kept| *kept == member).is_some()
        });
        let ready = ready.collect();
        Self { endpoints: Arc::clone(&self.endpoints), view: Some(view), ready }
    }

    /// All members of this view, of which only those ready ones for which `keep` holds count as ready. For a wrapper
    /// that keeps calls away from an endpoint but not its connection.
    #[must_use]
    pub fn ready_if(&self, mut keep: impl FnMut(Member) -> bool) -> Self {
        let ready = self.ready.iter().copied().filter(|member| keep(*member)).collect();
        Self { ready, ..self.clone() }
    }
}

impl Index<Member> for Members {
    type Output = Endpoint;

    /// # Panics
    /// If the index is beyond this set.
    fn index(&self, member: Member) -> &Endpoint {
        &self.endpoints[member.index()]
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("count", &self.len()).field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Instance};

    fn members(ready: &[bool]) -> Members {
        let endpoint = |(index, ready): (usize, &bool)| {
            let address = Address::tcp("10.0.0.7", index as u16 + 1).expect("an address");
            let endpoint = Endpoint::new(Instance::new(index.to_string(), address).expect("an id"));
            endpoint.set_state(if *ready { ConnectivityState::Ready } else { ConnectivityState::Idle });
            endpoint
        };
        Members::new(ready.iter().enumerate().map(endpoint).collect::<Vec<_>>())
    }

    fn ids(members: &Members, of: impl IntoIterator<Item = Member>) -> Vec<String> {
        of.into_iter().map(|member| members[member].instance().id().to_owned()).collect()
    }

    #[test]
    fn a_member_is_the_same_in_every_view() {
        let all = members(&[true, false, true, true, false]);
        assert_eq!(ids(&all, all.ready().iter().copied()), ["0", "2", "3"]);
        let odd = all.subset(|member| all[member].instance().id() != "0");
        let late = odd.subset(|member| all[member].instance().id() > "1");
        assert_eq!((ids(&all, late.iter()), late.len()), (vec!["2".into(), "3".into(), "4".into()], 3));
        assert_eq!(ids(&all, late.ready().iter().copied()), ["2", "3"]);
        let kept = late.ready_if(|member| all[member].instance().id() != "2");
        assert_eq!((kept.len(), ids(&late, kept.ready().iter().copied())), (3, vec!["3".to_owned()]));
        let none = kept.subset(|_| false);
        assert!(none.is_empty() && none.ready().is_empty());
    }
}

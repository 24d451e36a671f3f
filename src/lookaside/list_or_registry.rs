//! When a balancer's list decides, and when the registry does.

use std::sync::Arc;

use callboard_core::{Address, Error};

use super::list::List;
use super::status::{Decides, FallbackReason, Lookaside};

/// An event on a stream to a balancer.
#[derive(Debug)]
pub(super) enum News {
    /// The stream has begun: the balancer has answered.
    Begun(Address),
    List(Arc<List>),
    /// The balancer requests fallback.
    Fallback,
    /// The stream has ended, or could not begin.
    Lost(Error),
    /// No balancer can be connected. Attempts go on.
    Unreachable(Error),
}

/// What decides, and the last events. It involves no time and no I/O.
#[derive(Debug)]
pub(super) struct Decision {
    decides: Who,
    balancer: Option<Address>,
    /// Set from the end of a stream until the next one begins.
    lost: bool,
    /// Set once no balancer could be connected, until the next stream begins.
    unreachable: bool,
    error: Option<Error>,
}

#[derive(Debug)]
enum Who {
    Nobody,
    List(Arc<List>),
    Registry(FallbackReason),
}

impl Decision {
    /// `in_use` says that calls go to the registry's backends already. They do so until there is a list.
    pub(super) fn new(in_use: bool) -> Self {
        let decides = if in_use { Who::Registry(FallbackReason::FirstList) } else { Who::Nobody };
        Self { decides, balancer: None, lost: false, unreachable: false, error: None }
    }

    /// Applies an event of a stream.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Begun(address) => {
                (self.balancer, self.error) = (Some(address), None);
                (self.lost, self.unreachable) = (false, false);
            }
            News::Lost(error) => (self.balancer, self.lost, self.error) = (None, true, Some(error)),
            News::Unreachable(error) => (self.unreachable, self.error) = (true, Some(error)),
            News::Fallback => self.fall_back(FallbackReason::Asked),
            News::List(list) => {
                // An equal list is ignored, so that picks keep their position.
                match self.list() {
                    Some(known) if known.same_as(&list) => return,
                    Some(_) => tracing::debug!(%list, "a balancer's list has changed"),
                    None => tracing::info!(%list, "a balancer's list decides"),
                }
                self.decides = Who::List(list);
            }
        }
    }

    /// Notes that the time for the first list is over. Later calls have no effect.
    pub(super) fn first_list_is_late(&mut self) {
        if matches!(self.decides, Who::Nobody) {
            self.fall_back(FallbackReason::Timeout);
        }
    }

    /// Checks whether there is still a balancer to wait for, or a useful list without one. True if the registry decides
    /// from here on.
    pub(super) fn note_ready(&mut self, any_ready: bool, backends: impl FnOnce() -> bool) -> bool {
        let reason = match &self.decides {
            Who::Registry(_) => return false,
            // As in gRPC's C-core: if every attempt has failed, calls do not wait.
            Who::Nobody if self.unreachable => FallbackReason::Unreachable,
            _ if self.lost => FallbackReason::Lost,
            _ => return false,
        };
        // Without backends there is nothing to fall back to, so waiting for a list is better.
        let falls_back = !any_ready && backends();
        if falls_back {
            self.fall_back(reason);
        }
        falls_back
    }

    fn fall_back(&mut self, reason: FallbackReason) {
        if !matches!(&self.decides, Who::Registry(known) if *known == reason) {
            tracing::warn!(%reason, "fallback: the registry's backends are used, without a balancer");
        }
        self.decides = Who::Registry(reason);
    }

    pub(super) fn waits_for_first_list(&self) -> bool {
        matches!(self.decides, Who::Nobody)
    }

    /// The connected balancer.
    pub(super) fn balancer(&self) -> Option<&Address> {
        self.balancer.as_ref()
    }

    /// The list that decides, if one does.
    pub(super) fn list(&self) -> Option<&Arc<List>> {
        match &self.decides {
            Who::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> Lookaside {
        let decides = match &self.decides {
            Who::Nobody => Decides::Nobody,
            Who::Registry(reason) => Decides::Fallback(*reason),
            Who::List(list) => Decides::Balancer {
                servers: list.servers().len(),
                entries: list.entries().len(),
                drops: list.drops(),
                skipped: list.skipped(),
            },
        };
        Lookaside { decides, balancer: self.balancer.clone(), error: self.error.clone() }
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::ErrorKind;

    use super::*;
    use crate::lookaside::subset::Subset;
    use crate::lookaside::v1::Server;

    fn list(port: u16) -> News {
        let said = [Server::at(([127, 0, 0, 1], port).into(), "")];
        News::List(Arc::new(List::read(&said, &Arc::default(), Subset::to(10)).expect("a list")))
    }

    fn begun() -> News {
        News::Begun("127.0.0.1:1".parse().expect("an address"))
    }

    fn lost() -> News {
        News::Lost(Error::new(ErrorKind::Unavailable, "gone"))
    }

    fn decision(news: impl IntoIterator<Item = News>) -> Decision {
        let mut decision = Decision::new(false);
        news.into_iter().for_each(|news| decision.take(news));
        decision
    }

    fn reason(decision: &Decision) -> Option<FallbackReason> {
        match decision.decides {
            Who::Registry(reason) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn the_registry_decides_when_the_first_list_is_late_and_only_then() {
        let mut late = decision([begun()]);
        late.first_list_is_late();
        assert_eq!(reason(&late), Some(FallbackReason::Timeout));
        late.take(list(1));
        assert_eq!(reason(&late), None);
        late.first_list_is_late();
        assert_eq!(reason(&late), None);
    }

    #[test]
    fn a_list_outlives_its_balancer_as_long_as_one_of_its_servers_is_ready() {
        let mut decision = decision([begun(), list(1)]);
        assert!(!decision.note_ready(false, || true), "the balancer is there");
        decision.take(lost());
        assert!(!decision.note_ready(true, || true));
        assert!(decision.list().is_some() && decision.status().balancer.is_none());
        assert!(!decision.note_ready(false, || false), "there is nothing to fall back to");
        assert!(decision.note_ready(false, || true));
        assert_eq!(reason(&decision), Some(FallbackReason::Lost));
        decision.take(begun());
        assert_eq!(reason(&decision), Some(FallbackReason::Lost), "a balancer without a list does not decide");
        decision.take(list(1));
        assert!(decision.list().is_some());
    }

    #[test]
    fn a_conversation_that_is_lost_before_the_first_list_need_not_be_waited_for() {
        let mut decision = decision([lost()]);
        assert!(decision.note_ready(false, || true));
    }

    #[test]
    fn a_balancer_that_cannot_be_connected_is_not_waited_for_while_there_are_backends() {
        let mut decision = decision([News::Unreachable(Error::new(ErrorKind::Unavailable, "refused"))]);
        assert!(
            !decision.note_ready(false, || false) && decision.waits_for_first_list(),
            "there is nothing to fall back to"
        );
        assert!(decision.note_ready(false, || true));
        assert_eq!(reason(&decision), Some(FallbackReason::Unreachable));
        assert!(decision.status().error.is_some());
        decision.take(begun());
        assert!(decision.status().error.is_none());
        assert_eq!(reason(&decision), Some(FallbackReason::Unreachable), "a balancer without a list does not decide");
        decision.take(list(1));
        assert!(decision.list().is_some());
    }

    #[test]
    fn a_balancer_can_ask_for_fallback_and_end_it_with_the_same_list() {
        let mut decision = decision([begun(), list(1), News::Fallback]);
        assert_eq!(reason(&decision), Some(FallbackReason::Asked));
        decision.take(list(1));
        assert!(decision.list().is_some());
    }

    #[test]
    fn a_list_that_says_the_same_is_ignored() {
        let mut decision = decision([begun(), list(1)]);
        let before = Arc::clone(decision.list().expect("a list"));
        decision.take(list(1));
        assert!(Arc::ptr_eq(&before, decision.list().expect("a list")));
        decision.take(list(2));
        assert!(!Arc::ptr_eq(&before, decision.list().expect("a list")));
    }

    #[test]
    fn backends_that_are_in_use_stay_so_until_there_is_a_list() {
        let mut decision = Decision::new(true);
        assert_eq!(reason(&decision), Some(FallbackReason::FirstList));
        decision.take(list(1));
        assert_eq!(reason(&decision), None);
    }
}

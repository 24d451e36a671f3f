//! The last known state of a claim's node.

use zookeeper_client as zk;

/// What tells a node from every other one that has had, or will have, its path: when it was made, and how often it has
/// been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) made: i64,
    pub(super) version: i32,
}

impl Mark {
    pub(super) fn of(stat: &zk::Stat) -> Self {
        Self { made: stat.czxid, version: stat.version }
    }
}

/// The node as it was last, and the writes since then whose answers are not known.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeState {
    /// The node as it was last. None if it was not there.
    last: Option<Mark>,
    /// Whether it was this claim that left it so.
    ours: bool,
    /// Records that may have been written since, or may yet be written.
    unconfirmed: Vec<Vec<u8>>,
}

impl NodeState {
    /// Notes that another's node is there, which is about to be written or replaced.
    pub(super) fn found(&mut self, mark: Mark) {
        (self.last, self.ours) = (Some(mark), false);
    }

    /// Notes that this record is about to be sent.
    pub(super) fn sending(&mut self, data: &[u8]) {
        if !self.unconfirmed.iter().any(|sent| sent == data) {
            self.unconfirmed.push(data.to_vec());
        }
    }

    /// Notes that a record was written, and that this is the node since then. Other writes that were sent were for the
    /// node before, and cannot take effect any more.
    pub(super) fn written(&mut self, mark: Mark) {
        *self = Self { last: Some(mark), ours: true, unconfirmed: Vec::new() };
    }

    /// Notes that this record was refused.
    pub(super) fn refused(&mut self, data: &[u8]) {
        self.unconfirmed.retain(|sent| sent != data);
    }

    /// The node as this claim has left it, if it has.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.last.filter(|_| self.ours)
    }

    /// Whether this claim may have left anything.
    pub(super) fn is_nothing(&self) -> bool {
        !self.ours && self.unconfirmed.is_empty()
    }

    /// Whether the node was made by this claim, whoever has written it since.
    pub(super) fn made(&self, mark: Mark) -> bool {
        self.mark().is_some_and(|ours| ours.made == mark.made)
    }

    /// Whether the node is the result of a write that is not confirmed. Each write is sent on the condition that
    /// nothing has changed the node as it was last.
    pub(super) fn is_unconfirmed(&self, mark: Mark, data: &[u8]) -> bool {
        let follows = |last: Mark| last.made != mark.made || last.version + 1 == mark.version;
        self.last.is_none_or(follows) && self.unconfirmed.iter().any(|sent| sent == data)
    }
}

/// Whether a write may have taken effect in spite of this error, or may yet.
pub(super) fn may_have_taken_effect(answer: &zk::Error) -> bool {
    use zk::Error::{BadArguments, BadVersion, InvalidAcl, NoAuth, NoNode, NodeExists, QuotaExceeded, Throttled};
    !matches!(
        answer,
        BadArguments(_) | BadVersion | InvalidAcl | NoAuth | NoNode | NodeExists | QuotaExceeded | Throttled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconfirmed_writes_are_told_from_those_of_others() {
        let mark = |made, version| Mark { made, version };
        let mut state = NodeState::default();
        assert!(state.is_nothing());
        state.found(mark(1, 4));
        state.sending(b"one");
        assert!(state.mark().is_none() && !state.is_nothing());
        assert!(state.is_unconfirmed(mark(1, 5), b"one"), "written");
        assert!(state.is_unconfirmed(mark(2, 1), b"one"), "replaced");
        assert!(!state.is_unconfirmed(mark(1, 5), b"two") && !state.is_unconfirmed(mark(1, 6), b"one"), "another's");
        state.written(mark(1, 5));
        assert!(state.made(mark(1, 9)) && !state.made(mark(2, 5)));
        state.sending(b"two");
        state.refused(b"two");
        assert!(!state.is_unconfirmed(mark(1, 6), b"two"));
    }
}

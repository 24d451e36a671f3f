//! What a claim knows of its node.

use zookeeper_client as zk;

/// What tells a node from each other one that has had, or will have, its path: when it was made, and how often it has
/// been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) made: i64,
    pub(crate) version: i32,
}

impl Mark {
    pub(crate) fn of(stat: &zk::Stat) -> Self {
        Self { made: stat.czxid, version: stat.version }
    }
}

/// The node as it was last, and what was asked for since without an answer that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The node as it was last. None if it was not there.
    last: Option<Mark>,
    /// Whether it was this claim that left it so.
    ours: bool,
    /// Records that may have been written since, or may yet be.
    halfway: Vec<Vec<u8>>,
}

impl Known {
    /// Another's node is there, which is about to be written or replaced.
    pub(crate) fn found(&mut self, mark: Mark) {
        (self.last, self.ours) = (Some(mark), false);
    }

    /// This record is about to be sent.
    pub(crate) fn asked(&mut self, data: &[u8]) {
        if !self.halfway.iter().any(|asked| asked == data) {
            self.halfway.push(data.to_vec());
        }
    }

    /// It was written, and this is the node since then. Whatever else was asked for was meant for the node before.
    pub(crate) fn written(&mut self, mark: Mark) {
        *self = Self { last: Some(mark), ours: true, halfway: Vec::new() };
    }

    /// This record was refused.
    pub(crate) fn refused(&mut self, data: &[u8]) {
        self.halfway.retain(|asked| asked != data);
    }

    /// The node as this claim has left it, if it has.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.last.filter(|_| self.ours)
    }

    /// Whether this claim may have left anything.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.ours && self.halfway.is_empty()
    }

    /// Whether the node was made by this claim, whoever has written it since.
    pub(crate) fn made(&self, mark: Mark) -> bool {
        self.mark().is_some_and(|ours| ours.made == mark.made)
    }

    /// Whether it is what a record that was asked for has made of the node as it was last: each is sent with the
    /// condition that nothing else has come between.
    pub(crate) fn is_halfway(&self, mark: Mark, data: &[u8]) -> bool {
        let follows = |last: Mark| last.made != mark.made || last.version + 1 == mark.version;
        self.last.is_none_or(follows) && self.halfway.iter().any(|asked| asked == data)
    }
}

/// Whether a write may have taken effect in spite of this answer, or may yet.
pub(crate) fn is_doubtful(answer: &zk::Error) -> bool {
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
    fn what_was_written_half_way_is_told_from_what_others_wrote() {
        let mark = |made, version| Mark { made, version };
        let mut known = Known::default();
        assert!(known.is_nothing());
        known.found(mark(1, 4));
        known.asked(b"one");
        assert!(known.mark().is_none() && !known.is_nothing());
        assert!(known.is_halfway(mark(1, 5), b"one"), "written");
        assert!(known.is_halfway(mark(2, 1), b"one"), "replaced");
        assert!(!known.is_halfway(mark(1, 5), b"two") && !known.is_halfway(mark(1, 6), b"one"), "another's");
        known.written(mark(1, 5));
        assert!(known.made(mark(1, 9)) && !known.made(mark(2, 5)));
        known.asked(b"two");
        known.refused(b"two");
        assert!(!known.is_halfway(mark(1, 6), b"two"));
    }
}

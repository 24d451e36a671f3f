//! What is published, and what counts calls that fail.

#[path = "../../../src/config/throttle.rs"]
mod throttle;

use callboard_core::RetryThrottling;

use crate::sync::Arc;
use crate::transport::Connection;

use self::throttle::Throttle;

/// A full bucket of a config.
pub(crate) fn throttle(says: RetryThrottling) -> Arc<Throttle> {
    Throttle::renewed(None, says)
}

#[path = "../../../src/control/publication.rs"]
pub(crate) mod publication;
/// What the publication is of.
mod state {
    pub(crate) use super::{Published, Since};
}
#[path = "../../../src/control/waiting.rs"]
pub(crate) mod waiting;

/// What stands for everything that a call needs to know.
#[derive(Debug)]
pub(crate) struct Published {
    /// Where calls can be sent.
    pub(crate) connection: Option<Arc<Connection>>,
    pub(crate) unruled: bool,
    /// What is new in it.
    pub(crate) since: Since,
}

impl Published {
    pub(crate) fn is_unruled(&self) -> bool {
        self.unruled
    }

    pub(crate) fn since(&self, _: &Self) -> Since {
        self.since
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    Alike,
    Renewed,
    Moved,
}

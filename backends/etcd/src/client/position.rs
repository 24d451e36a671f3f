//! A position in etcd's history.

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::proto::{PbRangeResponse, PbResponseHeader};

/// A revision of one cluster: which state of etcd an answer describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
}

impl Position {
    pub(crate) fn of(header: &PbResponseHeader) -> Self {
        Self { cluster: header.cluster_id, revision: header.revision }
    }

    /// # Errors
    /// The answer has no header.
    pub(crate) fn of_range(answer: &PbRangeResponse) -> Result<Self> {
        let missing = || Error::new(ErrorKind::Unavailable, "etcd's answer does not say its revision");
        answer.header.as_ref().map(Self::of).ok_or_else(missing)
    }
}

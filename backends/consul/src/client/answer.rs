//! What the agent answers.

use bytes::Bytes;
use callboard_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use crate::error::refusal;

/// An answer of the agent, good or not.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `X-Consul-Index`. Of no meaning in a refusal.
    pub(crate) index: Option<u64>,
    /// `X-Consul-ContentHash`, of an agent's own entries.
    pub(crate) hash: Option<String>,
    /// Whether Consul has left out entries that the token may not see. It does not always tell.
    pub(crate) filtered: bool,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The answer, if it is a good one.
    pub(crate) fn good(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// Whether it is refused because Consul's servers have no leader.
    pub(crate) fn lacks_a_leader(&self) -> bool {
        const TEXT: &[u8] = b"No cluster leader";
        self.status == StatusCode::INTERNAL_SERVER_ERROR && self.body.windows(TEXT.len()).any(|part| part == TEXT)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the answer is not what Consul's agent answers").with_source(error)
        })
    }

    /// What the refusal means to the caller.
    pub(crate) fn refusal(&self) -> Error {
        refusal(self.status, &self.body)
    }
}

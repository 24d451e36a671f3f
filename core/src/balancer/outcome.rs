//! How a call went.

use std::time::Duration;

use crate::{Code, Load};

/// What has become of a pick.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The status that the call ended with. `CANCELLED` if the caller went away before its end, or if the pick was not
    /// used.
    pub code: Code,
    /// Whether the call took a place at the endpoint that was picked. If not, nothing else here counts.
    pub used: bool,
    /// Whether the request was sent to the endpoint: it may have been processed there.
    pub sent: bool,
    /// Whether anything was received from the endpoint: a response's head, at least.
    pub received: bool,
    /// How many bytes of the request's messages were sent, with their gRPC frames, and without headers.
    pub bytes_sent: u64,
    /// The same of the response.
    pub bytes_received: u64,
    /// From sending the request to the end of the call.
    pub latency: Duration,
    /// What the response has reported of the endpoint's load, and of the call's cost. None if it has not.
    pub load: Option<Load>,
}

impl Outcome {
    /// Of a call that was sent and answered. Used by the channel, and by tests of pickers.
    pub fn new(code: Code, latency: Duration) -> Self {
        let (used, sent, received) = (true, true, true);
        Self { code, used, sent, received, bytes_sent: 0, bytes_received: 0, latency, load: None }
    }

    /// Of a pick that was not used.
    pub fn unused() -> Self {
        let unused = Self::new(Code::Cancelled, Duration::ZERO);
        Self { used: false, sent: false, received: false, ..unused }
    }

    /// The same, with a report.
    #[must_use]
    pub fn load(self, load: Option<Load>) -> Self {
        Self { load, ..self }
    }
}

//! The outcome of a call.

use std::time::Duration;

use crate::{Code, Load};

/// The outcome of a pick.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The status code of the call. `CANCELLED` if the caller dropped the call before its end, or if the pick was not
    /// used.
    pub code: Code,
    /// Whether the call got a stream at the endpoint that was picked. If not, the other fields have no meaning.
    pub used: bool,
    /// Whether the request was sent to the endpoint, so that it may have been processed there.
    pub sent: bool,
    /// Whether anything was received from the endpoint: at least the head of a response.
    pub received: bool,
    /// How many bytes of the request's messages were sent, with gRPC's prefixes and without headers.
    pub bytes_sent: u64,
    /// The same for the response.
    pub bytes_received: u64,
    /// The time from sending the request to the end of the call.
    pub latency: Duration,
    /// The load report of the response: the endpoint's load and the call's cost. None if it has none.
    pub load: Option<Load>,
}

impl Outcome {
    /// The outcome of a call that was sent and answered. Used by the channel, and by tests of pickers.
    pub fn new(code: Code, latency: Duration) -> Self {
        let (used, sent, received) = (true, true, true);
        Self { code, used, sent, received, bytes_sent: 0, bytes_received: 0, latency, load: None }
    }

    /// The outcome of a pick that was not used.
    pub fn unused() -> Self {
        let unused = Self::new(Code::Cancelled, Duration::ZERO);
        Self { used: false, sent: false, received: false, ..unused }
    }

    /// Adds a load report.
    #[must_use]
    pub fn load(self, load: Option<Load>) -> Self {
        Self { load, ..self }
    }
}

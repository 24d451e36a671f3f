//! Why and how a connection ends.

/// Why a connection ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) why: String,
    /// Whether the peer asks for fewer PINGs: GOAWAY(ENHANCE_YOUR_CALM) with "too_many_pings".
    pub(crate) calm: bool,
    pub(crate) parting: Parting,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The peer has ended it in good order: GOAWAY(NO_ERROR).
    Announced,
    /// It was closed or cut.
    #[default]
    Lost,
    /// What the peer has sent is not HTTP/2, or it did not answer a PING.
    Broken,
    /// The peer has flooded this side with frames that carry nothing.
    Flooded,
}

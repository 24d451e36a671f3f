//! The phases of an attempt to connect.

use std::fmt;

/// The phase that an attempt to connect is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The initial phase, and the only one before TLS of a user's connector.
    #[default]
    Connector,
    /// Resolving the host's name.
    Name,
    Tcp,
    Unix,
    Tls,
    Http2,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connector => "connector",
            Self::Name => "DNS",
            Self::Tcp => "TCP",
            Self::Unix => "Unix socket",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
        })
    }
}

impl Phase {
    /// What was missing when the time was over.
    pub(super) fn missing(self) -> &'static str {
        match self {
            Self::Connector => "the connector gave no byte stream",
            Self::Name => "the name was not resolved",
            Self::Tcp => "no connection",
            Self::Unix => "no connection",
            Self::Tls => "the handshake was not finished",
            Self::Http2 => "no SETTINGS that permit a request",
        }
    }
}

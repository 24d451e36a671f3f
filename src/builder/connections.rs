//! How connections are made and kept.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Address, Backoff, BoxError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ChannelBuilder;
#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::transport::{Custom, Keepalive};

impl ChannelBuilder {
    /// The bound of one attempt to connect, up to the server's HTTP/2 SETTINGS. 20 s by default. The error of an attempt
    /// says in which phase it ended: DNS, TCP, TLS or HTTP/2.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// The waits between attempts to connect to one endpoint. gRPC's [`Backoff::CONNECTION`] by default.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many attempts to connect may be under way at once. 100 by default. The others wait for their turn: what was
    /// connected before and was lost first, then who has waited longest, so that addresses where nobody answers, however many
    /// a registry lists, use up neither sockets nor the turns of those that do. A URL says `max_dials=100`.
    ///
    /// With a balancer that connects one endpoint of several (`pick_first`), first attempts keep
    /// to its own pace instead.
    pub fn max_dials(mut self, most: usize) -> Self {
        self.max_dials = most;
        self
    }

    /// How many connections one endpoint may have. 1 by default. A further one is opened when those that there are
    /// have as many calls in flight as the server allows (MAX_CONCURRENT_STREAMS); until then, calls wait for a place.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.most_connections = most;
        self
    }

    /// How long a connection beyond an endpoint's first may be without a call before it is closed: what it was opened for is
    /// over. 1 min by default, as long as .NET's gRPC clients keep theirs (`PooledConnectionIdleTimeout`); below 1 s it
    /// counts as that. It is looked at that often, so it may take twice as long.
    pub fn extra_connection_idle_timeout(mut self, timeout: Duration) -> Self {
        self.extra_idle = timeout.max(Duration::from_secs(1));
        self
    }

    /// When silent connections are asked for a sign of life. See [`Keepalive`] for the default.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.transport.keepalive = keepalive;
        self
    }

    /// How much a server may send on one stream before its reader has taken any of it, in bytes: HTTP/2's
    /// SETTINGS_INITIAL_WINDOW_SIZE. It is also what a stream whose reader is slow may take of memory. By default 2 MiB, from
    /// where it [adapts](Self::http2_adaptive_window); a size that is set, here or for the connection, stays. Below 64 KiB
    /// it counts as that, as in grpc-go; above 2^31 - 1, [`build`](Self::build) fails.
    pub fn initial_stream_window_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.stream_window = size.into();
        self
    }

    /// How much a server may send on all streams of a connection together, in bytes: as much as HTTP/2 allows, 2^31 - 1,
    /// by default. What a reader has not taken counts until it does, so with less, a few slow readers stall all the others.
    /// The bounds are those of [`initial_stream_window_size`](Self::initial_stream_window_size).
    pub fn initial_connection_window_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.connection_window = size.into();
        self
    }

    /// Whether the window of streams grows, up to 16 MiB, with what the path carries: grpc-go's estimate of bandwidth and
    /// delay, for which a PING is sent when much has come. On by default, unless a window is set; if it is turned on, that
    /// does not count.
    pub fn http2_adaptive_window(mut self, enabled: bool) -> Self {
        self.transport.http2.adaptive_window = Some(enabled);
        self
    }

    /// The largest frame that a server may send, in bytes: SETTINGS_MAX_FRAME_SIZE. 16 KiB by default; HTTP/2 permits 2^14 to
    /// 2^24 - 1, else [`build`](Self::build) fails.
    pub fn max_frame_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.frame = size.into();
        self
    }

    /// How much a server's compression of headers may remember, in bytes: SETTINGS_HEADER_TABLE_SIZE. 4 KiB by default, as
    /// HTTP/2 has it.
    pub fn http2_header_table_size(mut self, size: u32) -> Self {
        self.transport.http2.header_table = Some(size);
        self
    }

    /// The largest list of headers or of trailers that a response may have, as RFC 9113 counts it: of each field, name and
    /// value and 32 bytes. 16 MiB by default, as in grpc-go. A response with more fails its call alone, with `INTERNAL`;
    /// nothing is cut silently. One with so many names that no `HeaderMap` holds them, 24,576, does too.
    pub fn http2_max_header_list_size(mut self, size: u32) -> Self {
        self.transport.http2.header_list = Some(size);
        self
    }

    /// How an address becomes a byte stream: a service that dials. TCP and Unix sockets of the system by default. It is
    /// bounded by [`connect_timeout`](Self::connect_timeout), and TLS, if there is any, is put around it. Settings of the
    /// system's sockets ([`tcp_keepalive`](Self::tcp_keepalive), [`local_address`](Self::local_address)) are for the
    /// system's alone: beside a connector they are refused when the channel is built.
    ///
    /// ```
    /// # fn doc(builder: callboard::ChannelBuilder) -> callboard::ChannelBuilder {
    /// use callboard::Address;
    ///
    /// // Whatever the registry says, the sidecar is asked. `service_fn` is tower's.
    /// let dial = tower::service_fn(|_address: Address| tokio::net::UnixStream::connect("/run/sidecar.sock"));
    /// builder.connector(dial)
    /// # }
    /// ```
    pub fn connector<S>(mut self, connector: S) -> Self
    where
        S: tower_service::Service<Address> + Clone + Send + 'static,
        S::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.connector = Some(Arc::new(Custom::new(connector)));
        self
    }

    /// Encrypts the connections. In the clear by default.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

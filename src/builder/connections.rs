//! Settings of connections.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Address, Backoff, BoxError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ChannelBuilder;
#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::transport::{Custom, Keepalive};

impl ChannelBuilder {
    /// Sets how long one attempt to connect may take, up to the server's HTTP/2 SETTINGS. 20 s by default. The error of
    /// an attempt names the phase in which it failed: DNS, TCP, TLS or HTTP/2.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// Sets the waits between attempts to connect to one endpoint. The default is gRPC's [`Backoff::CONNECTION`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how many attempts to connect may run at once. 100 by default. Other endpoints wait for their turn: first
    /// those whose connection was lost, then those that have waited longest. So addresses that do not answer, however
    /// many the registry lists, cannot use up the sockets or the turns of those that do. In a URL: `max_dials=100`.
    ///
    /// With a balancer that connects one endpoint of several (`pick_first`), first attempts follow the balancer's own
    /// pace instead.
    pub fn max_dials(mut self, most: usize) -> Self {
        self.max_dials = most;
        self
    }

    /// Sets how many connections one endpoint may have. 1 by default. Another one is opened when each existing one has
    /// as many calls in flight as the server allows (MAX_CONCURRENT_STREAMS). Until it is open, calls wait for a place.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.most_connections = most;
        self
    }

    /// Sets how long a connection beyond an endpoint's first may be without a call before it is closed. 1 min by
    /// default, as in .NET's gRPC clients (`PooledConnectionIdleTimeout`); less than 1 s counts as 1 s. The check runs
    /// at that interval, so closing may take twice as long.
    pub fn extra_connection_idle_timeout(mut self, timeout: Duration) -> Self {
        self.extra_idle = timeout.max(Duration::from_secs(1));
        self
    }

    /// Sets when a silent connection is checked with a PING. See [`Keepalive`] for the default.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.transport.keepalive = keepalive;
        self
    }

    /// Sets how many bytes a server may send on one stream before its reader has taken any of them: HTTP/2's
    /// SETTINGS_INITIAL_WINDOW_SIZE. This also bounds the memory of a stream whose reader is slow. The default is 2
    /// MiB, which then [adapts](Self::http2_adaptive_window); a size that is set, here or for the connection, is fixed.
    /// Less than 64 KiB counts as 64 KiB, as in grpc-go; above 2^31 - 1, [`build`](Self::build) fails.
    pub fn initial_stream_window_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.stream_window = size.into();
        self
    }

    /// Sets how many bytes a server may send on all streams of a connection together. The default is HTTP/2's maximum,
    /// 2^31 - 1. Bytes count until their reader has taken them, so with less, a few slow readers stall all others. The
    /// bounds are those of [`initial_stream_window_size`](Self::initial_stream_window_size).
    pub fn initial_connection_window_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.connection_window = size.into();
        self
    }

    /// Sets whether the window of streams grows with the path's capacity, up to 16 MiB. This is grpc-go's estimate of
    /// bandwidth and delay; it sends a PING when much data has arrived. On by default, unless a window is set. Turning
    /// it on overrides a window that is set.
    pub fn http2_adaptive_window(mut self, enabled: bool) -> Self {
        self.transport.http2.adaptive_window = Some(enabled);
        self
    }

    /// Sets the largest frame that a server may send, in bytes: SETTINGS_MAX_FRAME_SIZE. 16 KiB by default. HTTP/2
    /// permits 2^14 to 2^24 - 1; [`build`](Self::build) fails for other values.
    pub fn max_frame_size(mut self, size: impl Into<Option<u32>>) -> Self {
        self.transport.http2.frame = size.into();
        self
    }

    /// Sets the size of the table for a server's compression of headers, in bytes: SETTINGS_HEADER_TABLE_SIZE. 4 KiB by
    /// default, as in HTTP/2.
    pub fn http2_header_table_size(mut self, size: u32) -> Self {
        self.transport.http2.header_table = Some(size);
        self
    }

    /// Sets the largest list of headers or trailers that a response may have, as RFC 9113 counts it: name, value and 32
    /// bytes for each field. 16 MiB by default, as in grpc-go. A larger response fails its call alone, with `INTERNAL`;
    /// nothing is cut silently. So does a response with more names than a `HeaderMap` can hold, 24,576.
    pub fn http2_max_header_list_size(mut self, size: u32) -> Self {
        self.transport.http2.header_list = Some(size);
        self
    }

    /// Sets the connector: a service that turns an address into a byte stream. The default is the system's TCP and Unix
    /// sockets. A connector is bounded by [`connect_timeout`](Self::connect_timeout), and TLS, if set, is added around
    /// it. Settings of the system's sockets ([`tcp_keepalive`](Self::tcp_keepalive),
    /// [`local_address`](Self::local_address)) do not apply to a connector: [`build`](Self::build) fails if both are
    /// set.
    ///
    /// ```
    /// # fn doc(builder: callboard::ChannelBuilder) -> callboard::ChannelBuilder {
    /// use callboard::Address;
    ///
    /// // Every address is reached through the sidecar. `service_fn` is tower's.
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

    /// Sets TLS for the connections. They are not encrypted by default.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

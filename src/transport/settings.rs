//! The numbers of a connection.

use std::time::Duration;

use super::Keepalive;

/// What a stream may receive before its reader has taken something.
const STREAM_WINDOW: u32 = 2 << 20;
/// What all streams together may: as much as HTTP/2 allows. `h2` gives the connection's window back only when a stream is
/// read, so with less, a few slow readers would stall all the others. What bounds memory is the stream's window.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What a stream may hold back to be sent.
const SEND_BUFFER: usize = 1 << 20;
/// The largest block of response headers or trailers.
const HEADER_LIST: u32 = 64 << 10;

/// What a connection is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bounds everything from dialling to the peer's SETTINGS.
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Keepalive,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(20), keepalive: Keepalive::default() }
    }
}

/// How `h2` is set up. It is told that it may open no stream at all until the peer's SETTINGS say otherwise; that is
/// how their arrival is noticed.
pub(super) fn http2() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .initial_max_send_streams(0)
        // Answers to calls that were given up long ago are no offence of the server's: `h2` would count each as one, and
        // end the connection after 1024 in its life.
        .max_local_error_reset_streams(None)
        .enable_push(false);
    builder
}

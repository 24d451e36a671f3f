//! The settings of a connection.

use std::time::Duration;

use callboard_core::{Error, Result};

use super::Keepalive;

/// The initial receive window of a stream.
const STREAM_WINDOW: u32 = 2 << 20;
/// The receive window of the connection: the largest that HTTP/2 permits. `h2` gives it back only when a stream is
/// read, so with a smaller one, a few slow readers would stall all other streams. Memory is bounded by the stream's
/// window.
const CONNECTION_WINDOW: u32 = LARGEST_WINDOW;
/// HTTP/2's initial window, and grpc-go's minimum. With less, every message would take many small steps.
const SMALLEST_WINDOW: u32 = (1 << 16) - 1;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// The smallest and the largest limit of a frame's size. Every peer accepts the smallest.
const FRAME: u32 = 1 << 14;
const LARGEST_FRAME: u32 = (1 << 24) - 1;
/// The size of the header compression table: HTTP/2's default.
const HEADER_TABLE: u32 = 4 << 10;
/// How many bytes a stream may buffer to be sent.
const SEND_BUFFER: usize = 1 << 20;
/// The largest list of headers or trailers: grpc-go's default.
const HEADER_LIST: u32 = 16 << 20;
/// How many reset streams `h2` remembers. It answers frames for a forgotten one with another reset, and some servers
/// count those.
const RESET_STREAMS: usize = 1_000;
/// How long it remembers them. Responses may arrive for so long after their calls were cancelled.
const RESET_STREAM_TIME: Duration = Duration::from_secs(10);

/// The settings that a connection is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bounds everything from dialling to the peer's SETTINGS.
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Keepalive,
    pub(crate) http2: Http2Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            keepalive: Keepalive::default(),
            http2: Http2Settings::default(),
        }
    }
}

/// What this side sends in its SETTINGS, and related limits. None stands for the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http2Settings {
    pub(crate) stream_window: Option<u32>,
    pub(crate) connection_window: Option<u32>,
    pub(crate) adaptive_window: Option<bool>,
    pub(crate) frame: Option<u32>,
    pub(crate) header_table: Option<u32>,
    pub(crate) header_list: Option<u32>,
}

impl Http2Settings {
    /// Checks that HTTP/2 permits the values.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        let of = |value: Option<u32>, least, most, setting: &str| match value {
            Some(value) if value < least || value > most => {
                Err(Error::invalid(format!("{setting} is {value}; HTTP/2 permits {least} to {most}")))
            }
            _ => Ok(()),
        };
        of(self.stream_window, 0, LARGEST_WINDOW, "initial_stream_window_size")?;
        of(self.connection_window, 0, LARGEST_WINDOW, "initial_connection_window_size")?;
        of(self.frame, FRAME, LARGEST_FRAME, "max_frame_size")
    }

    /// The initial window if windows follow the path. None if a window is set, as in grpc-go.
    pub(super) fn adapts_from(&self) -> Option<u32> {
        let by_default = self.stream_window.is_none() && self.connection_window.is_none();
        self.adaptive_window.unwrap_or(by_default).then_some(STREAM_WINDOW)
    }

    /// The initial windows of a stream and of the connection.
    fn windows(&self) -> (u32, u32) {
        let (stream, connection) = match self.adaptive_window {
            Some(true) => (None, None),
            _ => (self.stream_window, self.connection_window),
        };
        let or = |set: Option<u32>, default: u32| set.unwrap_or(default).max(SMALLEST_WINDOW);
        (or(stream, STREAM_WINDOW), or(connection, CONNECTION_WINDOW))
    }

    /// The largest list of headers or trailers.
    pub(super) fn header_list(&self) -> u32 {
        self.header_list.unwrap_or(HEADER_LIST)
    }

    /// A compressed header block up to this size cannot be a list above the limit. Each of its bytes stands for at most
    /// one entry of the table, or for a field that is no larger than 64.
    pub(super) fn harmless_block(&self) -> u32 {
        self.header_list() / self.header_table.unwrap_or(HEADER_TABLE).max(64)
    }

    /// The builder of an `h2` client. It may open no stream until the peer's SETTINGS permit it; so their arrival is
    /// noticed. Its limits against abuse are explained in docs/decisions/caps-of-h2.md.
    pub(super) fn builder(&self) -> h2::client::Builder {
        let (stream, connection) = self.windows();
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(stream)
            .initial_connection_window_size(connection)
            .max_frame_size(self.frame.unwrap_or(FRAME))
            .header_table_size(self.header_table.unwrap_or(HEADER_TABLE))
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(self.header_list_of_h2())
            .initial_max_send_streams(0)
            // Small frames that are not read yet are bounded by the windows.
            .data_frame_budget(usize::MAX)
            // Late responses to cancelled calls are no fault of the server. `h2` would count each as one, and end the
            // connection after 1,024.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(RESET_STREAMS)
            .reset_stream_duration(RESET_STREAM_TIME)
            .enable_push(false);
        builder
    }

    /// The header list limit of `h2`, which is above ours. Over its limit, `h2` truncates trailers silently, and at
    /// four times as much it ends the connection. Between the two limits, only the call fails. Three times our limit is
    /// enough to detect every truncated list: either its block was larger than our limit, because Huffman coding
    /// expands five bytes to eight at most, or the rest of the list still is. A higher limit also lets `h2` accept more
    /// CONTINUATION frames, so it is at least 1,024 frames of the largest size, as far as memory permits.
    fn header_list_of_h2(&self) -> u32 {
        let frames = self.frame.unwrap_or(FRAME).saturating_mul(1_024).min(1 << 30);
        let list = self.header_list().saturating_mul(3);
        // One byte may expand to a whole entry of the table.
        list.saturating_add(self.header_table.unwrap_or(HEADER_TABLE)).saturating_add(1 << 10).max(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Serve;
    use crate::transport::TcpKeepalive;
    use callboard_core::{Backoff, RegistrationSettings, WatchSettings};

    /// grpc-go's server with its defaults does not accept PINGs more often.
    const BORNE: Duration = Duration::from_secs(300);

    #[test]
    fn the_timers_that_depend_on_each_other_leave_each_other_room() {
        let Settings { connect_timeout, keepalive, .. } = Settings::default();
        let interval = keepalive.interval.expect("it is on");
        assert!(interval > BORNE && interval > keepalive.timeout);
        // TCP keepalive, which servers do not count, sends several probes before a PING, and detects a dead host by
        // then.
        assert!(TcpKeepalive::default().given_up_within() < interval);
        // An attempt is not ended before the first two retransmissions of its SYN, after 1 s and 3 s, had time for an
        // answer.
        assert!(connect_timeout > Duration::from_secs(10));
        // A server that has deregistered goes on serving for longer than its clients coalesce changes.
        assert!(Serve::DEREGISTER_DELAY > WatchSettings::default().coalesce * 10);
        assert!(Serve::DRAIN_TIMEOUT > Serve::DEREGISTER_DELAY);
        // A set that is empty for a moment, because its only server registers again, is not taken over.
        assert!(WatchSettings::default().empty_grace > RegistrationSettings::default().attempt_timeout);
        assert!(RegistrationSettings::default().attempt_timeout > Backoff::REGISTRY.longest());
    }
}

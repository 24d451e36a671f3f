//! The numbers of a connection.

use std::time::Duration;

use callboard_core::{Error, Result};

use super::Keepalive;

/// What a stream may receive before its reader has taken something, to begin with.
const STREAM_WINDOW: u32 = 2 << 20;
/// What all streams together may: as much as HTTP/2 allows. `h2` gives the connection's window back only when a stream is
/// read, so with less, a few slow readers would stall all the others. What bounds memory is the stream's window.
const CONNECTION_WINDOW: u32 = LARGEST_WINDOW;
/// HTTP/2's own number, and grpc-go's: with less, every message would be a walk of many small steps.
const SMALLEST_WINDOW: u32 = (1 << 16) - 1;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// What a frame may have, to begin with and at most. Every peer takes the former.
const FRAME: u32 = 1 << 14;
const LARGEST_FRAME: u32 = (1 << 24) - 1;
/// The memory of compressed headers: HTTP/2's own number.
const HEADER_TABLE: u32 = 4 << 10;
/// What a stream may hold back to be sent.
const SEND_BUFFER: usize = 1 << 20;
/// The largest list of headers or trailers: grpc-go's number.
const HEADER_LIST: u32 = 16 << 20;
/// How many streams that this side has reset `h2` remembers. To what comes for one that it has
/// forgotten, it answers with another reset, and there are servers that count those.
const RESET_STREAMS: usize = 1_000;
/// How long. Answers may be on their way for so long after their calls were given up.
const RESET_STREAM_TIME: Duration = Duration::from_secs(10);

/// What a connection is opened with.
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

/// What this side says in its SETTINGS, and what follows from it. None stands for the default.
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
    /// Looks for what HTTP/2 does not permit.
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

    /// The window with which it begins to follow the path, if it does: unless a window is set, as in grpc-go.
    pub(super) fn adapts_from(&self) -> Option<u32> {
        let by_default = self.stream_window.is_none() && self.connection_window.is_none();
        self.adaptive_window.unwrap_or(by_default).then_some(STREAM_WINDOW)
    }

    /// What a stream may receive, and what all together may, to begin with.
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

    /// How large a block of headers may be, compressed, that cannot be a list above the limit: each of its bytes stands for an
    /// entry of the table at most, or for a field that is no larger than 64.
    pub(super) fn harmless_block(&self) -> u32 {
        self.header_list() / self.header_table.unwrap_or(HEADER_TABLE).max(64)
    }

    /// How `h2` is set up. It is told that it may open no stream at all until the peer's SETTINGS say otherwise; that is
    /// how their arrival is noticed. Its caps against abuse are those of docs/decisions/caps-of-h2.md.
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
            // Small frames that nobody has read yet are bounded by the windows.
            .data_frame_budget(usize::MAX)
            // Answers to calls that were given up long ago are no offence of the server's: `h2` would count each as one,
            // and end the connection after 1024 in its life.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(RESET_STREAMS)
            .reset_stream_duration(RESET_STREAM_TIME)
            .enable_push(false);
        builder
    }

    /// The limit that `h2` keeps, which is above ours: over it, `h2` cuts trailers without a word, and at four times as
    /// much it ends the connection. Between the two limits, the call alone fails. Three times ours is enough to know of
    /// every list that is cut: either it has come as a block that was larger than ours, because Huffman's code makes
    /// eight bytes of five at most, or what is left of it is. And the more it is, the more CONTINUATION frames `h2` bears,
    /// so 1,024 frames of the largest size are the least, as far as there is memory for that.
    fn header_list_of_h2(&self) -> u32 {
        let frames = self.frame.unwrap_or(FRAME).saturating_mul(1_024).min(1 << 30);
        let list = self.header_list().saturating_mul(3);
        // An entry of the table makes much of one byte.
        list.saturating_add(self.header_table.unwrap_or(HEADER_TABLE)).saturating_add(1 << 10).max(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Serve;
    use crate::transport::TcpKeepalive;
    use callboard_core::{Backoff, RegistrationSettings, WatchSettings};

    /// grpc-go's server, as it is by default, strikes at PINGs that come more often.
    const BORNE: Duration = Duration::from_secs(300);

    #[test]
    fn the_timers_that_depend_on_each_other_leave_each_other_room() {
        let Settings { connect_timeout, keepalive, .. } = Settings::default();
        let interval = keepalive.interval.expect("it is on");
        assert!(interval > BORNE && interval > keepalive.timeout);
        // What no server counts asks several times before a PING is sent, and has given a gone host up by then.
        assert!(TcpKeepalive::default().given_up_within() < interval);
        // An attempt is not cut off while the first two retransmissions of its SYN, after 1 s and 3 s, are under way.
        assert!(connect_timeout > Duration::from_secs(10));
        // A server that has left goes on serving for longer than its clients may gather the news.
        assert!(Serve::DEREGISTER_DELAY > WatchSettings::default().coalesce * 10);
        assert!(Serve::DRAIN_TIMEOUT > Serve::DEREGISTER_DELAY);
        // A set that is empty for a moment, because its only server signs in anew, is not believed.
        assert!(WatchSettings::default().empty_grace > RegistrationSettings::default().attempt_timeout);
        assert!(RegistrationSettings::default().attempt_timeout > Backoff::REGISTRY.longest());
    }
}

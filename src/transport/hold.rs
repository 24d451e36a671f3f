//! An open stream and its slot.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::time::{Duration, Instant, sleep};

use super::pump::Stop;
use super::resets::{until_known, until_left};
use super::{Connection, Slot};

/// How long a server has to end a stream whose deadline has passed, before the stream is reset. Servers count resets
/// against the connection, and most end such calls themselves: docs/decisions/resets.md.
const MOMENT: Duration = Duration::from_millis(20);

/// A stream and its slot on the connection. Dropped before the stream is over, it resets the stream: at once, unless
/// the peer may count that against the connection. The slot is freed with the stream.
pub(super) struct Hold {
    /// None once the stream is over.
    open: Option<(Sender, Slot)>,
    /// The number of its stream. Numbers grow in the order in which streams are opened.
    number: u32,
    /// When it was sent, in milliseconds since the connection was made. A `u32`, because every call holds one.
    since: u32,
}

/// The handle that can reset the stream.
pub(super) enum Sender {
    /// All of the request was given to `h2` at once.
    Whole(SendStream<Bytes>),
    /// A task sends it.
    Pump(Arc<Stop>),
}

impl Hold {
    /// The stream of a request that was just sent.
    pub(super) fn new(sender: Sender, slot: Slot, number: u32) -> Self {
        let since = slot.connection().seen.age();
        Self { open: Some((sender, slot)), number, since }
    }

    /// Ends a stream whose deadline has passed. Nothing more is sent, and the server has [`MOMENT`] to end the stream
    /// itself, as it knows the deadline too. After that the stream is reset.
    pub(super) fn expire(self) {
        let Some((sender, slot)) = &self.open else { return };
        sender.stop_sending();
        let runtime = slot.connection().runtime.clone();
        runtime.spawn(async move {
            sleep(MOMENT).await;
            // Does nothing if the stream has ended by now.
            drop(self);
        });
    }

    /// Notes that the response has ended, and frees the slot. The rest of the request is not sent: `h2` ensures that
    /// when the last handle is dropped.
    pub(super) fn finish(&mut self) {
        if let Some((Sender::Pump(stop), _)) = self.open.take() {
            stop.reset();
        }
    }
}

impl Sender {
    /// Resets the stream if it is still open.
    fn reset(self) {
        match self {
            Self::Whole(mut stream) => stream.send_reset(Reason::CANCEL),
            Self::Pump(stop) => stop.reset(),
        }
    }

    /// Stops sending the request.
    fn stop_sending(&self) {
        if let Self::Pump(stop) = self {
            stop.stop();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some((sender, slot)) = self.open.take() else { return };
        let Self { number, since, .. } = *self;
        let until_reset = move |slot: &Slot| slot.connection().until_reset(number, since);
        let Some(wait) = until_reset(&slot) else { return sender.reset() };
        sender.stop_sending();
        let runtime = slot.connection().runtime.clone();
        runtime.spawn(async move {
            let mut next = Some(wait);
            while let Some(wait) = next {
                sleep(wait).await;
                next = until_reset(&slot);
            }
            sender.reset();
            drop(slot);
        });
    }
}

impl Connection {
    /// How long to wait before checking again whether this stream may be reset. None if it may be reset now: the peer
    /// must have seen the request, or only few streams were reset that it may not have seen.
    ///
    /// A stream is not reset before any of its bytes were written. `h2` would send the whole request first, and would
    /// never send the reset if the peer's window has no room for the request.
    fn until_reset(&self, number: u32, since: u32) -> Option<Duration> {
        if self.streams.has_answered_since(number) || self.streams.ended().is_some() {
            return None;
        }
        let age = self.seen.age();
        if !self.seen.has_left(number) {
            return Some(until_left(age.wrapping_sub(since)));
        }
        let wait = until_known(since, self.seen.read_at(), age)?;
        (!self.streams.early_resets.take(Instant::now())).then_some(wait)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("open", &self.open.is_some()).field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::transport::Outgoing;
    use crate::transport::failure::tests::connected;
    use crate::transport::frames::Frames;

    /// The frame type of RST_STREAM.
    const RST_STREAM: u8 = 3;

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_before_it_has_left_is_reset_although_the_window_has_no_room_for_all_of_it() {
        let (connection, mut far, _held) = connected(1 << 20).await;
        let slot = connection.try_reserve().expect("there is a slot");
        let head = http::Request::post("http://service/method").body(()).expect("a head");
        let body = Outgoing::Whole(Bytes::from(vec![0; 100_000]));
        drop(slot.send(head, body, None).expect("a stream"));
        // The paused clock advances once everything that can be written is written.
        sleep(Duration::from_millis(1)).await;
        drop(connection);
        let mut read = Vec::new();
        let closed = timeout(Duration::from_secs(60), far.read_to_end(&mut read)).await;
        assert!(closed.is_ok(), "the connection stays open");
        let (mut frames, mut rest, mut last) = (Frames::default(), read.as_slice(), None);
        while let Some(header) = frames.header(&mut rest) {
            last = Some(header).filter(|header| header.stream == 1).or(last);
        }
        assert_eq!(last.map(|header| header.kind), Some(RST_STREAM), "{last:?}");
    }
}

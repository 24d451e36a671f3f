//! Detects peers that flood a connection with frames that carry nothing.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::frames::{CONTINUATION, DATA, HEADERS, Header, PRIORITY, SETTINGS};

/// So many frames that carry nothing within [`WITHIN`] are a flood. Those that go with calls do not count.
const MOST: u32 = 10_000;
const WITHIN: Duration = Duration::from_secs(1);
/// From this number on they are read in small pieces.
const MANY: u32 = 100;
/// How many of them each frame of a call permits. Envoy accepts ten WINDOW_UPDATEs for each DATA frame that it has
/// sent.
const WITH_EACH: u32 = 10;

/// Counts frames that carry no response data against frames of calls: DATA received, and HEADERS and DATA sent. Peers
/// send such frames because of calls, so more calls permit more of them. A peer that sends many without calls only
/// keeps this side busy. See docs/decisions/floods.md.
#[derive(Debug)]
pub(super) struct Flood {
    count: u32,
    /// When the last [`MOST`] had been received.
    since: Instant,
}

impl Flood {
    pub(super) fn new() -> Self {
        Self { count: 0, since: Instant::now() }
    }

    /// Notes frames of calls, received or sent.
    pub(super) fn carried(&mut self, frames: u32) {
        self.count = self.count.saturating_sub(frames.saturating_mul(WITH_EACH));
    }

    /// Notes a received frame. True if it carries nothing, and many such frames have come beyond those that calls
    /// permit.
    ///
    /// # Errors
    /// If the peer floods this side.
    pub(super) fn note(&mut self, header: Header) -> io::Result<bool> {
        match header.kind {
            DATA if header.length > 0 => {
                self.carried(1);
                return Ok(false);
            }
            // A header list may come in small CONTINUATION frames. `h2` bounds their number.
            CONTINUATION if header.length > 0 => return Ok(false),
            _ => self.count += 1,
        }
        if self.count < MOST {
            return Ok(self.count > MANY);
        }
        // The clock is read once per [`MOST`] frames.
        self.count = 0;
        let before = std::mem::replace(&mut self.since, Instant::now());
        if before.elapsed() >= WITHIN {
            return Ok(true);
        }
        let why = format!(
            "the server has sent {MOST} frames within {WITHIN:?} that carry nothing, such as {}",
            Kind(header.kind)
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

/// A frame's type, for messages.
struct Kind(u8);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            DATA => "empty DATA",
            HEADERS => "HEADERS",
            PRIORITY => "PRIORITY",
            3 => "RST_STREAM",
            SETTINGS => "SETTINGS",
            6 => "PING",
            8 => "WINDOW_UPDATE",
            CONTINUATION => "CONTINUATION",
            other => return write!(f, "those of type {other:#04x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeats frames of these types and lengths. Returns how many of a million were accepted, and the error.
    fn taken(frames: &[(u8, usize)], sent: u32) -> (usize, String) {
        let mut flood = Flood::new();
        let frames = frames.iter().cycle().take(1_000_000);
        for (taken, (kind, length)) in frames.enumerate() {
            if let Err(error) = flood.note(Header { length: *length, kind: *kind, flags: 0, stream: 1 }) {
                return (taken, error.to_string());
            }
            flood.carried(sent);
        }
        (1_000_000, String::new())
    }

    #[test]
    fn frames_that_carry_nothing_are_a_flood_whatever_they_are() {
        for (kind, name) in
            [(DATA, "empty DATA"), (PRIORITY, "PRIORITY"), (6, "PING"), (HEADERS, "HEADERS"), (0xfa, "type 0xfa")]
        {
            let length = if kind == DATA { 0 } else { 8 };
            let (count, why) = taken(&[(kind, length)], 0);
            assert_eq!(count, MOST as usize - 1, "{why}");
            assert!(why.contains("10000 frames within 1s that carry nothing") && why.contains(name), "{why}");
        }
        // With a frame of a call between them now and then.
        let mut mostly = vec![(PRIORITY, 5); 20];
        mostly.push((DATA, 1));
        assert!(taken(&mostly, 0).0 < 3 * MOST as usize);
    }

    #[test]
    fn what_goes_with_calls_is_none() {
        let answer = [(HEADERS, 9), (DATA, 0), (DATA, 5), (HEADERS, 9)];
        let busy = [(8, 4), (8, 4), (6, 8), (DATA, 5), (PRIORITY, 5), (DATA, 0), (DATA, 0)];
        for frames in [&answer[..], &busy, &[(DATA, 1)]] {
            assert_eq!(taken(frames, 0).0, 1_000_000);
        }
        // What is written counts as well: an upload, of which each frame is acknowledged, and calls that are refused.
        for frames in [&[(8, 4)][..], &[(HEADERS, 9)], &[(3, 4)]] {
            assert_eq!(taken(frames, 1).0, 1_000_000);
        }
    }

    #[test]
    fn many_are_borne_if_they_take_their_time() {
        let mut flood = Flood::new();
        let priority = Header { length: 5, kind: PRIORITY, flags: 0, stream: 1 };
        for _ in 0..5 {
            flood.since = Instant::now().checked_sub(WITHIN).expect("the clock has run for a second");
            for _ in 0..MOST {
                flood.note(priority).expect("it takes a second each time");
            }
        }
    }
}

//! Reads the incoming frames before `h2` does.
//!
//! `h2` does not expose the peer's header list limit, the debug data of its GOAWAY, and the size of a header block that
//! it has truncated. They are noted here. And `h2` ends a connection after 100 DATA frames without data, although any
//! response may contain one. Such frames are given an undefined type, which `h2` ignores.

use std::io;
use std::sync::Arc;

use super::flood::Flood;
use super::frames::{
    CONTINUATION, DATA, FRAME_HEADER, Frames, GOAWAY, HEADERS, Header, MAX_HEADER_LIST_SIZE, SETTING, SETTINGS,
};
use super::seen::{GoAway, Seen};
use super::share::Begun;

/// The ACK flag of a SETTINGS frame: it acknowledges one of the other side and is empty.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
/// The length of a GOAWAY's last stream id and error code.
const GO_AWAY_HEAD: usize = 8;
/// How many bytes of a GOAWAY's debug data are kept.
const DEBUG_DATA: usize = 256;
/// A type that HTTP/2 does not define. Frames of an unknown type have to be ignored (RFC 9113, 5.5).
pub(super) const UNDEFINED: u8 = 0xEE;
/// After how many DATA frames with padding only a connection is replaced. `h2` has to see them, because padding counts
/// for flow control, and accepts 100.
const PADDING_FRAMES: u32 = 50;

/// Follows the frames that the peer sends.
#[derive(Debug)]
pub(super) struct Reading {
    frames: Frames,
    seen: Arc<Seen>,
    /// The largest compressed header block that this side accepts.
    block_limit: usize,
    largest_block: usize,
    payload: Payload,
    block: Block,
    padding_frames: u32,
    flood: Flood,
    /// Frames that have begun since [`take_begun`](Self::take_begun) was called last.
    begun: Begun,
}

/// The frame whose payload comes next, and the part of it that is needed and was read.
#[derive(Debug)]
enum Payload {
    Other,
    /// The bytes of the current setting, and how many have been read.
    Settings([u8; SETTING], usize),
    GoAway(Vec<u8>),
    /// A DATA frame with padding, and its length.
    Padded(usize),
}

/// The header block that is being received.
#[derive(Debug, Default)]
struct Block {
    stream: u32,
    /// Whether it ends the stream.
    last: bool,
    /// Its size so far.
    size: usize,
}

impl Reading {
    pub(super) fn new(seen: Arc<Seen>, block_limit: usize) -> Self {
        Self {
            frames: Frames::default(),
            seen,
            block_limit,
            largest_block: 0,
            payload: Payload::Other,
            block: Block::default(),
            padding_frames: 0,
            flood: Flood::new(),
            begun: Begun::default(),
        }
    }

    /// Takes the next bytes, before `h2` does.
    ///
    /// # Errors
    /// If the peer floods this side with frames that carry nothing.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        loop {
            let mut rest = &bytes[at..];
            let payload = self.frames.payload(&mut rest);
            self.payload.take(payload, &self.seen, &mut self.padding_frames);
            if self.frames.is_between() {
                self.payload.end(&self.seen);
            }
            let header = self.frames.header(&mut rest);
            at = bytes.len() - rest.len();
            let Some(header) = header else { break };
            self.begin(header)?;
            if is_empty(header.length, header.kind, header.flags) {
                rename(bytes, at, FRAME_HEADER);
            }
        }
        // The type of an incomplete header may have been passed on already, so it is renamed as soon as it is known.
        if self.is_begun_empty() {
            rename(bytes, at, self.frames.begun().len());
        }
        Ok(())
    }

    /// Notes that frames of calls were sent.
    pub(super) fn sent(&mut self, frames: u32) {
        self.flood.carried(frames);
    }

    /// Returns how many frames have begun since the last call, and starts counting anew.
    pub(super) fn take_begun(&mut self) -> Begun {
        std::mem::take(&mut self.begun)
    }

    /// Whether the next byte decides about the last one: the header so far is that of an empty DATA frame, and its
    /// flags are not known yet.
    pub(super) fn hangs(&self) -> bool {
        self.frames.begun() == [0, 0, 0, DATA]
    }

    /// Whether the incomplete header is that of a DATA frame without data, flags or padding.
    pub(super) fn is_begun_empty(&self) -> bool {
        matches!(self.frames.begun(), [0, 0, 0, kind, flags, ..] if is_empty(0, *kind, *flags))
    }

    fn begin(&mut self, header: Header) -> io::Result<()> {
        let Header { length, kind, flags, stream } = header;
        self.begun.all += 1;
        self.begun.empty += u32::from(self.flood.note(header).inspect_err(|_| self.seen.note_flooded())?);
        self.payload = Payload::of(header);
        match kind {
            HEADERS => self.block = Block { stream, last: flags & END_STREAM != 0, size: length },
            CONTINUATION => self.block.size += length,
            _ => {}
        }
        if self.block.size > self.largest_block {
            self.largest_block = self.block.size;
            self.seen.note_largest_block(u32::try_from(self.block.size).unwrap_or(u32::MAX));
        }
        if self.block.size > self.block_limit {
            self.seen.note_excessive(self.block.stream, self.block.last);
            // Noted once per block.
            self.block.size = 0;
        }
        Ok(())
    }
}

/// Whether it is a DATA frame that has no effect. Padding has one: it counts for flow control.
fn is_empty(length: usize, kind: u8, flags: u8) -> bool {
    length == 0 && kind == DATA && flags & (END_STREAM | PADDED) == 0
}

/// Renames the frame of whose header `begun` bytes stand before `at`. Bytes before this buffer were handled earlier.
fn rename(bytes: &mut [u8], at: usize, begun: usize) {
    if let Some(kind) = (at + 3).checked_sub(begun)
        && let Some(byte) = bytes.get_mut(kind)
    {
        *byte = UNDEFINED;
    }
}

impl Payload {
    fn of(header: Header) -> Self {
        match (header.kind, header.flags) {
            (SETTINGS, flags) if flags & ACK == 0 => Self::Settings([0; SETTING], 0),
            (GOAWAY, _) => Self::GoAway(Vec::new()),
            (DATA, flags) if flags & PADDED != 0 && flags & END_STREAM == 0 => Self::Padded(header.length),
            _ => Self::Other,
        }
    }

    /// Reads the next bytes of the payload.
    fn take(&mut self, bytes: &[u8], seen: &Seen, padding_frames: &mut u32) {
        match self {
            Self::Other => {}
            Self::Settings(setting, filled) => bytes.iter().for_each(|byte| take_setting(*byte, setting, filled, seen)),
            Self::GoAway(kept) => {
                let room = (GO_AWAY_HEAD + DEBUG_DATA).saturating_sub(kept.len());
                kept.extend(bytes.iter().take(room));
            }
            Self::Padded(length) => {
                // The first byte is the length of the padding.
                let Some(padding) = bytes.first() else { return };
                if usize::from(*padding) + 1 == *length {
                    *padding_frames += 1;
                    if *padding_frames >= PADDING_FRAMES {
                        seen.note_spent();
                    }
                }
                *self = Self::Other;
            }
        }
    }

    /// Notes the end of the payload.
    fn end(&mut self, seen: &Seen) {
        if let Self::GoAway(kept) = std::mem::replace(self, Self::Other)
            && let Some(([_, _, _, _, code @ ..], debug)) = kept.split_first_chunk::<GO_AWAY_HEAD>()
        {
            seen.note_go_away(GoAway { code: u32::from_be_bytes(*code), debug: debug.to_vec() });
        }
    }
}

fn take_setting(byte: u8, setting: &mut [u8; SETTING], filled: &mut usize, seen: &Seen) {
    setting[*filled] = byte;
    *filled = (*filled + 1) % SETTING;
    let [i0, i1, v0, v1, v2, v3] = *setting;
    if *filled == 0 && u16::from_be_bytes([i0, i1]) == MAX_HEADER_LIST_SIZE {
        seen.note_header_list_limit(u32::from_be_bytes([v0, v1, v2, v3]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frames::PRIORITY;
    use super::super::frames::tests::{frame, in_pieces};
    use super::*;

    fn reading(block_limit: usize) -> (Reading, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Reading::new(Arc::clone(&seen), block_limit), seen)
    }

    fn read(frames: &[Vec<u8>]) -> Arc<Seen> {
        let (mut reading, seen) = reading(100);
        frames.iter().for_each(|frame| reading.pass(&mut frame.clone()).unwrap());
        seen
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let bytes = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        bytes.collect()
    }

    #[test]
    fn an_acknowledgement_and_other_frames_say_nothing_of_the_limit() {
        let payload = settings(&[(MAX_HEADER_LIST_SIZE, 7)]);
        for (kind, flags) in [(SETTINGS, ACK), (HEADERS, 0), (6, 0)] {
            assert_eq!(read(&[frame(kind, flags, 0, &payload)]).header_list_limit(), u32::MAX);
        }
        assert_eq!(read(&[frame(SETTINGS, 0, 0, &payload)]).header_list_limit(), 7);
    }

    #[test]
    fn of_debug_data_the_beginning_is_kept() {
        let said = |debug: &[u8]| {
            let payload = [&[0, 0, 0, 1, 0, 0, 0, 11], debug].concat();
            read(&[frame(GOAWAY, 0, 0, &payload)]).go_away().unwrap()
        };
        assert_eq!(said(b"too_many_pings"), GoAway { code: 11, debug: b"too_many_pings".into() });
        assert_eq!(said(b""), GoAway { code: 11, debug: Vec::new() });
        assert_eq!(said(&[b'x'; 5_000]).debug, [b'x'; DEBUG_DATA]);
        // Too short for a GOAWAY.
        assert_eq!(read(&[frame(GOAWAY, 0, 0, &[0; 7])]).go_away(), None);
    }

    #[test]
    fn a_block_of_headers_is_as_large_as_all_its_frames() {
        let seen = read(&[
            frame(HEADERS, 4, 1, &[0; 100]),
            frame(HEADERS, 0, 3, &[0; 50]),
            frame(CONTINUATION, 0, 3, &[0; 50]),
            frame(CONTINUATION, 4, 3, &[0; 1]),
            frame(HEADERS, 5, 5, &[0; 101]),
            frame(HEADERS, 4, 7, &[0; 100]),
        ]);
        let excessive = |one| seen.any_excessive(|stream, last| (stream, last) == one);
        let ones = [(1, false), (3, false), (3, true), (5, false), (5, true), (7, false)];
        assert_eq!(ones.map(excessive), [false, true, false, false, true, false]);
    }

    #[test]
    fn frames_of_padding_alone_use_a_connection_up_and_others_do_not() {
        let padded = |flags, padding: u8, data: usize| {
            frame(DATA, PADDED | flags, 1, &[vec![padding], vec![0; usize::from(padding) + data]].concat())
        };
        let spent = |one: Vec<u8>, times| read(&vec![one; times]).is_spent();
        let enough = PADDING_FRAMES as usize;
        assert!(spent(padded(0, 10, 0), enough) && spent(padded(0, 0, 0), enough));
        assert!(!spent(padded(0, 10, 0), enough - 1));
        assert!(!spent(padded(0, 10, 1), 1_000) && !spent(padded(END_STREAM, 10, 0), 1_000));
    }

    #[test]
    fn a_flood_is_noted_and_what_is_sent_makes_up_for_frames() {
        let (mut reading, seen) = reading(1);
        let mut some = frame(PRIORITY, 0, 1, &[0; 5]).repeat(5_000);
        for _ in 0..10 {
            reading.pass(&mut some).unwrap();
            reading.sent(500);
        }
        assert!(!seen.is_flooded());
        let error = (0..3).find_map(|_| reading.pass(&mut some).err()).unwrap();
        assert!(error.to_string().contains("PRIORITY"), "{error}");
        assert!(seen.is_flooded());
    }

    proptest! {
        /// `h2` gets the bytes that came, except for the type of each empty DATA frame.
        #[test]
        fn empty_frames_are_renamed_however_the_bytes_are_cut(
            frames in prop::collection::vec((0u8..3, any::<u8>(), 0u32..3, 0usize..3), 1..30),
            cuts in prop::collection::vec(1usize..12, 1..100),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (kind, flags, stream, length) in frames {
                let payload = vec![0; length];
                bytes.extend(frame(kind, flags, stream, &payload));
                let kind = if is_empty(length, kind, flags) { UNDEFINED } else { kind };
                expected.extend(frame(kind, flags, stream, &payload));
            }
            let (mut reading, _) = reading(1 << 20);
            let mut given = Vec::new();
            for (piece, _) in in_pieces(&bytes, &cuts) {
                // As the wire does: an undecided byte is passed on with the next one.
                let (now, later) = piece.split_at(usize::from(reading.hangs()));
                let mut now = now.to_vec();
                reading.pass(&mut now).unwrap();
                if !now.is_empty() && reading.is_begun_empty() {
                    *given.last_mut().unwrap() = UNDEFINED;
                }
                given.extend(now);
                let mut later = later.to_vec();
                reading.pass(&mut later).unwrap();
                given.extend(later);
            }
            prop_assert_eq!(given, expected);
        }

        #[test]
        fn the_last_limit_counts_however_the_bytes_are_cut(
            sent in prop::collection::vec(prop::collection::vec((1..8_u16, any::<u32>()), 0..5), 1..10),
            cuts in prop::collection::vec(1..30_usize, 1..100),
        ) {
            let mut bytes = Vec::new();
            for one in &sent {
                bytes.extend(frame(SETTINGS, 0, 0, &settings(one)));
                bytes.extend(frame(HEADERS, 0, 1, &settings(&[(MAX_HEADER_LIST_SIZE, 1)])));
            }
            let (mut reading, seen) = reading(1 << 20);
            in_pieces(&bytes, &cuts).for_each(|(piece, _)| reading.pass(&mut piece.to_vec()).unwrap());
            let mut said = sent.iter().flatten().filter(|(id, _)| *id == MAX_HEADER_LIST_SIZE).map(|(_, value)| *value);
            prop_assert_eq!(seen.header_list_limit(), said.next_back().unwrap_or(u32::MAX));
        }
    }
}

//! HTTP/2 frames in a stream of bytes, without their meaning.

const FRAME_HEADER: usize = 9;

/// HEADERS.
pub(super) const HEADERS: u8 = 1;
/// SETTINGS.
const SETTINGS: u8 = 4;
/// The flag of a SETTINGS frame that acknowledges one of the other side's and has nothing in it.
const ACK: u8 = 1;
/// What a peer says of the header lists that it takes.
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// An id and a value.
const SETTING: usize = 6;

/// A part of a stream of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A frame's header is complete.
    Header { kind: u8, flags: u8, stream: u32 },
    /// The next bytes of its payload.
    Payload(&'a [u8]),
}

/// Follows the frames in a stream of bytes, however it is cut.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes until the next frame header: the rest of a payload, or of what stands before the first frame.
    payload: usize,
    header: [u8; FRAME_HEADER],
    filled: usize,
}

impl Frames {
    /// Of a stream that has so many other bytes before the first frame, which look like a payload.
    pub(super) fn after(other: usize) -> Self {
        Self { payload: other, ..Self::default() }
    }

    /// Takes the next part off these bytes. None when they are used up.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if bytes.is_empty() {
            return None;
        }
        if self.payload > 0 {
            let (part, rest) = bytes.split_at(self.payload.min(bytes.len()));
            self.payload -= part.len();
            *bytes = rest;
            return Some(Part::Payload(part));
        }
        let (part, rest) = bytes.split_at((FRAME_HEADER - self.filled).min(bytes.len()));
        self.header[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        *bytes = rest;
        if self.filled < FRAME_HEADER {
            return None;
        }
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        self.payload = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        self.filled = 0;
        Some(Part::Header { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) })
    }
}

/// Reads one of the settings that a peer sends: `h2` does not show it.
#[derive(Debug, Default)]
pub(super) struct HeaderListLimit {
    frames: Frames,
    /// What is complete of the next setting; none outside of SETTINGS.
    setting: Option<([u8; SETTING], usize)>,
}

impl HeaderListLimit {
    /// Takes the next bytes, and gives what they say the limit is, if they do.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut limit = None;
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Header { kind, flags, .. } => {
                    self.setting = (kind == SETTINGS && flags & ACK == 0).then_some(([0; SETTING], 0));
                }
                Part::Payload(payload) => limit = self.read(payload).or(limit),
            }
        }
        limit
    }

    fn read(&mut self, payload: &[u8]) -> Option<u32> {
        let (setting, filled) = self.setting.as_mut()?;
        let mut limit = None;
        for byte in payload {
            setting[*filled] = *byte;
            *filled = (*filled + 1) % SETTING;
            let [i0, i1, v0, v1, v2, v3] = *setting;
            if *filled == 0 && u16::from_be_bytes([i0, i1]) == MAX_HEADER_LIST_SIZE {
                limit = Some(u32::from_be_bytes([v0, v1, v2, v3]));
            }
        }
        limit
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame without flags.
    pub(in crate::transport) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Gives these bytes piece by piece, and after each piece tells how many have been given.
    pub(in crate::transport) fn in_pieces<'a>(
        bytes: &'a [u8],
        cuts: &'a [usize],
    ) -> impl Iterator<Item = (&'a [u8], usize)> {
        let mut at = 0;
        cuts.iter().cycle().map_while(move |cut| {
            let piece = &bytes[at..(at + cut).min(bytes.len())];
            at += piece.len();
            (!piece.is_empty()).then_some((piece, at))
        })
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let bytes = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        bytes.collect()
    }

    #[test]
    fn an_acknowledgement_and_other_frames_say_nothing_of_the_limit() {
        let payload = settings(&[(MAX_HEADER_LIST_SIZE, 7)]);
        for (kind, flags) in [(SETTINGS, ACK), (HEADERS, 0), (6, 0)] {
            assert_eq!(HeaderListLimit::default().pass(&frame(kind, flags, 0, &payload)), None);
        }
        assert_eq!(HeaderListLimit::default().pass(&frame(SETTINGS, 0, 0, &payload)), Some(7));
    }

    proptest! {
        #[test]
        fn parts_are_those_that_were_put_together_however_they_are_cut(
            frames in prop::collection::vec((any::<u8>(), any::<u8>(), 0..1_u32 << 31, 0..50_usize), 1..20),
            cuts in prop::collection::vec(1..30_usize, 1..100),
        ) {
            let mut bytes = Vec::new();
            for (kind, flags, stream, length) in &frames {
                bytes.extend(frame(*kind, *flags, *stream, &vec![0xAA; *length]));
            }
            let (mut parser, mut found) = (Frames::default(), Vec::new());
            for (mut piece, _) in in_pieces(&bytes, &cuts) {
                while let Some(part) = parser.next(&mut piece) {
                    match part {
                        Part::Header { kind, flags, stream } => found.push((kind, flags, stream, 0)),
                        Part::Payload(payload) => {
                            prop_assert!(payload.iter().all(|byte| *byte == 0xAA));
                            found.last_mut().expect("a header comes first").3 += payload.len();
                        }
                    }
                }
            }
            prop_assert_eq!(found, frames);
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
            let mut reader = HeaderListLimit::default();
            let found = in_pieces(&bytes, &cuts).filter_map(|(piece, _)| reader.pass(piece)).last();
            let expected = sent.iter().flatten().filter(|(id, _)| *id == MAX_HEADER_LIST_SIZE).map(|(_, value)| *value).next_back();
            prop_assert_eq!(found, expected);
        }
    }
}

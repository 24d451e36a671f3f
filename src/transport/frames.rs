//! HTTP/2 frames in a stream of bytes, without their meaning.

pub(super) const FRAME_HEADER: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// The id of SETTINGS_MAX_HEADER_LIST_SIZE.
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
/// The length of one setting: an id and a value.
pub(super) const SETTING: usize = 6;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// Follows the frames in a stream of bytes, which may arrive in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes until the next frame header: the rest of a payload, or of what precedes the first frame.
    payload: usize,
    header: [u8; FRAME_HEADER],
    filled: usize,
}

impl Frames {
    /// For a stream with so many other bytes before the first frame. They are treated as a payload.
    pub(super) fn after(other: usize) -> Self {
        Self { payload: other, ..Self::default() }
    }

    /// Takes the available part of the payload off these bytes.
    pub(super) fn payload<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let (payload, rest) = bytes.split_at(self.payload.min(bytes.len()));
        self.payload -= payload.len();
        *bytes = rest;
        payload
    }

    /// Takes the next header off these bytes, with the rest of the payload before it. None when the bytes are used up.
    pub(super) fn header(&mut self, bytes: &mut &[u8]) -> Option<Header> {
        self.payload(bytes);
        if self.filled == 0
            && let Some((header, rest)) = bytes.split_first_chunk()
        {
            // The common case: the whole header is there.
            *bytes = rest;
            return Some(self.begin(*header));
        }
        let (part, rest) = bytes.split_at((FRAME_HEADER - self.filled).min(bytes.len()));
        self.header[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        *bytes = rest;
        if self.filled < FRAME_HEADER {
            return None;
        }
        self.filled = 0;
        Some(self.begin(self.header))
    }

    /// Whether all of the last frame has passed.
    pub(super) fn is_between(&self) -> bool {
        self.payload == 0
    }

    /// The available bytes of an incomplete header.
    pub(super) fn begun(&self) -> &[u8] {
        &self.header[..self.filled]
    }

    fn begin(&mut self, [l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; FRAME_HEADER]) -> Header {
        self.payload = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Header { length: self.payload, kind, flags, stream }
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

    /// Passes these bytes on piece by piece, with the count of bytes so far.
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

    proptest! {
        #[test]
        fn frames_are_those_that_were_put_together_however_they_are_cut(
            frames in prop::collection::vec((any::<u8>(), any::<u8>(), 0..1_u32 << 31, 0..50_usize), 1..20),
            cuts in prop::collection::vec(1..30_usize, 1..100),
        ) {
            let mut bytes = Vec::new();
            for (kind, flags, stream, length) in &frames {
                bytes.extend(frame(*kind, *flags, *stream, &vec![0xAA; *length]));
            }
            let (mut parser, mut found) = (Frames::default(), Vec::new());
            for (mut piece, _) in in_pieces(&bytes, &cuts) {
                loop {
                    let payload = parser.payload(&mut piece);
                    prop_assert!(payload.iter().all(|byte| *byte == 0xAA));
                    if let Some((_, _, _, length)) = found.last_mut() {
                        *length += payload.len();
                    }
                    let Some(Header { length, kind, flags, stream }) = parser.header(&mut piece) else { break };
                    prop_assert!(length < 50);
                    found.push((kind, flags, stream, 0));
                }
            }
            prop_assert_eq!(found, frames);
        }
    }
}

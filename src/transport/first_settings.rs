//! The first SETTINGS of this side, with a header list limit other than that of `h2`.

use super::frames::{FRAME_HEADER, MAX_HEADER_LIST_SIZE, SETTING};

/// `h2` announces the limit that it enforces itself, which is above ours. This replaces it by ours, so that a peer that
/// respects the limit sends nothing that is rejected.
#[derive(Debug)]
pub(super) enum FirstSettings {
    /// Not written yet. It will announce this header list limit.
    Due(u32),
    /// Being written, so far to this place.
    Begun(Vec<u8>, usize),
    Over,
}

impl FirstSettings {
    /// Makes the SETTINGS to send from the first frame that `h2` writes, which is SETTINGS.
    pub(super) fn begin(&mut self, bytes: &[u8]) {
        let Self::Due(limit) = *self else { return };
        *self = Self::Over;
        let length = bytes.first_chunk().map_or(0, |[l0, l1, l2]| u32::from_be_bytes([0, *l0, *l1, *l2]) as usize);
        let Some(frame) = bytes.get(..FRAME_HEADER + length) else { return };
        let mut frame = frame.to_vec();
        for setting in frame[FRAME_HEADER..].chunks_exact_mut(SETTING) {
            if setting[..2] == MAX_HEADER_LIST_SIZE.to_be_bytes() {
                setting[2..].copy_from_slice(&limit.to_be_bytes());
            }
        }
        *self = Self::Begun(frame, 0);
    }

    /// The bytes to write in place of those of `h2`. They have the same length.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        match self {
            Self::Begun(frame, at) => Some(&frame[*at..]),
            _ => None,
        }
    }

    /// Notes that so many bytes of it were written.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Self::Begun(frame, at) = self {
            *at += count;
            if *at >= frame.len() {
                *self = Self::Over;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::frame;
    use super::*;

    #[test]
    fn the_limit_is_another_one_and_the_rest_is_the_same() {
        let frame_with = |limit: u32| {
            let settings = [(3, 7), (MAX_HEADER_LIST_SIZE, limit), (4, 9)];
            let payload: Vec<u8> = settings
                .iter()
                .flat_map(|(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
                .collect();
            frame(4, 0, 0, &payload)
        };
        let mut first = FirstSettings::Due(0x0102_0304);
        let bytes = [frame_with(5), frame(8, 0, 0, &[0; 4])].concat();
        first.begin(&bytes);
        let mut written = Vec::new();
        while let Some(rest) = first.rest() {
            let piece = rest[..rest.len().min(4)].to_vec();
            first.wrote(piece.len());
            written.extend(piece);
        }
        assert_eq!(written, frame_with(0x0102_0304));
        first.begin(&bytes);
        assert!(first.rest().is_none(), "once is enough");
    }
}

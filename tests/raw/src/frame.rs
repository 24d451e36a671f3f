//! HTTP/2 frames, as bytes.

/// What stands before a client's first frame.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEADER: usize = 9;
/// The largest payload that a peer has to take without having agreed to more.
pub(crate) const MAX_PAYLOAD: usize = 16_384;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// Error codes of HTTP/2.
#[expect(missing_docs, reason = "HTTP/2's own names")]
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    pub const INADEQUATE_SECURITY: u32 = 12;
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// Settings of HTTP/2.
#[expect(missing_docs, reason = "HTTP/2's own names")]
pub mod setting {
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// What a peer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// HEADERS: the beginning of a request.
    Request {
        /// The stream.
        stream: u32,
        /// Whether nothing follows.
        end: bool,
    },
    /// DATA.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes.
        data: Vec<u8>,
        /// Whether nothing follows.
        end: bool,
    },
    /// RST_STREAM.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: u32,
    },
    /// The peer's SETTINGS: numbers and values.
    Settings(Vec<(u16, u32)>),
    /// The peer has taken over this side's SETTINGS.
    SettingsAck,
    /// A question for a sign of life.
    Ping([u8; 8]),
    /// The peer's answer to a PING of this side.
    Pong([u8; 8]),
    /// WINDOW_UPDATE.
    Window {
        /// The stream, or 0 for the connection.
        stream: u32,
        /// How much more may be sent.
        by: u32,
    },
    /// GOAWAY.
    GoAway {
        /// Why.
        code: u32,
    },
    /// Something that no test asks for.
    Other(u8),
}

/// One frame, as it stands on the wire: for what [`Writer`](crate::Writer) has no function for.
///
/// # Panics
/// If the payload has 4 GiB or more.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("a frame is below 2^24 bytes").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A block of headers in as many frames as it takes.
pub(crate) fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    let mut parts = block.chunks(MAX_PAYLOAD).peekable();
    let mut bytes = Vec::new();
    let (mut kind, mut flags) = (HEADERS, if end { END_STREAM } else { 0 });
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, flags | last, stream, part));
        (kind, flags) = (CONTINUATION, 0);
    }
    bytes
}

/// A header field in HPACK's plainest form: literal, not indexed, not compressed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        length(&mut bytes, text.len());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// HPACK's integer with a prefix of seven bits.
fn length(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        bytes.push(value as u8);
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
}

/// What a frame means.
pub(crate) fn read(kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Event {
    let number = |at: usize| payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    match kind {
        HEADERS => Event::Request { stream, end: flags & END_STREAM != 0 },
        DATA => Event::Data { stream, end: flags & END_STREAM != 0, data: payload },
        RST_STREAM => Event::Reset { stream, code: number(0) },
        SETTINGS if flags & ACK != 0 => Event::SettingsAck,
        SETTINGS => Event::Settings(payload.chunks_exact(6).map(setting).collect()),
        PING if flags & ACK == 0 => Event::Ping(payload.try_into().unwrap_or_default()),
        PING => Event::Pong(payload.try_into().unwrap_or_default()),
        GOAWAY => Event::GoAway { code: number(4) },
        WINDOW_UPDATE => Event::Window { stream, by: number(0) },
        other => Event::Other(other),
    }
}

fn setting(bytes: &[u8]) -> (u16, u32) {
    (u16::from_be_bytes([bytes[0], bytes[1]]), u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_in_the_examples_of_the_standard() {
        let of = |value| {
            let mut bytes = Vec::new();
            length(&mut bytes, value);
            bytes
        };
        assert_eq!(of(10), [10]);
        assert_eq!(of(127), [127, 0]);
        // RFC 7541, C.1.2, with a prefix of seven bits instead of five.
        assert_eq!(of(1337), [127, 0b1011_1010, 0b0000_1001]);
    }

    #[test]
    fn a_block_that_is_too_large_for_one_frame_is_continued() {
        let value = "x".repeat(MAX_PAYLOAD);
        let bytes = headers(1, &[("a", &value)], true);
        assert_eq!((bytes[3], bytes[4]), (HEADERS, END_STREAM));
        let next = &bytes[HEADER + MAX_PAYLOAD..];
        assert_eq!((next[3], next[4]), (CONTINUATION, END_HEADERS));
    }
}

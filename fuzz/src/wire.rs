//! What a peer writes: frames of HTTP/2, good and bad.

use arbitrary::Arbitrary;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Something that a peer writes.
#[derive(Arbitrary, Clone, Debug)]
pub enum Frame {
    Settings(Vec<(u8, u32)>),
    SettingsAck,
    Headers {
        stream: Stream,
        end: bool,
        fields: Vec<Field>,
    },
    /// A block of headers in two frames, or the beginning of one.
    Split {
        stream: Stream,
        at: u8,
        whole: bool,
        fields: Vec<Field>,
    },
    Data {
        stream: Stream,
        end: bool,
        padding: Option<u8>,
        bytes: Vec<u8>,
    },
    /// A message of gRPC, whose prefix says that it is longer or shorter by so much.
    Message {
        stream: Stream,
        end: bool,
        compressed: u8,
        off: i8,
        bytes: Vec<u8>,
    },
    Reset {
        stream: Stream,
        code: u8,
    },
    Ping {
        ack: bool,
        bytes: [u8; 8],
    },
    GoAway {
        last: Stream,
        code: u8,
        debug: Vec<u8>,
    },
    Window {
        stream: Stream,
        by: u32,
    },
    /// So many empty DATA frames.
    Empty {
        stream: Stream,
        count: u8,
    },
    Other {
        kind: u8,
        flags: u8,
        stream: Stream,
        payload: Vec<u8>,
    },
    /// The header of a frame that says this of its length, and nothing more.
    Header {
        length: u32,
        kind: u8,
        flags: u8,
        stream: u32,
    },
    Raw(Vec<u8>),
}

/// A stream: mostly one that there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Stream {
    Connection,
    First,
    Second,
    Third,
    Any(u32),
}

/// A field of a block of headers.
#[derive(Arbitrary, Clone, Debug)]
pub enum Field {
    Status(u16),
    Grpc,
    GrpcStatus(u8),
    GrpcMessage(Vec<u8>),
    Pushback(i32),
    Load(Vec<u8>),
    Encoding(Vec<u8>),
    /// A name that has a meaning, and any value.
    Known(u8, Vec<u8>),
    Other(Vec<u8>, Vec<u8>),
    /// Bytes of HPACK, whatever they mean.
    Raw(Vec<u8>),
}

/// Names that somebody heeds.
const KNOWN: [&str; 14] = [
    ":status",
    ":path",
    "content-type",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-retry-pushback-ms",
    "endpoint-load-metrics-bin",
    "content-length",
    "connection",
    "transfer-encoding",
    "te",
];

impl Stream {
    fn id(self) -> u32 {
        match self {
            Self::Connection => 0,
            Self::First => 1,
            Self::Second => 3,
            Self::Third => 5,
            Self::Any(id) => id,
        }
    }
}

impl Frame {
    /// As it stands on the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Settings(settings) => frame(out, 4, 0, 0, &settings.iter().flat_map(setting).collect::<Vec<_>>()),
            Self::SettingsAck => frame(out, 4, 1, 0, &[]),
            Self::Headers { stream, end, fields } => out.extend(headers(stream.id(), *end, fields)),
            Self::Split { stream, at, whole, fields } => {
                let block = block(fields);
                let (first, second) = block.split_at(usize::from(*at).min(block.len()));
                frame(out, HEADERS, 0, stream.id(), first);
                if *whole {
                    frame(out, 9, END_HEADERS, stream.id(), second);
                }
            }
            Self::Data { stream, end, padding: None, bytes } => frame(out, DATA, u8::from(*end), stream.id(), bytes),
            Self::Data { stream, end, padding: Some(padding), bytes } => {
                let payload = [&[*padding], &bytes[..], &vec![0; usize::from(*padding)]].concat();
                frame(out, DATA, u8::from(*end) | PADDED, stream.id(), &payload);
            }
            Self::Message { stream, end, compressed, off, bytes } => {
                let length = (bytes.len() as u32).wrapping_add_signed(i32::from(*off));
                let payload = [&[*compressed], &length.to_be_bytes()[..], bytes].concat();
                frame(out, DATA, u8::from(*end), stream.id(), &payload);
            }
            Self::Reset { stream, code } => frame(out, 3, 0, stream.id(), &u32::from(*code).to_be_bytes()),
            Self::Ping { ack, bytes } => frame(out, 6, u8::from(*ack), 0, bytes),
            Self::GoAway { last, code, debug } => {
                let numbers = [last.id().to_be_bytes(), u32::from(*code).to_be_bytes()].concat();
                frame(out, 7, 0, 0, &[&numbers, &debug[..]].concat());
            }
            Self::Window { stream, by } => frame(out, 8, 0, stream.id(), &by.to_be_bytes()),
            Self::Empty { stream, count } => (0..*count).for_each(|_| frame(out, DATA, 0, stream.id(), &[])),
            Self::Other { kind, flags, stream, payload } => frame(out, *kind, *flags, stream.id(), payload),
            Self::Header { length, kind, flags, stream } => {
                out.extend(header(*length as usize, *kind, *flags, *stream))
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }
}

/// All of these, one after the other.
pub fn bytes(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut out));
    out
}

/// A block of headers in one frame.
pub fn headers(stream: u32, end: bool, fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block(fields));
    out
}

/// A message of gRPC in one frame.
pub fn message(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let prefix = [&[0], &(bytes.len() as u32).to_be_bytes()[..]].concat();
    frame(&mut out, DATA, 0, stream, &[&prefix, bytes].concat());
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(header(payload.len(), kind, flags, stream));
    out.extend(payload);
}

fn header(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; 9] {
    let [_, l0, l1, l2] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [l0, l1, l2, kind, flags, s0, s1, s2, s3]
}

fn setting((id, value): &(u8, u32)) -> [u8; 6] {
    let [v0, v1, v2, v3] = value.to_be_bytes();
    [0, *id, v0, v1, v2, v3]
}

fn block(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Status(status) => plain(&mut out, b":status", status.to_string().as_bytes()),
            Field::Grpc => plain(&mut out, b"content-type", b"application/grpc"),
            Field::GrpcStatus(code) => plain(&mut out, b"grpc-status", code.to_string().as_bytes()),
            Field::GrpcMessage(text) => plain(&mut out, b"grpc-message", text),
            Field::Pushback(millis) => plain(&mut out, b"grpc-retry-pushback-ms", millis.to_string().as_bytes()),
            Field::Load(value) => plain(&mut out, b"endpoint-load-metrics-bin", value),
            Field::Encoding(value) => plain(&mut out, b"grpc-encoding", value),
            Field::Known(name, value) => plain(&mut out, KNOWN[usize::from(*name) % KNOWN.len()].as_bytes(), value),
            Field::Other(name, value) => plain(&mut out, name, value),
            Field::Raw(bytes) => out.extend(bytes),
        }
    }
    out
}

/// A field in HPACK's plainest form: literal, not indexed, not compressed.
fn plain(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        let mut left = text.len();
        // An integer with a prefix of seven bits.
        if left < 127 {
            out.push(left as u8);
        } else {
            out.push(127);
            left -= 127;
            while left >= 128 {
                out.push((left % 128) as u8 | 128);
                left /= 128;
            }
            out.push(left as u8);
        }
        out.extend(text);
    }
}

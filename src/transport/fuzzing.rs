//! Access to the frame reader for the fuzz targets. Compiled with `--cfg fuzzing` only, and not part of the public API.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::failure::quoted;
use super::greeting::Greeted;
use super::phase::Phase;
use super::read_on::ReadOn;
use super::seen::{GoAway, Seen};
use super::wire::Wire;

/// What was read from a socket, and what was noted on the way.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The bytes that `h2` is given.
    pub bytes: Vec<u8>,
    /// The error that ended the reading. None at the end of the socket.
    pub error: Option<io::ErrorKind>,
    /// The message about a peer that does not speak HTTP/2: without TLS, and within TLS.
    pub stranger: [Option<String>; 2],
    /// SETTINGS_MAX_HEADER_LIST_SIZE of the peer.
    pub header_list_limit: u32,
    /// The size of the largest header block.
    pub largest_block: u32,
    /// The streams with a header block that was too large, and whether it was their last.
    pub excessive: Vec<(u32, bool)>,
    /// The code of the last GOAWAY, its debug data, and the debug data as quoted in messages.
    pub go_away: Option<(u32, Vec<u8>, String)>,
    /// Whether the connection is to be replaced, and whether it was flooded.
    pub spent_and_flooded: (bool, bool),
}

/// Reads a socket to its end through all layers between it and `h2`. The buffer sizes of the reads are `rooms`,
/// repeated. None may be 0.
pub async fn read(socket: impl AsyncRead + Unpin, header_list: u32, rooms: &[u16]) -> Read {
    let seen = Arc::<Seen>::default();
    let (socket, greeting) = Greeted::new(socket);
    let mut socket = ReadOn::new(Wire::new(socket, Arc::clone(&seen), header_list));
    let (mut bytes, mut error) = (Vec::new(), None);
    for room in rooms.iter().cycle() {
        let mut buffer = vec![0; usize::from(*room)];
        match socket.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => bytes.extend(&buffer[..count]),
            Err(why) => {
                error = Some(why.kind());
                break;
            }
        }
    }
    let (mut excessive, asked) = (Vec::new(), Cell::default());
    let any = |stream, last| {
        asked.set((stream, last));
        true
    };
    while seen.any_excessive(any) {
        excessive.push(asked.get());
    }
    let go_away = seen.go_away().map(|GoAway { code, debug }| {
        let said = quoted(&debug);
        (code, debug, said)
    });
    Read {
        bytes,
        error,
        stranger: [greeting.stranger(Phase::Http2, false), greeting.stranger(Phase::Http2, true)],
        header_list_limit: seen.header_list_limit(),
        largest_block: seen.largest_block(),
        excessive,
        go_away,
        spent_and_flooded: (seen.is_spent(), seen.is_flooded()),
    }
}

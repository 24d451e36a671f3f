//! What fuzz targets reach of the reading of frames. It is compiled with `--cfg fuzzing` alone, and no part of the
//! interface.

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

/// What was read of a socket, and what was seen on the way.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// What `h2` is given.
    pub bytes: Vec<u8>,
    /// Why there is no more, unless the socket has ended.
    pub error: Option<io::ErrorKind>,
    /// Who speaks, if it is not HTTP/2: what is said in the clear, and within TLS.
    pub stranger: [Option<String>; 2],
    /// SETTINGS_MAX_HEADER_LIST_SIZE of the peer.
    pub header_list_limit: u32,
    /// How large the largest block of headers was.
    pub largest_block: u32,
    /// The streams that had too large a block, and whether it was their last.
    pub excessive: Vec<(u32, bool)>,
    /// The code of the last GOAWAY, its debug data, and what is said of that.
    pub go_away: Option<(u32, Vec<u8>, String)>,
    /// Whether the connection is to be replaced, and whether it was flooded.
    pub spent_and_flooded: (bool, bool),
}

/// Reads a socket to its end through all that stands between one and `h2`, with room for so many bytes each time, over and
/// over. No room may be 0.
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

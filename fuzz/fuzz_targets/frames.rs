//! What a server writes, as far as our own reading goes, which stands before `h2`: however it is cut, the same is made of
//! it.
#![no_main]

use arbitrary::Arbitrary;
use callboard::frames::{Read, read};
use callboard_fuzz::{Frame, Pieces, SHORT, bytes, paused, within};
use libfuzzer_sys::fuzz_target;

const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const HEADER: usize = 9;
/// So many frames that carry nothing, within a second, end the connection.
const FLOOD: usize = 10_000;
/// What an empty DATA frame is renamed to.
const UNDEFINED: u8 = 0xEE;

#[derive(Arbitrary, Debug)]
struct Input {
    frames: Vec<Frame>,
    /// How the bytes are cut, and how much room there is for each read.
    cuts: Vec<u8>,
    rooms: Vec<u8>,
    header_list: u16,
}

fuzz_target!(|input: Input| {
    let Input { frames, mut cuts, rooms, header_list } = input;
    // Whoever only waits never ends.
    cuts.push(7);
    let written = bytes(&frames);
    within((256 << 10) + 20 * written.len(), || {
        let whole = look(&written, &[], &[u16::MAX], header_list);
        if frames_in(&written) >= FLOOD {
            // How much was given before that depends on how it is cut, and on the time.
            return assert!(whole.error.is_none() || whole.spent_and_flooded.1, "{:?}", whole.error);
        }
        expected(&written, &whole);
        let rooms: Vec<_> = rooms.iter().map(|room| u16::from(*room) + 1).chain([16]).collect();
        assert_eq!(look(&written, &cuts, &rooms, header_list), whole, "cut as {cuts:?}, with room for {rooms:?}");
        assert_eq!(look(&written, &[1], &[1], header_list), whole, "byte by byte");
    });
});

fn look(bytes: &[u8], cuts: &[u8], rooms: &[u16], header_list: u16) -> Read {
    let mut read = paused(read(Pieces::new(bytes, cuts), u32::from(header_list), rooms));
    for stranger in read.stranger.iter().flatten() {
        assert!(stranger.len() < 600 && !stranger.contains(char::is_control), "{stranger:?}");
    }
    if let Some((_, debug, said)) = &read.go_away {
        assert!(debug.len() <= 256 && said.len() <= SHORT && said.is_ascii(), "{said:?}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    // What is known of the last of these depends on how many came before somebody asked.
    read.excessive.sort_unstable();
    read
}

/// How many frames begin in these bytes.
fn frames_in(written: &[u8]) -> usize {
    let (mut frames, mut at) = (0, 0);
    while let Some(header) = written.get(at..at + HEADER) {
        (frames, at) = (frames + 1, at + HEADER + length_of(header));
    }
    frames
}

fn length_of(header: &[u8]) -> usize {
    u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize
}

/// What a reader makes of the bytes that has all of them before it.
fn expected(written: &[u8], read: &Read) {
    let (mut given, mut at, mut limit, mut go_away) = (written.to_vec(), 0, u32::MAX, None);
    while let Some(header) = written.get(at..at + HEADER) {
        let length = length_of(header);
        let (kind, flags) = (header[3], header[4]);
        let payload = &written[at + HEADER..(at + HEADER + length).min(written.len())];
        match kind {
            DATA if is_empty(header) => given[at + 3] = UNDEFINED,
            SETTINGS if flags & 1 == 0 => {
                let settings = payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 6]);
                limit = settings.last().map_or(limit, |last| number(&last[2..]));
            }
            GOAWAY if payload.len() == length && length >= 8 => {
                go_away = Some((number(&payload[4..8]), payload[8..].iter().take(256).copied().collect::<Vec<_>>()));
            }
            _ => {}
        }
        at += HEADER + length;
    }
    match written.get(at..).unwrap_or_default() {
        // The next byte would decide about it.
        [0, 0, 0, DATA] => drop(given.pop()),
        header if header.len() > 4 && is_empty(header) => given[at + 3] = UNDEFINED,
        _ => {}
    }
    assert_eq!(read.bytes, given);
    assert_eq!((read.error, read.header_list_limit), (None, limit));
    assert_eq!(read.go_away.as_ref().map(|(code, debug, _)| (*code, debug.clone())), go_away);
}

/// A DATA frame that neither ends its stream nor has padding, nor anything.
fn is_empty(header: &[u8]) -> bool {
    header[..4] == [0, 0, 0, DATA] && header[4] & (1 | 8) == 0
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

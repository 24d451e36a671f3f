//! What the fuzz targets share.

mod memory;
mod pieces;
mod server;
mod stage;
mod wire;

pub use memory::within;
pub use pieces::Pieces;
pub use server::{Answer, answer_calls};
pub use stage::{Stage, paused};
pub use wire::{Field, Frame, bytes, headers, message};

/// How much is said of what a stranger wrote, at most: a few quotes of 200 characters, of up to four bytes.
pub const SHORT: usize = 4_000;

/// What is said of what a stranger wrote is one line that is not long.
#[track_caller]
pub fn assert_short(said: &str) {
    assert!(said.len() <= SHORT, "{} bytes: {said:.400}", said.len());
    assert!(!said.contains(char::is_control), "more than one line: {said:?}");
}

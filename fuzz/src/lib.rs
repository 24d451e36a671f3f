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

/// An instance that was read can be registered and dialled: its id and its address, as they are printed, are good.
#[track_caller]
pub fn assert_checked(instance: &callboard_core::Instance) {
    let address = instance.address().to_string().parse().expect("what was read can be dialled");
    let again = callboard_core::Instance::new(instance.id(), address).expect("what was read can be registered");
    assert_eq!((again.id(), again.address()), (instance.id(), instance.address()));
}

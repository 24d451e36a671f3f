#![doc = include_str!("../README.md")]

mod faults;
mod lease;
mod record;
mod registry;
mod store;
mod testing;
mod watch;

pub use self::faults::Faults;
pub use self::registry::Memory;

#![doc = include_str!("../README.md")]

mod builder;
mod config;
mod content;
mod ear;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod lock;
mod place;
mod record;
mod registry;
mod scan;
mod stamp;
mod sweep;
mod url;
mod watch;

pub use builder::FileRegistryBuilder;
pub use registry::FileRegistry;

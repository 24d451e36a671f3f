#![doc = include_str!("../README.md")]

// | what | where |
// |---|---|
// | the type that registers and watches | `registry` |
// | the settings, and how a URL names them | `builder`, `url` |
// | registering, keeping a file, removing what is left over | `lease` |
// | watching a service, and its config | `watch`, `config` |
// | files: their names and directories, what they say, their locks | `record` |
// | what the system's refusals mean | `error` |
//
// Other backends also have a `client`. Here that is the file system.

mod builder;
mod config;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod record;
mod registry;
mod url;
mod watch;

pub use builder::FileRegistryBuilder;
pub use registry::FileRegistry;

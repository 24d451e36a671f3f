//! What callboard's benches share: CPU time, and a registry and servers that cost nothing, so that what is measured is
//! the channel.

pub mod cpu;
mod feed;
mod instances;
mod silent;

pub use feed::{Feed, feed};
pub use instances::{SERVICE, instances, service};
pub use silent::Silent;

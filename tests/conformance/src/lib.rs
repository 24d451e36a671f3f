#![doc = include_str!("../README.md")]

mod company;
mod config;
mod harness;
mod meddling;
mod outages;
mod presence;
mod sets;
mod suite;
mod takeover;
mod traces;
mod watcher;

pub use config::*;
pub use harness::{Bounds, Harness};
pub use meddling::*;
pub use outages::*;
pub use presence::*;
pub use sets::*;
pub use takeover::*;
pub use traces::*;
pub use watcher::{Seen, Watcher};

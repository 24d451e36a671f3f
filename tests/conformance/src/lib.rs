#![doc = include_str!("../README.md")]

mod bystander;
mod changes;
mod company;
mod config;
mod forged;
mod harness;
mod log;
mod meddling;
mod outages;
mod presence;
mod rights;
mod runtimes;
mod server;
mod sets;
mod suite;
mod takeover;
mod traces;
mod watcher;

pub use bystander::Bystander;
pub use changes::*;
pub use company::{instance, service};
pub use config::*;
pub use forged::*;
pub use harness::{Bounds, Harness};
pub use log::Log;
pub use meddling::*;
pub use outages::*;
pub use presence::*;
pub use rights::*;
pub use runtimes::*;
pub use server::Server;
pub use sets::*;
pub use takeover::*;
pub use traces::*;
pub use watcher::{Seen, Watcher};

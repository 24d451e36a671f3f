#![doc = include_str!("../README.md")]

mod agent;
mod answer;
mod builder;
mod checks;
mod clients;
mod config;
mod consul;
mod doubt;
mod entries;
mod entry;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod http;
mod keeper;
mod lease;
mod meta;
mod names;
mod pace;
mod reach;
mod register;
mod reported;
mod tls;
mod turns;
mod url;
mod watch;

pub use builder::ConsulBuilder;
pub use checks::ConsulGrpcCheck;
pub use consul::Consul;

#[cfg(test)]
mod tests;

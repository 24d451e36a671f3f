#![doc = include_str!("../README.md")]

mod agent;
mod answer;
mod builder;
mod checks;
mod config;
mod consul;
mod entry;
mod guard;
mod keeper;
mod lease;
mod meta;
mod names;
mod pace;
mod register;
mod reported;
mod tls;
mod url;
mod watch;

pub use builder::ConsulBuilder;
pub use checks::ConsulGrpcCheck;
pub use consul::Consul;

#[cfg(test)]
mod tests;

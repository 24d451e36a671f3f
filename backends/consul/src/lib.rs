#![doc = include_str!("../README.md")]

// | what | where |
// |---|---|
// | the type that registers and watches | `registry` |
// | the settings, and how a URL names them | `builder`, `url` |
// | the requests to the agent, its connections, whether it can be reached | `client` |
// | registering, and keeping an entry alive | `lease` |
// | watching a service, and its config | `watch`, `config` |
// | how an entry looks in Consul: names, tags, Meta, weights, checks | `record` |
// | what the agent's refusals mean | `error` |

mod builder;
mod client;
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

pub use builder::ConsulBuilder;
pub use record::ConsulGrpcCheck;
pub use registry::Consul;

#[cfg(test)]
mod tests;

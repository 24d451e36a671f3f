//! The agent's HTTP API, as far as it is needed.

mod address;
mod agent;
mod answer;
mod catalog;
mod connections;
mod entries;
mod http;
mod index;
mod query_slots;
mod rate_limit;
mod reach;
mod tls;

pub(crate) use address::AgentAddress;
pub(crate) use agent::Agent;
pub(crate) use catalog::Listing;
pub(crate) use http::{Http, Options};
pub(crate) use index::Index;
pub(crate) use query_slots::{ENTRY_WATCHES, FEWEST_CONNECTIONS, Querier};
pub(crate) use rate_limit::RateLimit;
pub(crate) use reach::Outages;

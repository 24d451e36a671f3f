//! External balancers: gRPC's `grpclb`, protocol `grpc.lb.v1`. This is the balancer's side, and the messages.

mod server;
pub mod v1;

pub use server::{Answers, Asked, LoadBalancerServer, Reports};

/// The path of the protocol's only method.
pub const BALANCE_LOAD: &str = "/grpc.lb.v1.LoadBalancer/BalanceLoad";

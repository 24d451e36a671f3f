//! External balancers: gRPC's `grpclb`, protocol `grpc.lb.v1`. The balancer's side, and the messages.

mod server;
pub mod v1;

pub use server::{Answers, Asked, LoadBalancerServer, Reports};

/// The path of the protocol's one method.
pub const BALANCE_LOAD: &str = "/grpc.lb.v1.LoadBalancer/BalanceLoad";

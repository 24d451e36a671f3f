//! The cases. What each does and demands is gRPC's; its page of test descriptions has their names.

mod cancelling;
mod compression;
mod load;
mod metadata;
mod soak;
mod statuses;
pub mod streaming;
pub mod unary;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use soak::{LARGE_RESPONSE, large, large_request};

use crate::client::Client;
use crate::table::{self, Verdict};

/// One case.
pub struct Case {
    pub name: &'static str,
    run: Box<dyn Fn(Client) -> BoxFuture<'static, Verdict> + Send + Sync>,
}

impl Case {
    fn new<F, R>(name: &'static str, run: fn(Client) -> F) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: Into<Verdict> + Send + 'static,
    {
        Self { name, run: Box::new(move |client| table::verdict(run(client)).boxed()) }
    }

    pub async fn run(&self, client: &Client) -> Verdict {
        (self.run)(client.clone()).await
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    vec![
        Case::new("empty_unary", unary::empty_unary),
        Case::new("cacheable_unary", unary::cacheable_unary),
        Case::new("large_unary", unary::large_unary),
        Case::new("concurrent_large_unary", unary::concurrent_large_unary),
        Case::new("pick_first_unary", unary::pick_first_unary),
        Case::new("client_compressed_unary", compression::client_compressed_unary),
        Case::new("server_compressed_unary", compression::server_compressed_unary),
        Case::new("client_compressed_streaming", compression::client_compressed_streaming),
        Case::new("server_compressed_streaming", compression::server_compressed_streaming),
        Case::new("client_streaming", streaming::client_streaming),
        Case::new("server_streaming", streaming::server_streaming),
        Case::new("ping_pong", streaming::ping_pong),
        Case::new("empty_stream", streaming::empty_stream),
        Case::new("cancel_after_begin", cancelling::cancel_after_begin),
        Case::new("cancel_after_first_response", cancelling::cancel_after_first_response),
        Case::new("timeout_on_sleeping_server", cancelling::timeout_on_sleeping_server),
        Case::new("custom_metadata", metadata::custom_metadata),
        Case::new("status_code_and_message", statuses::status_code_and_message),
        Case::new("special_status_message", statuses::special_status_message),
        Case::new("unimplemented_method", statuses::unimplemented_method),
        Case::new("unimplemented_service", statuses::unimplemented_service),
        Case::new("orca_per_rpc", load::orca_per_rpc),
        Case::new("orca_oob", load::orca_oob),
        Case::new("rpc_soak", soak::rpc_soak),
        Case::new("channel_soak", soak::channel_soak),
    ]
}

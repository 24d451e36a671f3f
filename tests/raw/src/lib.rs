//! A server that breaks the rules of HTTP/2 and gRPC on purpose, for callboard's tests.
//!
//! It writes HTTP/2 frames by hand, so that it can do what a well-behaved library cannot: change its limits at any
//! moment, refuse, reset, answer by halves, fall silent, or talk nonsense. A test scripts it by a function that each
//! accepted connection is given to:
//!
//! ```
//! use callboard_raw::{Peer, RawServer, serve};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! // One that answers every call, once it has come to its end.
//! let good = RawServer::start(|peer| serve("a", peer)).await?;
//! // One that answers none.
//! let silent = RawServer::start(|mut peer: Peer| async move {
//!     peer.settings(&[]);
//!     while peer.request().await.is_some() {}
//! })
//! .await?;
//! # let _ = (good, silent);
//! # Ok(()) }
//! ```

mod frame;
mod peer;
mod pipe;
mod port;
mod proxy;
mod server;
mod stats;
mod writer;

pub use frame::{Event, code, frame, setting};
pub use peer::{Peer, Request};
pub use port::Port;
pub use proxy::{Mode, Proxy};
pub use server::{RawServer, serve};
pub use stats::Stats;
pub use writer::Writer;

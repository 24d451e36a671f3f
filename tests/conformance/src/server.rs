//! The server of a registry, which a test breaks and mends.

use std::fmt;

use async_trait::async_trait;

/// A server, or several that replicate one registry. The [contract](crate::Harness#contract) of a harness holds.
#[async_trait]
pub trait Server: fmt::Debug + Send + Sync {
    /// Ends the server at once, as `kill -9` does. Its data stays, if it keeps any.
    async fn kill(&self);

    /// Starts a killed server again, on its data.
    async fn restart(&self);

    /// Stops the server without ending it: connections stay open, and there are no answers.
    async fn pause(&self);

    /// Lets a paused server go on.
    async fn resume(&self);

    /// Ends the server and starts it again without its data.
    async fn wipe(&self);
}

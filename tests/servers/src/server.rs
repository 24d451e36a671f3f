//! What is to be known about a kind of server.

use std::fmt::Debug;
use std::io;
use std::process::Command;

use async_trait::async_trait;
use rustix::process::Signal;

use crate::plan::Plan;

/// A kind of server. What is common to all, such as processes, ports and logs, is not its business.
#[async_trait]
pub(crate) trait Server: Debug + Send + Sync {
    /// Its name, for people and for paths.
    fn name(&self) -> &'static str;

    /// How many ports a node needs. The first is for clients.
    fn ports(&self) -> usize;

    /// The port by which members reach each other, if that is all that they need, and they can be told another address
    /// than the one that they listen at.
    fn linked(&self) -> Option<usize> {
        None
    }

    /// How a node is started, by [`process::command`](crate::process::command): on the data that it finds, or as a new
    /// one. Files that it needs are written now.
    ///
    /// # Panics
    /// If the server is not installed.
    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command>;

    /// Whether the node answers a question as a client would ask it. An error says what is amiss.
    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()>;

    /// Whether the node says that it leads. None does where all are alike.
    async fn leads(&self, _plan: &Plan, _node: usize) -> io::Result<bool> {
        Ok(false)
    }

    /// Writes the configuration of a node that runs, and gives the signal at which it reads it, unless it sees by itself
    /// that the file is new.
    fn reload(&self, _plan: &Plan, _node: usize) -> io::Result<Option<Signal>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a server says that is not ready.
pub(crate) fn not_ready(answer: impl Debug) -> io::Error {
    io::Error::other(format!("it answers {answer:?}"))
}

//! gRPC's interoperability protocol: its messages, and a tonic server that answers as its cases want. The cases themselves
//! are this crate's tests.

pub mod flags;
mod server;
mod service;
mod wire;

pub use server::{Counts, InteropServer, Settings};

/// The generated messages, client and server of `proto/grpc/testing`.
pub mod pb {
    #![allow(missing_docs, clippy::all, reason = "generated code")]

    tonic::include_proto!("grpc.testing");
}

impl pb::Payload {
    /// So many zeros.
    pub fn zeros(size: usize) -> Self {
        Self { r#type: pb::PayloadType::Compressable.into(), body: vec![0; size] }
    }
}

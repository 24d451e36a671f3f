//! The same interface without TLS: every use is an error.

use callboard_core::{Error, ErrorKind, RegistryTls, Result};
use zookeeper_client::{Client, Connector};

use crate::error::BACKEND;

/// There is no value of this type.
#[derive(Debug)]
pub(crate) enum Certificates {}

pub(crate) fn check(_: &RegistryTls, _: &str) -> Result<()> {
    Err(absent())
}

fn absent() -> Error {
    let message = "TLS to ZooKeeper is not compiled in: turn on the feature \"zookeeper-tls\" of callboard";
    Error::new(ErrorKind::Unsupported, message).in_backend(BACKEND)
}

impl Certificates {
    pub(crate) async fn read(_: &RegistryTls) -> Result<Self> {
        Err(absent())
    }

    pub(crate) async fn renew(&self) {
        match *self {}
    }

    pub(crate) async fn connect(&self, _: Connector, _: &str) -> Result<Client, zookeeper_client::Error> {
        match *self {}
    }
}

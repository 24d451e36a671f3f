//! Without TLS.

use callboard_core::{Error, ErrorKind, RegistryTls, Result};
use zookeeper_client::{Client, Connector};

use crate::failure::BACKEND;

/// There are none.
#[derive(Debug)]
pub(crate) enum Options {}

pub(crate) fn options(_: &RegistryTls, _: &str) -> Result<Options> {
    let message = "TLS to ZooKeeper is not compiled in: turn on the feature \"zookeeper-tls\" of callboard";
    Err(Error::new(ErrorKind::Unsupported, message).in_backend(BACKEND))
}

pub(crate) async fn connect(_: Connector, options: &Options, _: &str) -> Result<Client, zookeeper_client::Error> {
    match *options {}
}

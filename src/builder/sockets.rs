//! Settings of the operating system's sockets.

use std::net::IpAddr;
use std::sync::Arc;

use callboard_core::{Error, Result};

use super::ChannelBuilder;
use crate::transport::{Connector, Sockets, System, TcpKeepalive};

impl ChannelBuilder {
    /// Sets when the system probes a silent TCP connection, and when it gives up. See [`TcpKeepalive`] for the default.
    pub fn tcp_keepalive(mut self, keepalive: TcpKeepalive) -> Self {
        self.sockets.keepalive = keepalive;
        self
    }

    /// Sets the local IP address of TCP connections. By default, and with `None`, the system chooses it by its route to
    /// the server. If a name has several addresses, only those of the same family are tried. The setting applies to all
    /// endpoints that are reached over TCP; an attempt fails if this machine does not have the address.
    pub fn local_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.sockets.local_address = address.into();
        self
    }

    /// The connector without TLS.
    pub(super) fn plain_connector(&self) -> Result<Arc<dyn Connector>> {
        self.sockets.keepalive.check().map_err(|error| error.for_service(&self.service))?;
        match &self.connector {
            None => Ok(Arc::new(System::new(self.sockets.clone(), self.transport.connect_timeout))),
            Some(connector) if self.sockets == Sockets::default() => Ok(Arc::clone(connector)),
            Some(_) => {
                let message = "tcp_keepalive and local_address are settings of the system's sockets, and the channel has a \
                               connector of its own: set up its sockets there";
                Err(Error::invalid(message).for_service(&self.service))
            }
        }
    }
}

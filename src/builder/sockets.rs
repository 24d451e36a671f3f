//! How sockets of the operating system are set up.

use std::net::IpAddr;
use std::sync::Arc;

use callboard_core::{Error, Result};

use super::ChannelBuilder;
use crate::transport::{Connector, Sockets, System, TcpKeepalive};

impl ChannelBuilder {
    /// When the system asks a silent TCP connection for a sign of life, and when it gives one up. See
    /// [`TcpKeepalive`] for the default.
    pub fn tcp_keepalive(mut self, keepalive: TcpKeepalive) -> Self {
        self.sockets.keepalive = keepalive;
        self
    }

    /// The local IP address that TCP connections come from. By default, and with `None`, the system chooses by the way
    /// to the server. Of a name's addresses only those of the same family are tried. It is for all endpoints that
    /// are reached over TCP; an attempt fails if this machine does not have the address.
    pub fn local_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.sockets.local_address = address.into();
        self
    }

    /// The way from an address to a byte stream, without TLS.
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

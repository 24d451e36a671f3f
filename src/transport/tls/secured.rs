//! Byte streams within TLS.

use std::fmt;
use std::io;
use std::sync::Arc;

use callboard_core::{Address, Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError};

use super::current::Current;
use crate::transport::connector::{Connector, Socket};
use crate::transport::phase::Phase;
use crate::transport::progress::Progress;

const NO_ALPN: &str = "TLS: the server did not agree to HTTP/2 (ALPN \"h2\"); if it speaks HTTP/2 all the same, say \
                       Tls::assume_http2";

/// A connector whose byte streams are encrypted.
pub(in crate::transport) struct Secured {
    pub(in crate::transport) inner: Arc<dyn Connector>,
    pub(in crate::transport) current: Current,
    pub(in crate::transport) server_name: ServerName<'static>,
    /// Whether a server that negotiates no protocol is assumed to speak HTTP/2.
    pub(in crate::transport) assume_http2: bool,
}

impl Connector for Secured {
    fn connect<'a>(&'a self, address: &'a Address, progress: &'a Progress) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        Box::pin(async move {
            // Before the connection is made, because servers do not wait for long.
            let connector = self.current.connector().await;
            let socket = self.inner.connect(address, progress).await?;
            let socket = progress.listen(Phase::Tls, socket);
            let handshake = connector.connect(self.server_name.clone(), socket);
            let stream = handshake.await.map_err(|error| self.refused(error))?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => {}
                None if self.assume_http2 => {}
                _ => return Err(Error::new(ErrorKind::Unavailable, NO_ALPN)),
            }
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}

impl Secured {
    /// The error of a failed handshake. If the server's certificate is the reason, it says what is wrong with it.
    fn refused(&self, error: io::Error) -> Error {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let why = match cause {
            Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("the server's certificate is not for {:?}", self.server_name.to_str())
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the server's certificate has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "the server's certificate is not valid yet".to_owned()
                }
                CertificateError::UnknownIssuer => {
                    "the server's certificate is from an authority that is not trusted here".to_owned()
                }
                _ => "the server's certificate is rejected".to_owned(),
            },
            Some(
                rustls::Error::NoApplicationProtocol
                | rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol),
            ) => "the server does not offer HTTP/2 (ALPN \"h2\")".to_owned(),
            _ => "the handshake failed".to_owned(),
        };
        Error::new(ErrorKind::Unavailable, format!("TLS: {why}")).with_source(error)
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("server_name", &self.server_name).field("inner", &self.inner).finish()
    }
}

//! Opening a byte stream to an address.

use std::fmt;
use std::future::poll_fn;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{Address, BoxError, Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tower_service::Service;

use super::connect_error::failed;
use super::phase::Phase;
use super::progress::Progress;
use super::tcp::Sockets;

/// Any byte stream.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens byte streams. The caller bounds the time. An error names the phase in which it happened. The progress serves
/// the caller, which makes the error itself when the time is over.
pub(crate) trait Connector: fmt::Debug + Send + Sync + 'static {
    fn connect<'a>(&'a self, address: &'a Address, progress: &'a Progress) -> BoxFuture<'a, Result<Box<dyn Socket>>>;
}

/// TCP and Unix sockets of the operating system.
#[derive(Debug)]
pub(crate) struct System {
    sockets: Sockets,
    /// The caller's time limit. It is divided among the addresses of a name.
    within: Duration,
}

impl System {
    pub(crate) fn new(sockets: Sockets, within: Duration) -> Self {
        Self { sockets, within }
    }
}

impl Connector for System {
    fn connect<'a>(&'a self, address: &'a Address, progress: &'a Progress) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        Box::pin(async move {
            if let Some((host, port)) = address.host_and_port() {
                return Ok(Box::new(self.sockets.connect(host, port, self.within, progress).await?) as _);
            }
            if let Some(path) = address.unix_path() {
                return Ok(Box::new(connect_unix(path, progress).await?) as _);
            }
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if let Some(name) = address.unix_abstract_name() {
                return Ok(Box::new(connect_unix(format!("\0{name}").as_ref(), progress).await?) as _);
            }
            Err(Error::new(ErrorKind::Unsupported, format!("no connector for address {address} here")))
        })
    }
}

async fn connect_unix(path: &Path, progress: &Progress) -> Result<UnixStream> {
    progress.enter(Phase::Unix);
    UnixStream::connect(path).await.map_err(|error| failed("Unix socket: cannot connect", error))
}

/// A user's connector: a service that turns an address into a byte stream.
pub(crate) struct Custom<S>(Mutex<S>);

impl<S> Custom<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S> Connector for Custom<S>
where
    S: Service<Address> + Clone + Send + 'static,
    S::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn connect<'a>(&'a self, address: &'a Address, _: &'a Progress) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        // A panic in `clone` leaves the service as it was.
        let mut service = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| failed("the connector is not ready", error))?;
            let socket = service.call(address.clone()).await.map_err(|error| failed("the connector failed", error))?;
            Ok(Box::new(socket) as Box<dyn Socket>)
        })
    }
}

impl<S> fmt::Debug for Custom<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom(..)")
    }
}

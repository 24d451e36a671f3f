//! Getting from an address to a byte stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{Address, BoxError, Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

/// Any byte stream.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens byte streams. The caller bounds the time.
pub(crate) trait Connector: fmt::Debug + Send + Sync + 'static {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Socket>>>;
}

/// How long a silent TCP connection stays unasked, and how long between two questions.
const TCP_IDLE: Duration = Duration::from_secs(20);
const TCP_INTERVAL: Duration = Duration::from_secs(5);
/// How long data, or a question, may stay without acknowledgement.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// TCP and Unix sockets of the operating system.
#[derive(Debug, Default)]
pub(crate) struct System;

impl Connector for System {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        Box::pin(async move {
            match address {
                Address::Tcp { host, port, .. } => Ok(Box::new(connect_tcp(host, *port).await?) as Box<dyn Socket>),
                Address::Unix(path) => {
                    let socket = UnixStream::connect(path).await.map_err(|error| failed("cannot connect", error))?;
                    Ok(Box::new(socket) as Box<dyn Socket>)
                }
                other => Err(Error::new(ErrorKind::Unsupported, format!("no connector for address {other}"))),
            }
        })
    }
}

pub(super) fn failed(what: &'static str, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_source(error)
}

/// A name may stand for several addresses; they are tried in turn, and the last one's error is told.
async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream> {
    let found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| failed("cannot resolve the name", error))?;
    let mut last = None;
    for socket in found {
        match TcpStream::connect(socket).await {
            Ok(stream) => {
                tune(&stream).map_err(|error| failed("cannot set socket options", error))?;
                return Ok(stream);
            }
            Err(error) => last = Some(failed("cannot connect", error)),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the name has no address")))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_IDLE).with_interval(TCP_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

/// A connector of the user's: a service that turns an address into a byte stream.
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
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        // A `clone` that panicked leaves nothing half done here.
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

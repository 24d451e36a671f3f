//! Getting from an address to a byte stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{Address, BoxError, Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_service::Service;

/// Any byte stream.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens byte streams. The caller bounds the time.
pub(crate) trait Connector: fmt::Debug + Send + Sync + 'static {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Socket>>>;
}

/// How long one address of a name is tried alone: RFC 8305's number.
const STAGGER: Duration = Duration::from_millis(250);
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

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream> {
    let found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| failed("cannot resolve the name", error))?;
    let stream = first_to_answer(found).await?;
    tune(&stream).map_err(|error| failed("cannot set socket options", error))?;
    Ok(stream)
}

/// A name may stand for several addresses; they are tried in turn, and the last one's error is told. One that says
/// nothing is waited for while the next one is tried: it must not use up the time of all of them.
async fn first_to_answer(addresses: impl Iterator<Item = SocketAddr>) -> Result<TcpStream> {
    let mut addresses = addresses.peekable();
    // Dropped with those that are still under way.
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        // Each attempt that fails, or takes long, makes room for the next one.
        attempts.extend(addresses.next().map(TcpStream::connect));
        tokio::select! {
            answer = attempts.join_next() => match answer {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = Some(failed("cannot connect", error)),
                Some(Err(error)) => last = Some(failed("cannot connect", error)),
                None => break,
            },
            () = sleep(STAGGER), if addresses.peek().is_some() => {}
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn bound() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        (socket, address)
    }

    /// An address that drops attempts to connect: its queue of connections that nobody accepts is full.
    fn deaf() -> (Vec<Socket>, SocketAddr) {
        let (socket, address) = bound();
        socket.listen(0).expect("it listens");
        let mut sockets = vec![socket];
        for _ in 0..4 {
            let one = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            one.set_nonblocking(true).expect("it does not wait");
            // "In progress", whether it gets a place or not.
            let _ = one.connect(&address.into());
            sockets.push(one);
        }
        (sockets, address)
    }

    #[tokio::test]
    async fn addresses_are_tried_in_turn_and_one_that_hangs_does_not_keep_the_next_from_it() {
        let (_deaf, hangs) = deaf();
        let (_bound, refuses) = bound();
        let (listening, answers) = bound();
        listening.listen(16).expect("it listens");
        for addresses in [vec![answers], vec![refuses, answers], vec![hangs, answers], vec![hangs, refuses, answers]] {
            let begun = std::time::Instant::now();
            let waits = addresses.iter().filter(|address| **address == hangs).count();
            let stream = first_to_answer(addresses.into_iter()).await.expect("one answers");
            assert_eq!(stream.peer_addr().ok(), Some(answers));
            let took = begun.elapsed();
            assert!(took >= STAGGER * waits as u32 && took < STAGGER * 4, "{took:?} with {waits} waits");
        }
        let error = first_to_answer([refuses, refuses].into_iter()).await.expect_err("both refuse");
        assert!(error.chain().to_string().contains("refused"), "{}", error.chain());
        let error = first_to_answer(std::iter::empty()).await.expect_err("there is none");
        assert!(error.to_string().contains("no address"), "{error}");
    }
}

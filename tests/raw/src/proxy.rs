//! A piece of network that can fail.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::pipe::join;
use crate::port::Port;

/// What a [`Proxy`] does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    #[default]
    Pass,
    /// Connections are closed, and new ones are refused by the system: nobody listens.
    Refuse,
    /// Nothing passes, in either direction, on any connection, and none is closed. As on a network that loses packets,
    /// what has been swallowed passes once the mode changes.
    BlackHole,
    /// Each piece passes so much later, in each direction.
    Delay(Duration),
}

/// Which address a connection from another one is passed on to.
type Route = Box<dyn Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync>;

/// Passes connections on to another address, in one of several [modes](Mode). Dropping it ends it, and closes its
/// connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// The last mode that is in effect.
    in_effect: watch::Receiver<Mode>,
    task: JoinHandle<io::Result<()>>,
}

impl Proxy {
    /// Starts a proxy to this address, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn to(target: SocketAddr) -> Self {
        let started = Port::free().and_then(|port| Self::switch(port, move |_| Some(target)));
        started.unwrap_or_else(|error| panic!("a proxy to {target}: {error}"))
    }

    /// Starts a proxy on this port which asks for each connection, by where it comes from, where it shall go. One that
    /// shall go nowhere is closed.
    ///
    /// # Errors
    /// What the system says if the port cannot be listened on.
    pub fn switch(
        port: Port,
        route: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = port.address();
        let listener = listen(address)?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let (effect, in_effect) = watch::channel(Mode::Pass);
        let route: Route = Box::new(route);
        let task = tokio::spawn(async move { run(&port, listener, modes, effect, &route).await });
        Ok(Self { address, mode, in_effect, task })
    }

    /// Where it listens. It stays the same.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this with all connections, those that are open too, and returns once that is in effect.
    ///
    /// # Panics
    /// If it shall listen again and its port has been taken.
    ///
    /// # Cancel safety
    /// Cancel-safe: dropped, it has its effect a moment later.
    pub async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        // Somebody else may have set another one since.
        let in_effect = self.in_effect.clone().wait_for(|effect| *effect == *self.mode.borrow()).await.is_ok();
        assert!(in_effect, "{}: the proxy cannot listen again", self.address);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Goes on until the proxy is dropped.
async fn run(
    port: &Port,
    listener: TcpListener,
    mut modes: watch::Receiver<Mode>,
    effect: watch::Sender<Mode>,
    route: &Route,
) -> io::Result<()> {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Refuse {
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            listener = Some(listen(port.address())?);
        }
        effect.send_replace(mode);
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return Ok(()) },
            accepted = accept(listener.as_ref()) => {
                // What fails to be accepted has gone again.
                let Ok((near, from)) = accepted else { continue };
                if let Some(target) = route(from) {
                    connections.spawn(join(near, target, modes.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

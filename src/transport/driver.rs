//! The task that moves a connection's bytes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callboard_core::{Address, Error, ErrorKind, Result};
use h2::client::SendRequest;
use tokio::sync::oneshot;

use super::connector::Socket;
use super::failure::describe;
use super::keepalive::Heart;
use super::settings::http2;
use super::streams::Streams;
use super::wire::{Seen, Wire};
use super::{Connection, Connector, End, Settings};

type Http2 = h2::client::Connection<Wire<Box<dyn Socket>>, Bytes>;

/// Dials, shakes hands, and waits for the peer's SETTINGS. The caller bounds the time.
pub(super) async fn handshake(
    address: &Address,
    connector: &dyn Connector,
    settings: &Settings,
) -> Result<(Arc<Connection>, Driver)> {
    let socket = connector.connect(address).await?;
    let seen = Arc::new(Seen::default());
    let wire = Wire::new(socket, Arc::clone(&seen));
    let (sender, mut http2) = http2().handshake(wire).await.map_err(|error| failed(&error))?;
    poll_fn(|cx| poll_settings(&mut http2, cx)).await?;

    let streams = Arc::new(Streams::default());
    streams.set_limit(http2.max_concurrent_send_streams());
    let heart = Heart::new(&settings.keepalive, http2.ping_pong());
    let (held, orphaned) = oneshot::channel();
    let driver = Driver {
        http2,
        probe: Some(sender.clone()),
        streams: Arc::clone(&streams),
        seen: Arc::clone(&seen),
        heart,
        orphaned,
        closing: false,
    };
    Ok((Arc::new(Connection::new(sender, streams, seen, held)), driver))
}

fn failed(error: &h2::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("HTTP/2 handshake: {}", describe(error)))
}

/// Until the SETTINGS have arrived, no stream may be opened; see [`http2`].
fn poll_settings(http2: &mut Http2, cx: &mut Context<'_>) -> Poll<Result<()>> {
    let ended = Pin::new(&mut *http2).poll(cx);
    if http2.max_concurrent_send_streams() > 0 {
        // If it has ended all the same, its driver will find out.
        return Poll::Ready(Ok(()));
    }
    match ended {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) => {
            Poll::Ready(Err(Error::new(ErrorKind::Unavailable, "HTTP/2 handshake: the server closed the connection")))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(&error))),
    }
}

/// Drives one connection to its end.
pub(super) struct Driver {
    http2: Http2,
    /// Asked after each poll whether a request could still be sent: so a GOAWAY is noticed when it comes, not by the
    /// next request. Given up once nobody else can send, because it keeps the connection open.
    probe: Option<SendRequest<Bytes>>,
    streams: Arc<Streams>,
    seen: Arc<Seen>,
    heart: Option<Heart>,
    /// Resolves when the last [`Connection`] handle is dropped.
    orphaned: oneshot::Receiver<()>,
    closing: bool,
}

impl Driver {
    /// Runs until the connection is gone, and says why. `closing` is told once if the peer takes no new requests.
    pub(super) async fn drive(mut self, closing: &(dyn Fn(End) + Sync)) -> End {
        let end = poll_fn(|cx| self.poll(cx, closing)).await;
        // The order matters: streams learn from the drop of `http2` that the connection is gone, and then ask why.
        self.streams.end(end.why.clone());
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, closing: &dyn Fn(End)) -> Poll<End> {
        if self.probe.is_some() && Pin::new(&mut self.orphaned).poll(cx).is_ready() {
            self.probe = None;
        }
        if let Poll::Ready(ended) = Pin::new(&mut self.http2).poll(cx) {
            return Poll::Ready(match ended {
                Ok(()) if self.probe.is_none() => "not needed any more".into(),
                Ok(()) => "the server closed the connection".into(),
                Err(error) => End::by(&error),
            });
        }
        self.note_limit();
        if let Some(end) = self.refusal(cx) {
            self.streams.close();
            closing(end);
        }
        let busy = self.streams.used() > 0;
        let Some(heart) = &mut self.heart else { return Poll::Pending };
        heart.poll_dead(cx, self.seen.read(), busy).map(|()| "the peer did not answer a PING in time".into())
    }

    fn note_limit(&self) {
        let limit = self.http2.max_concurrent_send_streams();
        if limit != self.streams.limit() {
            self.streams.set_limit(limit);
        }
    }

    /// Why no new request can be sent, told once.
    fn refusal(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if self.closing {
            return None;
        }
        match self.probe.as_mut()?.poll_ready(cx) {
            Poll::Ready(Err(error)) => {
                self.closing = true;
                Some(End::by(&error))
            }
            _ => None,
        }
    }
}

//! The least that a generated client needs around HTTP/2 connections: no deadline, no retry, no reconnecting. What is
//! faster than this is faster than the `h2` crate.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::client::{self, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::body::Body;

use crate::Result;

/// Connections in turn.
#[derive(Clone)]
pub(super) struct Bare {
    connections: Arc<[SendRequest<Bytes>]>,
    next: Arc<AtomicUsize>,
    authority: Authority,
}

pub(super) async fn connect(servers: &[SocketAddr]) -> Result<Bare> {
    let mut connections = Vec::new();
    for server in servers {
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        let mut builder = client::Builder::new();
        // Windows as callboard has them.
        builder.initial_window_size(2 << 20).initial_connection_window_size(64 << 20).enable_push(false);
        let (sender, connection) = builder.handshake(tcp).await?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    let authority = Authority::from_static("bench.echo");
    Ok(Bare { connections: connections.into(), next: Arc::default(), authority })
}

impl tower_service::Service<Request<Body>> for Bare {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = self.connections[turn % self.connections.len()].clone();
        Box::pin(call(connection, request, self.authority.clone()))
    }
}

async fn call(
    connection: SendRequest<Bytes>,
    request: Request<Body>,
    authority: Authority,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let mut uri = parts.uri.into_parts();
    (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(authority));
    parts.uri = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
    // Without this, the error is the stream's own.
    let mut connection = connection.ready().await.map_err(failed)?;
    let (response, stream) = connection.send_request(Request::from_parts(parts, ()), false).map_err(failed)?;
    send(stream, body).await?;
    let response = response.await.map_err(failed)?;
    Ok(response.map(|stream| Body::new(Incoming { stream, data_ended: false })))
}

/// The whole body of a unary call is there at once, in one piece.
async fn send(mut stream: SendStream<Bytes>, mut body: Body) -> Result<(), Status> {
    let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose()?;
    let data = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
    stream.send_data(data, true).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn failed(error: h2::Error) -> Status {
    Status::unavailable(error.to_string())
}

struct Incoming {
    stream: RecvStream,
    data_ended: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.data_ended {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                let data = data.map_err(failed)?;
                self.stream.flow_control().release_capacity(data.len()).map_err(failed)?;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.data_ended = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(failed)?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

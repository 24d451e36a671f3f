//! A server whose unary answers come from a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use callboard_echo::pb::echo_server::{Echo, EchoServer};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// A server that answers unary calls by a function.
pub struct Scripted {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Scripted {
    pub async fn start<F>(script: F) -> Self
    where
        F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (service, connections) = (EchoServer::new(Script(script)), TcpListenerStream::new(listener));
        let serving = tonic::transport::Server::builder().serve_with_incoming(service, connections);
        let task = tokio::spawn(serving);
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Script<F>(pub F);

type Answers = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<F> Echo for Script<F>
where
    F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
{
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        (self.0)(request)
    }

    type ServerStreamingStream = Answers;

    async fn server_streaming(&self, _: Request<EchoRequest>) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn client_streaming(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<EchoResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    type BidirectionalStream = Answers;

    async fn bidirectional(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

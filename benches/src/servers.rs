//! Three echo servers in one process.

use std::io::{Read, stdin};

use callboard_echo::pb::echo_server::{Echo, EchoServer};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use futures_util::stream::Pending;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::Result;

const SERVERS: usize = 3;

/// Serves on three free ports, which it prints in one line, until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _within = runtime.enter();
    let mut addresses = Vec::new();
    for _ in 0..SERVERS {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
        addresses.push(incoming.local_addr()?.to_string());
        runtime.spawn(Server::builder().serve_with_incoming(EchoServer::new(Answers), incoming));
    }
    println!("{}", addresses.join(" "));
    stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The least that a server can do: it sends back what it was sent.
struct Answers;

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the benches call Unary alone"))
}

#[tonic::async_trait]
impl Echo for Answers {
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { payload: request.into_inner().payload, ..Default::default() }))
    }

    type ServerStreamingStream = Pending<Result<EchoResponse, Status>>;

    async fn server_streaming(&self, _: Request<EchoRequest>) -> Result<Response<Self::ServerStreamingStream>, Status> {
        unused()
    }

    async fn client_streaming(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<EchoResponse>, Status> {
        unused()
    }

    type BidirectionalStream = Pending<Result<EchoResponse, Status>>;

    async fn bidirectional(
        &self,
        _: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::BidirectionalStream>, Status> {
        unused()
    }
}

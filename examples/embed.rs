//! An existing tonic server and client, moved to callboard. Changes are marked with `callboard:`, with the replaced
//! code beside them. The rest, generated code included, is as it was.

use std::collections::BTreeMap;
use std::{error::Error, sync::Arc, time::Duration};

use callboard_echo::pb::echo_client::EchoClient;
use callboard_echo::pb::echo_server::{Echo, EchoServer};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::{Request, Response, Result, Status, Streaming};
use tonic_health::ServingStatus;

use callboard::{Channel, backend::Memory}; // callboard: new

struct Greeter(&'static str);

#[tonic::async_trait]
impl Echo for Greeter {
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>> {
        let EchoRequest { payload, .. } = request.into_inner();
        Ok(Response::new(EchoResponse { payload, server: self.0.to_owned() }))
    }

    type ServerStreamingStream = tokio_stream::Empty<Result<EchoResponse>>;

    async fn server_streaming(&self, _: Request<EchoRequest>) -> Result<Response<Self::ServerStreamingStream>> {
        Err(Status::unimplemented("not in this example"))
    }

    async fn client_streaming(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<EchoResponse>> {
        Err(Status::unimplemented("not in this example"))
    }

    type BidirectionalStream = tokio_stream::Empty<Result<EchoResponse>>;

    async fn bidirectional(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<Self::BidirectionalStream>> {
        Err(Status::unimplemented("not in this example"))
    }
}

/// Runs a server until it is told to stop.
async fn serve(
    name: &'static str,
    board: Memory,
    stop: oneshot::Receiver<()>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    let service = EchoServer::new(Greeter(name));
    let stopped = async { drop(stop.await) };
    // callboard: new. The server is registered once it listens, with the address at which clients reach it. It is
    // deregistered before it stops, and still serves until clients have seen that. In real life, this begins with
    // `callboard::serve("etcd://…")?`.
    callboard::Serve::new(Arc::new(board), "example/echo".parse()?)
        .instance(move |instance| instance.with_metadata("name", name))
        .not_serving(async move { health.set_service_status("", ServingStatus::NotServing).await })
        .deregister_delay(Duration::from_millis(200))
        .shutdown_signal(stopped)
        // callboard: was the same `serve_with_incoming_shutdown`, with a `TcpListenerStream` and `stopped`. Now health
        // watches end at shutdown, and one upload that is not read does not stop all other calls of its connection.
        .run(listener, |listener, shutdown| {
            Server::builder()
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(64 * 1024 * 1024)
                .add_service(shutdown.end_streams(health_service))
                .add_service(service)
                .serve_with_incoming_shutdown(callboard::Incoming::new(listener), shutdown)
        })
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    tokio::time::timeout(Duration::from_secs(20), run()).await?
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let board = Memory::default(); // callboard: new. In real life a registry that all processes can reach.
    let (stop_a, a_stops) = oneshot::channel();
    let (stop_b, b_stops) = oneshot::channel();
    let a = tokio::spawn(serve("a", board.clone(), a_stops));
    let b = tokio::spawn(serve("b", board.clone(), b_stops));

    // callboard: was `Endpoint::from_static("http://10.0.0.1:50051").connect().await?`.
    let channel = Channel::builder("example/echo".parse()?).resolver(board).wait_for_ready(true).build()?;
    let mut client = EchoClient::new(channel);

    let mut served_by: BTreeMap<String, u32> = BTreeMap::new();
    while served_by.len() < 2 {
        call(&mut client, &mut served_by).await?;
    }
    println!("both serve: {served_by:?}");

    stop_a.send(()).map_err(|()| "a has ended by itself")?;
    while !a.is_finished() {
        call(&mut client, &mut served_by).await?;
    }
    a.await??;
    println!("a is deregistered, and no call failed: {served_by:?}");

    let before = served_by["a"];
    for _ in 0..100 {
        call(&mut client, &mut served_by).await?;
    }
    println!("100 calls later: {served_by:?}");
    stop_b.send(()).map_err(|()| "b has ended by itself")?;
    b.await??;
    if served_by["a"] == before { Ok(()) } else { Err("a was called after it was deregistered".into()) }
}

/// callboard: was `EchoClient<tonic::transport::Channel>`.
async fn call(client: &mut EchoClient<Channel>, served_by: &mut BTreeMap<String, u32>) -> Result<()> {
    let mut request = Request::new(EchoRequest { payload: b"hello".to_vec(), ..EchoRequest::default() });
    request.set_timeout(Duration::from_secs(5));
    let answer = client.unary(request).await?.into_inner();
    *served_by.entry(answer.server).or_default() += 1;
    Ok(())
}

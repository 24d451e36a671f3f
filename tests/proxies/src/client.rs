//! Whose channel makes the calls.

use std::collections::BTreeMap;
use std::env;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::backend::Memory;
use callboard::{Address, Channel, Incarnation, Instance, Registry, ServiceName};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel as TonicChannel, Endpoint};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// How long a channel may take until it is ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Any channel, as a generated client takes it.
pub(crate) type AnyChannel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// The client under test, or one to compare it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Callboard,
    Tonic,
    GrpcGo,
}

impl Client {
    /// By the variable that names it.
    pub(crate) fn chosen() -> Self {
        match env::var("CALLBOARD_PROXY_CLIENT").as_deref() {
            Err(_) | Ok("" | "callboard") => Self::Callboard,
            Ok("tonic") => Self::Tonic,
            Ok("grpc-go") => Self::GrpcGo,
            Ok(other) => panic!("CALLBOARD_PROXY_CLIENT is {other:?}: callboard, tonic or grpc-go"),
        }
    }

    /// Checks what is promised, if it is callboard that has promised it. Of the others it is only printed.
    pub(crate) fn holds(self, check: impl FnOnce()) {
        if self == Self::Callboard {
            check();
        }
    }
}

/// How many connections were made to each address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made(Arc<Mutex<BTreeMap<String, u64>>>);

impl Made {
    fn note(&self, address: &str) {
        *self.0.lock().unwrap().entry(address.to_owned()).or_default() += 1;
    }

    pub(crate) fn at(&self, address: SocketAddr) -> u64 {
        self.0.lock().unwrap().get(&address.to_string()).copied().unwrap_or_default()
    }

    pub(crate) fn in_all(&self) -> u64 {
        self.0.lock().unwrap().values().sum()
    }
}

/// A callboard channel to these addresses, which counts the connections that it makes.
pub(crate) async fn callboard(addresses: &[SocketAddr], wait_for_ready: bool, made: &Made) -> AnyChannel {
    let (board, service) = (Memory::default(), "project/test".parse::<ServiceName>().unwrap());
    let mut leases = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        let instance = Instance::new(format!("proxy-{number}"), Address::try_from(*address).unwrap()).unwrap();
        leases.push(board.register(&service, &instance.with_incarnation(Incarnation::fresh())).await.unwrap());
    }
    let made = made.clone();
    let connector = tower::service_fn(move |address: Address| {
        let (made, address) = (made.clone(), address.to_string());
        async move {
            let socket = TcpStream::connect(&address).await?;
            socket.set_nodelay(true)?;
            made.note(&address);
            std::io::Result::Ok(socket)
        }
    });
    let builder = Channel::builder(service).resolver(board).connector(connector).wait_for_ready(wait_for_ready);
    let channel = builder.build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    // All are on the board until the runtime ends.
    tokio::spawn(async move {
        pending::<()>().await;
        drop(leases);
    });
    BoxCloneSyncService::new(channel)
}

/// tonic's own.
pub(crate) fn tonic(addresses: &[SocketAddr]) -> AnyChannel {
    let endpoint = |address: &SocketAddr| Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = match addresses {
        [one] => endpoint(one).connect_lazy(),
        several => TonicChannel::balance_list(several.iter().map(endpoint)),
    };
    BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into())))
}

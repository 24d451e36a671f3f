//! The server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callboard::load::{LoadRecorder, LoadReportLayer, LoadReportServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Error, Identity, Server, ServerTlsConfig};

use crate::pb::test_service_server::TestServiceServer;
use crate::service::Handlers;
use crate::wire::{Calls, WireLayer};

/// How often it reports its load out of band, at most.
const REPORTS: Duration = Duration::from_millis(50);

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it says it is.
    pub id: String,
    /// Where it listens. A free port of 127.0.0.1 by default.
    pub address: SocketAddr,
    /// MAX_CONCURRENT_STREAMS. tonic's default if absent.
    pub max_streams: Option<u32>,
    /// Certificate and key, as PEM. In the clear if absent.
    pub tls: Option<(String, String)>,
}

impl Settings {
    /// A server of this id with nothing set.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), address: (Ipv4Addr::LOCALHOST, 0).into(), max_streams: None, tls: None }
    }
}

/// What a server has seen of the cases' calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many have begun.
    pub begun: usize,
    /// How many of them the client has cancelled.
    pub cancelled: usize,
}

/// A tonic server of the interoperability cases, on a real TCP socket, in this process. Dropping it is a
/// [`stop`](Self::stop) that is not waited for.
#[derive(Debug)]
pub struct InteropServer {
    address: SocketAddr,
    calls: Arc<Calls>,
    /// Taken by `stop`.
    graceful: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), Error>>,
}

impl InteropServer {
    /// Starts a server. It accepts connections once this returns.
    ///
    /// # Errors
    /// What the system says if the address cannot be bound, and what tonic says of certificate and key.
    pub async fn start(settings: &Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        let (recorder, calls) = (LoadRecorder::new(), Arc::<Calls>::default());
        let handlers = Handlers { id: settings.id.clone(), recorder: recorder.clone() };
        let mut server = Server::builder().max_concurrent_streams(settings.max_streams);
        if let Some((certificate, key)) = &settings.tls {
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
            server = server.tls_config(tls).map_err(io::Error::other)?;
        }
        let service = TestServiceServer::new(handlers)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let router = server
            .layer(LoadReportLayer::new(recorder.clone()))
            .layer(WireLayer(Arc::clone(&calls)))
            .add_service(service)
            .add_service(LoadReportServer::new(recorder).min_interval(REPORTS));
        let (graceful, asked) = oneshot::channel();
        // A sender that is dropped asks as well.
        let asked = async { drop(asked.await) };
        let serving = tokio::spawn(router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), asked));
        Ok(Self { address, calls, graceful: Some(graceful), serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        let count = |of: &std::sync::atomic::AtomicUsize| of.load(Ordering::SeqCst);
        Counts { begun: count(&self.calls.begun), cancelled: count(&self.calls.cancelled) }
    }

    /// Accepts no more, and returns once the calls in flight have ended. There is no bound but the caller's own.
    ///
    /// # Errors
    /// What tonic says.
    pub async fn stop(mut self) -> Result<(), Error> {
        if let Some(graceful) = self.graceful.take() {
            // It is asked already if the other half is gone.
            let _ = graceful.send(());
        }
        (&mut self.serving).await.unwrap_or(Ok(()))
    }
}

impl Drop for InteropServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

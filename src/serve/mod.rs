//! A server's way in and its way out: bind, sign in, serve, leave, drain, end.

mod advertise;
mod serving;
mod signals;
mod way_out;

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{
    Address, AnnounceSettings, BoxError, Error, ErrorKind, Instance, Registry, Result, Service, announce,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::Instrument;

pub use self::advertise::advertised;
use self::advertise::registry_hosts;
pub use self::serving::{Serving, Shutdown};
use self::signals::Stops;
use self::way_out::WayOut;
use crate::registry;

type Later = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Prepares a server to sign in at the registry, and as the service, that a URL names.
///
/// The URL is that of [`registry`]. No I/O happens here. [`Serve`] says what comes then.
///
/// # Errors
/// As [`registry`] says.
pub fn serve(url: &str) -> Result<Serve> {
    let (registry, service) = registry(url)?;
    let hosts = registry_hosts(&url.parse()?);
    Ok(Serve { hosts, ..Serve::new(registry, service) })
}

/// How a server signs in and how it goes. It works with every server that accepts from a listener and stops gracefully
/// when a future resolves: tonic's, axum's, hyper's.
///
/// **The way in.** The listener is bound before, by you, so that nobody is sent to a server that is not there yet. Then
/// the server is started and the instance announced, for ever, whether the registry is up or not.
///
/// **The way out** begins at SIGTERM or SIGINT (Ctrl-C), when [`until`](Self::until) resolves, or when a newer
/// incarnation has taken the instance's id. Each step is logged by `tracing`, and has a bound:
/// 1. Health says NOT_SERVING: [`not_serving`](Self::not_serving).
/// 2. The instance leaves the board, acknowledged by the registry: at most twice
///    [`attempt_timeout`](AnnounceSettings::attempt_timeout). If that fails, the entry ends by its time to live, and the
///    way out goes on.
/// 3. The server goes on serving, new connections too, while that gets around:
///    [`propagation_delay`](Self::propagation_delay), 3 s.
/// 4. [`Shutdown`] resolves: the server sends GOAWAY, accepts no more connections, and finishes the calls in flight:
///    at most [`grace`](Self::grace), 30 s.
///
/// A second signal ends it at once, at any step; so does dropping the future that waits for the end. If the server ends by itself, with an error or by a panic, the instance
/// leaves the board too, before the error is returned or the panic goes on.
///
/// ```no_run
/// use callboard_echo::pb::echo_server::{Echo, EchoServer};
/// use tokio_stream::wrappers::TcpListenerStream;
/// use tonic::transport::Server;
///
/// async fn run(echo: impl Echo) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = tokio::net::TcpListener::bind("0.0.0.0:50051").await?;
///     let (health, health_service) = tonic_health::server::health_reporter();
///     health.set_service_status("", tonic_health::ServingStatus::Serving).await;
///     callboard::serve("etcd://10.0.0.1:2379/project/test")?
///         .instance(|instance| instance.weight(3).zone("eu-1"))
///         .not_serving(async move { health.set_service_status("", tonic_health::ServingStatus::NotServing).await })
///         .run(listener, |listener, shutdown| {
///             Server::builder()
///                 .add_service(health_service)
///                 .add_service(EchoServer::new(echo))
///                 .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
///         })
///         .await?;
///     Ok(())
/// }
/// ```
///
/// Who runs a server in another way has the same pieces one by one: [`advertised`], [`announce`], and
/// [`Announcement::leave`](crate::Announcement::leave), after which a server goes on serving for a while.
#[must_use = "nothing happens until it runs"]
pub struct Serve {
    registry: Arc<dyn Registry>,
    service: Service,
    /// Where the registry is, if a URL said so.
    hosts: Vec<String>,
    address: Option<Address>,
    id: Option<String>,
    change: Box<dyn FnOnce(Instance) -> Instance + Send>,
    announcing: AnnounceSettings,
    not_serving: Option<Later>,
    propagation_delay: Duration,
    grace: Duration,
    until: Later,
    signals: bool,
}

impl Serve {
    /// The default of [`propagation_delay`](Self::propagation_delay): 3 s.
    pub const PROPAGATION_DELAY: Duration = Duration::from_secs(3);
    /// The default of [`grace`](Self::grace): 30 s.
    pub const GRACE: Duration = Duration::from_secs(30);

    /// The same as [`serve`] with a registry of your own. Where that is, is not known: what [`advertised`] makes of it
    /// is left out.
    pub fn new(registry: Arc<dyn Registry>, service: Service) -> Self {
        Self {
            registry,
            service,
            hosts: Vec::new(),
            address: None,
            id: None,
            change: Box::new(|instance| instance),
            announcing: AnnounceSettings::default(),
            not_serving: None,
            propagation_delay: Self::PROPAGATION_DELAY,
            grace: Self::GRACE,
            until: Box::pin(pending()),
            signals: true,
        }
    }

    /// Sets the address at which others reach the server. By default it is found as [`advertised`] says, or
    /// [`start`](Self::start) fails.
    pub fn advertise(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets the instance's id. Its address by default, as [`Instance::at`] makes it.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the instance's weight, zone and metadata. A second call adds to the first. Id and address stay as they are,
    /// whatever `change` does.
    pub fn instance(mut self, change: impl FnOnce(Instance) -> Instance + Send + 'static) -> Self {
        let before = self.change;
        self.change = Box::new(|instance| change(before(instance)));
        self
    }

    /// Sets the bounds of announcing and leaving. [`AnnounceSettings::default`] by default.
    pub fn announcing(mut self, settings: AnnounceSettings) -> Self {
        self.announcing = settings;
        self
    }

    /// Sets what makes the server's health service say NOT_SERVING: the first step of the way out. It gets
    /// [`attempt_timeout`](AnnounceSettings::attempt_timeout); after that the next step comes. Nothing by default.
    pub fn not_serving(mut self, report: impl Future<Output = ()> + Send + 'static) -> Self {
        self.not_serving = Some(Box::pin(report));
        self
    }

    /// Sets for how long the server goes on serving after it has left the board: until the last client has heard of it.
    /// 3 s by default.
    pub fn propagation_delay(mut self, delay: Duration) -> Self {
        self.propagation_delay = delay;
        self
    }

    /// Sets how long the calls in flight may take to end, once the server shuts down. 30 s by default. What is left then
    /// is given up: the server's future is dropped. Connections that a server has spawned as tasks of their own, as
    /// tonic, axum and hyper do, end with the runtime: when `main` returns.
    ///
    /// A stream without an end is a call in flight too.
    pub fn grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }

    /// Begins the way out when this resolves, beside the signals. Never, by default.
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Box::pin(stop);
        self
    }

    /// Whether SIGTERM and SIGINT (elsewhere than on Unix: Ctrl-C) begin the way out. True by default; then neither ends
    /// the process by itself any more, from [`start`](Self::start) on, which is tokio's way with signals.
    pub fn signals(mut self, listen: bool) -> Self {
        self.signals = listen;
        self
    }

    /// [Starts](Self::start) the server and returns when it [has ended](Serving::ended).
    ///
    /// # Errors
    /// Those of both.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, it ends at once, as [`Serving::ended`] says.
    pub async fn run<S, E>(self, listener: TcpListener, server: impl FnOnce(TcpListener, Shutdown) -> S) -> Result<()>
    where
        S: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.start(listener, server).await?.ended().await
    }

    /// Starts the server and announces the instance. It does not wait until the instance is on the board.
    ///
    /// `server` is given the listener, and a future that resolves when the server has to shut down gracefully. It
    /// returns the future that serves, which is spawned as a task, within the current tracing span.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if no address can be advertised, or the id is none; what the system says if the
    /// listener has no address or signals cannot be heard. Nothing has been started then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start<S, E>(
        mut self,
        listener: TcpListener,
        server: impl FnOnce(TcpListener, Shutdown) -> S,
    ) -> Result<Serving>
    where
        S: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let bound = listener
            .local_addr()
            .map_err(|error| Error::new(ErrorKind::Unavailable, "the listener has no address").with_source(error))?;
        let address = match self.address.take() {
            Some(address) => address,
            None => advertised(bound, &self.hosts).await.map_err(|error| error.for_service(&self.service))?,
        };
        let instance = instance(self.id, address, self.change)?;
        let stops = Stops::new(self.signals, self.until)?;

        let (shut_down, asked) = oneshot::channel();
        let serving = server(listener, Shutdown(asked));
        let mut task = JoinSet::new();
        task.spawn(async { serving.await.map_err(Into::into) }.in_current_span());
        tracing::info!(service = %self.service, instance = instance.id, address = %instance.address, %bound, "serving");
        let attempt_timeout = self.announcing.attempt_timeout;
        let announcement = announce(self.registry, &self.service, instance.clone(), self.announcing);
        let way_out = WayOut {
            server: task,
            shut_down,
            stops,
            state: announcement.watch(),
            not_serving: self.not_serving,
            attempt_timeout,
            propagation_delay: self.propagation_delay,
            grace: self.grace,
        };
        Ok(Serving::new(instance, announcement, way_out))
    }
}

fn instance(id: Option<String>, address: Address, change: impl FnOnce(Instance) -> Instance) -> Result<Instance> {
    let named = match id {
        Some(id) => Instance::new(id, address)?,
        None => Instance::at(address)?,
    };
    let mut instance = change(named.clone());
    (instance.id, instance.address) = (named.id, named.address);
    Ok(instance)
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("registry", &self.registry)
            .field("service", &self.service)
            .field("address", &self.address)
            .field("id", &self.id)
            .field("propagation_delay", &self.propagation_delay)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

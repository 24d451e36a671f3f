//! Settings of a server before it starts.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Address, Instance, RegistrationSettings, Registry, Result, ServiceName};
use tokio::sync::watch;

use super::Later;
use super::advertise::Place;
use super::shutdown_signal::Shutdown;
use super::signals::LaterSignal;
use crate::registry;

/// Prepares a server to be registered, in the registry and as the service that a URL names.
///
/// The URL is that of [`registry`]. This does no I/O. [`Serve`] describes the next steps.
///
/// # Errors
/// As [`registry`] says.
pub fn serve(url: &str) -> Result<Serve> {
    let (registry, service) = registry(url)?;
    let place = Place::of(&url.parse()?);
    Ok(Serve { place, ..Serve::new(registry, service) })
}

/// Runs a server: registers it, waits for a reason to stop, and shuts it down without losing calls. It works with every
/// server that accepts from a listener and stops gracefully when a future resolves: tonic's, axum's, hyper's.
///
/// **Start.** You bind the listener first, so that no client is sent to a server that is not there yet. Then `Serve`
/// listens for signals, starts the server and registers the instance. It retries for ever, whether or not the registry
/// is up and its name can be looked up.
///
/// **Shutdown** begins at SIGTERM or SIGINT (Ctrl-C), or when [`shutdown_signal`](Self::shutdown_signal) resolves. It
/// does not begin if another server has taken the instance's id: this one goes on serving, logs an error, and waits for
/// the id. Only if [`conflict_timeout`](RegistrationSettings::conflict_timeout) is set does it shut down after that
/// time. Each step is logged by `tracing`, and has a bound:
/// 1. The health service reports NOT_SERVING: [`not_serving`](Self::not_serving), 1 s.
/// 2. The instance is deregistered, and the registry acknowledges it: [`deregister_timeout`](Self::deregister_timeout),
///    5 s together with the first step. If the registry has not answered by then, shutdown goes on, and deregistering
///    continues beside it, for at most twice [`attempt_timeout`](RegistrationSettings::attempt_timeout). An entry that
///    is left in the registry then ends by its time to live.
/// 3. The server goes on serving, on new connections too, until clients have seen the change:
///    [`deregister_delay`](Self::deregister_delay), 3 s.
/// 4. [`Shutdown`] resolves: the server sends GOAWAY, accepts no more connections, and finishes the calls in flight,
///    for at most [`drain_timeout`](Self::drain_timeout), 20 s.
///
/// That is at most 24 s with a registry that answers at once, and 28 s in any case. It is less than the 30 s that
/// Kubernetes gives (`terminationGracePeriodSeconds`), which include a `preStop` hook. With longer times here, raise
/// that value too.
///
/// A call without an end of its own lasts until the drain timeout, unless its handler reacts to the shutdown. Clone
/// [`Shutdown`] for such a handler, or wrap a service such as health's `Watch` in [`Shutdown::end_streams`].
///
/// A signal more than a second after the first one ends the server at once, at any step, unless
/// [`later_signal`](Self::later_signal) changes that. An earlier one counts as the same request, sent twice. Dropping
/// the future that waits for the end also ends the server at once. If the server ends by itself, with an error or a
/// panic, the instance is deregistered before the error is returned or the panic is resumed.
///
/// ```no_run
/// use callboard_echo::pb::echo_server::{Echo, EchoServer};
/// use tonic::transport::Server;
///
/// async fn run(echo: impl Echo) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = tokio::net::TcpListener::bind("0.0.0.0:50051").await?;
///     let (health, health_service) = tonic_health::server::health_reporter();
///     health.set_service_status("", tonic_health::ServingStatus::Serving).await;
///     callboard::serve("etcd://10.0.0.1:2379/project/test")?
///         .instance(|instance| instance.with_weight(3).with_zone("eu-1"))
///         .not_serving(async move { health.set_service_status("", tonic_health::ServingStatus::NotServing).await })
///         .run(listener, |listener, shutdown| {
///             Server::builder()
///                 // Otherwise one upload that its handler does not read stops all other calls of its connection.
///                 .initial_stream_window_size(256 * 1024)
///                 .initial_connection_window_size(64 * 1024 * 1024)
///                 .add_service(shutdown.end_streams(health_service))
///                 .add_service(EchoServer::new(echo))
///                 .serve_with_incoming_shutdown(callboard::Incoming::new(listener), shutdown)
///         })
///         .await?;
///     Ok(())
/// }
/// ```
///
/// The windows are HTTP/2's: how much a client may send before a handler has read it, on one stream and on the whole
/// connection. tonic's default is 1 MiB for both. With the values above, some 250 uploads on one connection may be left
/// unread.
///
/// To run a server in another way, use the same parts one by one: [`advertise_address`](crate::advertise_address),
/// [`register`](crate::register), and [`Registration::deregister`](crate::Registration::deregister), after which a
/// server should go on serving for a while.
#[must_use = "nothing happens until it runs"]
pub struct Serve {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) service: ServiceName,
    pub(super) place: Place,
    pub(super) address: Option<Address>,
    pub(super) id: Option<String>,
    pub(super) change: Box<dyn FnOnce(Instance) -> Instance + Send>,
    pub(super) registration: RegistrationSettings,
    pub(super) not_serving: Option<Later>,
    pub(super) deregister_timeout: Duration,
    pub(super) deregister_delay: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) shutdown_signal: Later,
    pub(super) signals: bool,
    pub(super) later_signal: LaterSignal,
    /// Dropping the sender shuts the server down.
    pub(super) shutdown: (watch::Sender<()>, Shutdown),
}

impl Serve {
    /// The default of [`deregister_timeout`](Self::deregister_timeout): 5 s.
    pub const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`deregister_delay`](Self::deregister_delay): 3 s.
    pub const DEREGISTER_DELAY: Duration = Duration::from_secs(3);
    /// The default of [`drain_timeout`](Self::drain_timeout): 20 s.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// Does the same as [`serve`] with a registry of your own. [`registry_hosts`](Self::registry_hosts) can tell where
    /// that is.
    pub fn new(registry: Arc<dyn Registry>, service: ServiceName) -> Self {
        Self {
            registry,
            service,
            place: Place::Hosts(Vec::new()),
            address: None,
            id: None,
            change: Box::new(|instance| instance),
            registration: RegistrationSettings::default(),
            not_serving: None,
            deregister_timeout: Self::DEREGISTER_TIMEOUT,
            deregister_delay: Self::DEREGISTER_DELAY,
            drain_timeout: Self::DRAIN_TIMEOUT,
            shutdown_signal: Box::pin(pending()),
            signals: true,
            later_signal: LaterSignal::default(),
            shutdown: Shutdown::new(),
        }
    }

    /// Sets the address at which clients reach the server. By default it is found as
    /// [`advertise_address`](crate::advertise_address) says. If that has to look up the registry's hosts, the server
    /// serves meanwhile, and is registered once the address is known.
    pub fn advertise(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets the registry's hosts, with or without a port, as [`Target::hosts`](crate::Target::hosts) returns them. If
    /// nothing else gives the address to advertise, it is this machine's address on the route to one of them. The
    /// default is the hosts of the URL that [`serve`] was given, and none for a registry of your own.
    pub fn registry_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.place = Place::Hosts(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the instance's id. The default is its address, as in [`Instance::at`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the instance's weight, zone and metadata. A second call adds to the first. `change` cannot change the id
    /// and the address, which may not be known yet when it is called.
    pub fn instance(mut self, change: impl FnOnce(Instance) -> Instance + Send + 'static) -> Self {
        let before = self.change;
        self.change = Box::new(|instance| change(before(instance)));
        self
    }

    /// Sets the bounds of registering and deregistering. The default is [`RegistrationSettings::default`].
    pub fn registration(mut self, settings: RegistrationSettings) -> Self {
        self.registration = settings;
        self
    }

    /// Sets the first step of the shutdown: a future that makes the server's health service report NOT_SERVING. After 1
    /// s the next step begins in any case. Nothing by default.
    pub fn not_serving(mut self, report: impl Future<Output = ()> + Send + 'static) -> Self {
        self.not_serving = Some(Box::pin(report));
        self
    }

    /// Sets how long the first two steps of the shutdown may delay the next ones. 5 s by default. If the registry has
    /// not answered by then, the wait for it continues beside them.
    pub fn deregister_timeout(mut self, limit: Duration) -> Self {
        self.deregister_timeout = limit;
        self
    }

    /// Sets how long the server goes on serving after it is deregistered, until the last client has seen that. 3 s by
    /// default.
    pub fn deregister_delay(mut self, delay: Duration) -> Self {
        self.deregister_delay = delay;
        self
    }

    /// Sets how long the calls in flight may take to end, once the server shuts down. 20 s by default. After that the
    /// server's future is dropped. Connections that a server has spawned as tasks of their own, as tonic, axum and
    /// hyper do, end with the runtime: when `main` returns.
    ///
    /// A stream without an end is a call in flight too: see [`Shutdown`].
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Returns the future that resolves when the server shuts down, for handlers that are made before it starts.
    /// [`run`](Self::run) and [`start`](Self::start) pass the same one. It also resolves if the server is never
    /// started.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.1.clone()
    }

    /// Sets a future that begins the shutdown when it resolves, in addition to the signals. None by default.
    pub fn shutdown_signal(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown_signal = Box::pin(stop);
        self
    }

    /// Sets whether SIGTERM and SIGINT (Ctrl-C on systems other than Unix) begin the shutdown. On by default. From
    /// [`start`](Self::start) on, neither signal ends the process by itself any more, as is usual with tokio's signals.
    /// Before that, a signal ends the process as usual. The exception is process 1 of a container: a signal for which
    /// it does not listen is lost.
    pub fn signals(mut self, listen: bool) -> Self {
        self.signals = listen;
        self
    }

    /// Sets what a signal does more than a second after the first one. By default it ends the server at once.
    pub fn later_signal(mut self, does: LaterSignal) -> Self {
        self.later_signal = does;
        self
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("registry", &self.registry)
            .field("service", &self.service)
            .field("address", &self.address)
            .field("id", &self.id)
            .field("deregister_timeout", &self.deregister_timeout)
            .field("deregister_delay", &self.deregister_delay)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

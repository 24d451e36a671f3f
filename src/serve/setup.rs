//! What is set before a server starts.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Address, Instance, RegistrationSettings, Registry, Result, ServiceName};
use tokio::sync::watch;

use super::Later;
use super::advertise::Place;
use super::shutdown::Shutdown;
use super::signals::LaterSignal;
use crate::registry;

/// Prepares a server to sign in at the registry, and as the service, that a URL names.
///
/// The URL is that of [`registry`]. No I/O happens here. [`Serve`] says what comes then.
///
/// # Errors
/// As [`registry`] says.
pub fn serve(url: &str) -> Result<Serve> {
    let (registry, service) = registry(url)?;
    let place = Place::of(&url.parse()?);
    Ok(Serve { place, ..Serve::new(registry, service) })
}

/// How a server signs in and how it goes. It works with every server that accepts from a listener and stops gracefully
/// when a future resolves: tonic's, axum's, hyper's.
///
/// **The way in.** The listener is bound before, by you, so that nobody is sent to a server that is not there yet. Then
/// signals are listened for, the server is started and the instance registered, for ever, whether the registry is up or not,
/// and whether its name can be looked up or not.
///
/// **The way out** begins at SIGTERM or SIGINT (Ctrl-C), or when [`shutdown_signal`](Self::shutdown_signal) resolves. That another server has
/// taken the instance's id does not begin it: this one serves on, says so as an error, and waits for the id, unless
/// [`conflict_timeout`](RegistrationSettings::conflict_timeout) is set and over. Each step is logged by `tracing`, and has a
/// bound:
/// 1. Health says NOT_SERVING: [`not_serving`](Self::not_serving), 1 s.
/// 2. The instance leaves the board, acknowledged by the registry: [`deregister_timeout`](Self::deregister_timeout), 5 s with the
///    first step. If the registry has not answered by then, the way out goes on, and leaving beside it, for at most twice
///    [`attempt_timeout`](RegistrationSettings::attempt_timeout); what is left on the board then ends by its time to live.
/// 3. The server goes on serving, new connections too, while that gets around:
///    [`deregister_delay`](Self::deregister_delay), 3 s.
/// 4. [`Shutdown`] resolves: the server sends GOAWAY, accepts no more connections, and finishes the calls in flight:
///    at most [`drain_timeout`](Self::drain_timeout), 20 s.
///
/// That is 24 s at most with a registry that answers at once, and 28 s whatever happens: less than the 30 s that Kubernetes gives
/// (`terminationGracePeriodSeconds`), in which a `preStop` hook counts too. Who sets longer times tells Kubernetes so.
///
/// A call without an end of its own lasts until the grace is over, unless its handler hears of the shutdown:
/// [`Shutdown`] is cloned for it, and [`Shutdown::end_streams`] does it for a service such as health's `Watch`.
///
/// A signal that comes more than a second after the first one ends it at once, at any step, unless
/// [`later_signal`](Self::later_signal) says otherwise; what comes sooner is the same wish, sent twice. Dropping the future
/// that waits for the end ends it at once, too. If the server ends by itself, with an error or by a panic, the instance
/// leaves the board before the error is returned or the panic goes on.
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
///                 // Else one upload that its handler does not read stops all other calls of its connection.
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
/// The windows are HTTP/2's: what a client may send before a handler has read it, for one call and for all of a connection.
/// tonic has 1 MiB for either. With those above, some 250 uploads on one connection may be left unread.
///
/// Who runs a server in another way has the same pieces one by one: [`advertise_address`](crate::advertise_address), [`register`](crate::register), and
/// [`Registration::deregister`](crate::Registration::deregister), after which a server goes on serving for a while.
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
    /// Whoever holds the first shuts the server down by dropping it.
    pub(super) shutdown: (watch::Sender<()>, Shutdown),
}

impl Serve {
    /// The default of [`deregister_timeout`](Self::deregister_timeout): 5 s.
    pub const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`deregister_delay`](Self::deregister_delay): 3 s.
    pub const DEREGISTER_DELAY: Duration = Duration::from_secs(3);
    /// The default of [`drain_timeout`](Self::drain_timeout): 20 s.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// The same as [`serve`] with a registry of your own. Where that is, [`registry_hosts`](Self::registry_hosts) may say.
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

    /// Sets the address at which others reach the server. By default it is found as [`advertise_address`](crate::advertise_address) says; where that takes
    /// a look at the way to the registry, the server serves meanwhile, and is registered once the address is known.
    pub fn advertise(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets hosts of the registry, with or without a port, as [`Target::hosts`](crate::Target::hosts) gives them: on the way
    /// to one of them the address is found at which others reach the server, if nothing else says it. By default those of
    /// the URL that [`serve`] was given, and none for a registry of your own.
    pub fn registry_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.place = Place::Hosts(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the instance's id. Its address by default, as [`Instance::at`] makes it.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the instance's weight, zone and metadata. A second call adds to the first. Id and address stay as they are,
    /// whatever `change` does, and may not be known yet when it is called.
    pub fn instance(mut self, change: impl FnOnce(Instance) -> Instance + Send + 'static) -> Self {
        let before = self.change;
        self.change = Box::new(|instance| change(before(instance)));
        self
    }

    /// Sets the bounds of registering and leaving. [`RegistrationSettings::default`] by default.
    pub fn registration(mut self, settings: RegistrationSettings) -> Self {
        self.registration = settings;
        self
    }

    /// Sets what makes the server's health service say NOT_SERVING: the first step of the way out. It gets
    /// 1 s; after that the next step comes. Nothing by default.
    pub fn not_serving(mut self, report: impl Future<Output = ()> + Send + 'static) -> Self {
        self.not_serving = Some(Box::pin(report));
        self
    }

    /// Sets for how long the first two steps of the way out may hold up the next ones: 5 s by default. A registry that has not
    /// answered by then is waited for beside them.
    pub fn deregister_timeout(mut self, limit: Duration) -> Self {
        self.deregister_timeout = limit;
        self
    }

    /// Sets for how long the server goes on serving after it has left the board: until the last client has heard of it.
    /// 3 s by default.
    pub fn deregister_delay(mut self, delay: Duration) -> Self {
        self.deregister_delay = delay;
        self
    }

    /// Sets how long the calls in flight may take to end, once the server shuts down. 20 s by default. What is left then
    /// is given up: the server's future is dropped. Connections that a server has spawned as tasks of their own, as
    /// tonic, axum and hyper do, end with the runtime: when `main` returns.
    ///
    /// A stream without an end is a call in flight too: see [`Shutdown`].
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// What resolves when the server shuts down, for handlers that are made before it starts. [`run`](Self::run) and
    /// [`start`](Self::start) give the same one. It resolves, too, if the server is never started.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.1.clone()
    }

    /// Begins the way out when this resolves, beside the signals. Never, by default.
    pub fn shutdown_signal(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown_signal = Box::pin(stop);
        self
    }

    /// Whether SIGTERM and SIGINT (elsewhere than on Unix: Ctrl-C) begin the way out. True by default; then neither ends
    /// the process by itself any more, from [`start`](Self::start) on, which is tokio's way with signals. A signal before
    /// that ends a process as usual; process 1 of a container, which no signal ends that it does not listen for, misses it.
    pub fn signals(mut self, listen: bool) -> Self {
        self.signals = listen;
        self
    }

    /// Sets what a signal does that comes more than a second after the first one. It ends the server at once, by default.
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

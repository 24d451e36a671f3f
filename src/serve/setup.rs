//! What is set before a server starts.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Address, AnnounceSettings, Instance, Registry, Result, Service};
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
/// signals are listened for, the server is started and the instance announced, for ever, whether the registry is up or not,
/// and whether its name can be looked up or not.
///
/// **The way out** begins at SIGTERM or SIGINT (Ctrl-C), or when [`until`](Self::until) resolves. That another server has
/// taken the instance's id does not begin it: this one serves on, says so as an error, and waits for the id, unless
/// [`conflict_patience`](AnnounceSettings::conflict_patience) is set and over. Each step is logged by `tracing`, and has a
/// bound:
/// 1. Health says NOT_SERVING: [`not_serving`](Self::not_serving), 1 s.
/// 2. The instance leaves the board, acknowledged by the registry: [`leave_timeout`](Self::leave_timeout), 5 s with the
///    first step. If the registry has not answered by then, the way out goes on, and leaving beside it, for at most twice
///    [`attempt_timeout`](AnnounceSettings::attempt_timeout); what is left on the board then ends by its time to live.
/// 3. The server goes on serving, new connections too, while that gets around:
///    [`propagation_delay`](Self::propagation_delay), 3 s.
/// 4. [`Shutdown`] resolves: the server sends GOAWAY, accepts no more connections, and finishes the calls in flight:
///    at most [`grace`](Self::grace), 20 s.
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
///         .instance(|instance| instance.weight(3).zone("eu-1"))
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
/// Who runs a server in another way has the same pieces one by one: [`advertised`](crate::advertised), [`announce`](crate::announce), and
/// [`Announcement::leave`](crate::Announcement::leave), after which a server goes on serving for a while.
#[must_use = "nothing happens until it runs"]
pub struct Serve {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) service: Service,
    pub(super) place: Place,
    pub(super) address: Option<Address>,
    pub(super) id: Option<String>,
    pub(super) change: Box<dyn FnOnce(Instance) -> Instance + Send>,
    pub(super) announcing: AnnounceSettings,
    pub(super) not_serving: Option<Later>,
    pub(super) leave_timeout: Duration,
    pub(super) propagation_delay: Duration,
    pub(super) grace: Duration,
    pub(super) until: Later,
    pub(super) signals: bool,
    pub(super) later_signal: LaterSignal,
    /// Whoever holds the first shuts the server down by dropping it.
    pub(super) shutdown: (watch::Sender<()>, Shutdown),
}

impl Serve {
    /// The default of [`leave_timeout`](Self::leave_timeout): 5 s.
    pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`propagation_delay`](Self::propagation_delay): 3 s.
    pub const PROPAGATION_DELAY: Duration = Duration::from_secs(3);
    /// The default of [`grace`](Self::grace): 20 s.
    pub const GRACE: Duration = Duration::from_secs(20);

    /// The same as [`serve`] with a registry of your own. Where that is, [`registry_hosts`](Self::registry_hosts) may say.
    pub fn new(registry: Arc<dyn Registry>, service: Service) -> Self {
        Self {
            registry,
            service,
            place: Place::Hosts(Vec::new()),
            address: None,
            id: None,
            change: Box::new(|instance| instance),
            announcing: AnnounceSettings::default(),
            not_serving: None,
            leave_timeout: Self::LEAVE_TIMEOUT,
            propagation_delay: Self::PROPAGATION_DELAY,
            grace: Self::GRACE,
            until: Box::pin(pending()),
            signals: true,
            later_signal: LaterSignal::default(),
            shutdown: Shutdown::new(),
        }
    }

    /// Sets the address at which others reach the server. By default it is found as [`advertised`](crate::advertised) says; where that takes
    /// a look at the way to the registry, the server serves meanwhile, and is announced once the address is known.
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

    /// Sets the bounds of announcing and leaving. [`AnnounceSettings::default`] by default.
    pub fn announcing(mut self, settings: AnnounceSettings) -> Self {
        self.announcing = settings;
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
    pub fn leave_timeout(mut self, limit: Duration) -> Self {
        self.leave_timeout = limit;
        self
    }

    /// Sets for how long the server goes on serving after it has left the board: until the last client has heard of it.
    /// 3 s by default.
    pub fn propagation_delay(mut self, delay: Duration) -> Self {
        self.propagation_delay = delay;
        self
    }

    /// Sets how long the calls in flight may take to end, once the server shuts down. 20 s by default. What is left then
    /// is given up: the server's future is dropped. Connections that a server has spawned as tasks of their own, as
    /// tonic, axum and hyper do, end with the runtime: when `main` returns.
    ///
    /// A stream without an end is a call in flight too: see [`Shutdown`].
    pub fn grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }

    /// What resolves when the server shuts down, for handlers that are made before it starts. [`run`](Self::run) and
    /// [`start`](Self::start) give the same one. It resolves, too, if the server is never started.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.1.clone()
    }

    /// Begins the way out when this resolves, beside the signals. Never, by default.
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Box::pin(stop);
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
            .field("leave_timeout", &self.leave_timeout)
            .field("propagation_delay", &self.propagation_delay)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

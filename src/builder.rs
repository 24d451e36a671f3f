//! Describing a channel.

mod service_config;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{
    Address, Backoff, Balancer, BoxError, Error, ErrorKind, FollowSettings, Resolver, Result, Service, follow,
};
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::Channel;
use crate::control::Parts;
use crate::dial::Balancers;
use crate::features;
use crate::lookaside;
use crate::shared::Defaults;
#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::transport::{Connector, Custom, Keepalive, Settings, System};

const USER_AGENT: &str = concat!("callboard/", env!("CARGO_PKG_VERSION"));

/// Describes a [`Channel`]: the resolver is required, the rest has defaults.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// use std::time::Duration;
/// use callboard::{Channel, balancer::RoundRobin, backend::Memory};
///
/// let board = Memory::default();
/// let channel = Channel::builder("project/test".parse()?)
///     .resolver(board)
///     .balancer(RoundRobin::new())
///     .timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ChannelBuilder {
    service: Service,
    resolver: Option<Arc<dyn Resolver>>,
    balancer: Option<Arc<dyn Balancer>>,
    balancers: Balancers,
    service_config: bool,
    follow: FollowSettings,
    transport: Settings,
    backoff: Backoff,
    most_connections: usize,
    connector: Arc<dyn Connector>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    authority: Option<String>,
    user_agent: Option<String>,
    timeout: Option<Duration>,
    wait_for_ready: bool,
    retry_buffer: usize,
    lookaside_patience: Duration,
}

impl ChannelBuilder {
    pub(crate) fn new(service: Service) -> Self {
        Self {
            service,
            resolver: None,
            balancer: None,
            balancers: Balancers::compiled_in(),
            service_config: true,
            follow: FollowSettings::default(),
            transport: Settings::default(),
            backoff: Backoff::CONNECTION,
            most_connections: 1,
            connector: Arc::new(System),
            #[cfg(feature = "tls")]
            tls: None,
            authority: None,
            user_agent: None,
            timeout: None,
            wait_for_ready: false,
            retry_buffer: 256 << 10,
            lookaside_patience: lookaside::PATIENCE,
        }
    }

    /// Where to learn who serves. Required.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// How calls are shared out, unless the service's config says. Round robin by default, if that feature is on. A
    /// config can choose it by its name too, if no other balancer is known by that.
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Arc::new(balancer));
        self
    }

    /// How the resolver is supervised: grace periods and backoff. See [`FollowSettings`] for the defaults.
    pub fn follow(mut self, settings: FollowSettings) -> Self {
        self.follow = settings;
        self
    }

    /// The deadline of calls that set none, or a later one. None by default. Where the service's config gives a method a
    /// timeout, that stands in the place of this one.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether calls wait until an endpoint is ready, unless they say otherwise with
    /// [`WaitForReady`](crate::WaitForReady), or the service's config does for their method. They fail fast by default.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How many bytes of a request are kept until its response begins, so that it can be sent again. 256 KiB by default,
    /// as in grpc-go. A larger request is not retried by the service's retry policy; a streamed one is not sent again for
    /// any reason once more of it than that has been sent.
    ///
    /// It bounds each call. As in grpc-go, nothing bounds what all calls of a channel keep together.
    pub fn retry_buffer(mut self, bytes: usize) -> Self {
        self.retry_buffer = bytes;
        self
    }

    /// The bound of one attempt to connect, up to the server's HTTP/2 SETTINGS. 20 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// The waits between attempts to connect to one endpoint. gRPC's [`Backoff::CONNECTION`] by default.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many connections one endpoint may have. 1 by default. A further one is opened when those that there are
    /// have as many calls in flight as the server allows (MAX_CONCURRENT_STREAMS); until then, calls wait for a place.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.most_connections = most;
        self
    }

    /// When silent connections are asked for a sign of life. See [`Keepalive`] for the default.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.transport.keepalive = keepalive;
        self
    }

    /// How an address becomes a byte stream: a service that dials. TCP and Unix sockets of the system by default. It is
    /// bounded by [`connect_timeout`](Self::connect_timeout), and TLS, if there is any, is put around it.
    ///
    /// ```
    /// # fn doc(builder: callboard::ChannelBuilder) -> callboard::ChannelBuilder {
    /// use callboard::Address;
    ///
    /// // Whatever the registry says, the sidecar is asked. `service_fn` is tower's.
    /// let dial = tower::service_fn(|_address: Address| tokio::net::UnixStream::connect("/run/sidecar.sock"));
    /// builder.connector(dial)
    /// # }
    /// ```
    pub fn connector<S>(mut self, connector: S) -> Self
    where
        S: tower_service::Service<Address> + Clone + Send + 'static,
        S::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.connector = Arc::new(Custom::new(connector));
        self
    }

    /// Encrypts the connections. In the clear by default.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The `:authority` of requests, for servers and proxies that go by it. By default the service's name with `.` for
    /// `/`. It never comes from the registry.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// What stands in front of callboard's own name in the `user-agent` header. Nothing by default.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = Some(name.into());
        self
    }

    /// How long calls wait for the first list of an external balancer, if the registry lists any; after that they go to the
    /// backends that it lists itself. It is also how long a balancer may take to answer before the next one is asked. 10 s
    /// by default, as in gRPC. See [`lookaside`](crate::lookaside).
    pub fn lookaside_patience(mut self, patience: Duration) -> Self {
        self.lookaside_patience = patience;
        self
    }

    /// Makes the channel and starts its task. No I/O happens here, and no server and no registry has to be up.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the setting, if one is missing or malformed, or if this is not called
    /// within a Tokio runtime. [`Unsupported`](ErrorKind::Unsupported) if no balancer is given and the default one is
    /// not compiled in.
    pub fn build(self) -> Result<Channel> {
        let Self { service, resolver, balancer, follow: settings, transport, backoff, .. } = &self;
        let runtime = Handle::try_current()
            .map_err(|error| Error::invalid("a channel is built within a Tokio runtime").with_source(error))?;
        let resolver = resolver.clone().ok_or_else(|| missing("resolver", service))?;
        let balancer = match balancer {
            Some(balancer) => Arc::clone(balancer),
            None => features::default_balancer()?,
        };
        if transport.connect_timeout.is_zero() {
            return Err(Error::invalid("connect_timeout is 0, which no connection can meet").for_service(service));
        }
        if self.most_connections == 0 {
            return Err(Error::invalid("max_connections is 0, which leaves none to call on").for_service(service));
        }
        if self.lookaside_patience.is_zero() {
            return Err(Error::invalid("lookaside_patience is 0, in which no balancer can answer").for_service(service));
        }
        let defaults = self.defaults()?;
        let connector = self.secured(&defaults)?;
        let policy = self.policy(&balancer);
        let parts = Parts {
            balancer,
            connector,
            settings: transport.clone(),
            backoff: backoff.clone(),
            most_connections: self.most_connections,
        };
        let follow = follow(resolver, service, settings.clone());
        Ok(Channel::start(&runtime, service.clone(), defaults, parts, policy, follow, self.lookaside_patience))
    }

    #[cfg(feature = "tls")]
    fn secured(&self, defaults: &Defaults) -> Result<Arc<dyn Connector>> {
        let inner = Arc::clone(&self.connector);
        match &self.tls {
            Some(tls) => tls.around(inner, defaults.authority.host()).map_err(|error| error.for_service(&self.service)),
            None => Ok(inner),
        }
    }

    #[cfg(feature = "tls")]
    fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    #[cfg(not(feature = "tls"))]
    fn secured(&self, _: &Defaults) -> Result<Arc<dyn Connector>> {
        Ok(Arc::clone(&self.connector))
    }

    #[cfg(not(feature = "tls"))]
    fn scheme(&self) -> Scheme {
        Scheme::HTTP
    }

    fn defaults(&self) -> Result<Defaults> {
        let authority = self.authority.clone().unwrap_or_else(|| self.service.as_str().replace('/', "."));
        let user_agent = match &self.user_agent {
            Some(name) => format!("{name} {USER_AGENT}"),
            None => USER_AGENT.to_owned(),
        };
        let invalid = |what: &str, text: &str| Error::invalid(format!("{what} {text:?}")).for_service(&self.service);
        let user_agent = HeaderValue::try_from(&user_agent)
            .map_err(|error| invalid("user_agent", &user_agent).with_source(error))?;
        Ok(Defaults {
            scheme: self.scheme(),
            plain: Defaults::plain_headers(user_agent),
            authority: Authority::try_from(authority.as_str())
                .map_err(|error| invalid("authority", &authority).with_source(error))?,
            timeout: self.timeout,
            wait_for_ready: self.wait_for_ready,
            several_connections: self.most_connections > 1,
            retry_buffer: self.retry_buffer,
        })
    }
}

fn missing(what: &str, service: &Service) -> Error {
    Error::new(ErrorKind::Invalid, format!("no {what} was given")).for_service(service)
}

//! The builder of channels.

mod calls;
mod connections;
mod external_balancers;
mod service_config;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Backoff, Balancer, Error, ErrorKind, Resolver, Result, ServiceName, WatchSettings, watch};
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use tokio::runtime::Handle;

use crate::config::Balancers;
use crate::control::{self, MAX_DIALS, Parts};
use crate::grpc::{Credentials, Defaults};
use crate::lookaside::{self, LB_TOKEN, Lookup, Way};
#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::transport::{Connector, Settings, Sockets};
use crate::{Channel, features};

const USER_AGENT: &str = concat!("callboard/", env!("CARGO_PKG_VERSION"));

/// Builds a [`Channel`]. The resolver is required; everything else has a default.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// use std::time::Duration;
/// use callboard::{Channel, balancer::RoundRobin, backend::Memory};
///
/// let registry = Memory::default();
/// let channel = Channel::builder("project/test".parse()?)
///     .resolver(registry)
///     .balancer(RoundRobin::new())
///     .timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ChannelBuilder {
    service: ServiceName,
    resolver: Option<Arc<dyn Resolver>>,
    balancer: Option<Arc<dyn Balancer>>,
    balancers: Balancers,
    service_config: bool,
    default_service_config: Option<String>,
    watch: WatchSettings,
    transport: Settings,
    backoff: Backoff,
    most_connections: usize,
    extra_idle: Duration,
    sockets: Sockets,
    connector: Option<Arc<dyn Connector>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    authority: Option<String>,
    user_agent: Option<String>,
    credentials: Option<Credentials>,
    timeout: Option<Duration>,
    wait_for_ready: bool,
    retry_buffer: usize,
    max_waiting_calls: Option<usize>,
    backpressure: bool,
    external_balancers: bool,
    fallback_timeout: Duration,
    max_dials: usize,
}

impl Channel {
    /// Starts to build a channel to a service. See [`ChannelBuilder`].
    pub fn builder(service: ServiceName) -> ChannelBuilder {
        ChannelBuilder::new(service)
    }
}

impl ChannelBuilder {
    pub(crate) fn new(service: ServiceName) -> Self {
        Self {
            service,
            resolver: None,
            balancer: None,
            balancers: features::balancers(),
            service_config: true,
            default_service_config: None,
            watch: WatchSettings::default(),
            transport: Settings::default(),
            backoff: Backoff::CONNECTION,
            most_connections: 1,
            extra_idle: Duration::from_secs(60),
            sockets: Sockets::default(),
            connector: None,
            #[cfg(feature = "tls")]
            tls: None,
            authority: None,
            user_agent: None,
            credentials: None,
            timeout: None,
            wait_for_ready: false,
            retry_buffer: 256 << 10,
            max_waiting_calls: None,
            backpressure: false,
            external_balancers: true,
            fallback_timeout: lookaside::PATIENCE,
            max_dials: MAX_DIALS,
        }
    }

    /// Sets the resolver, which finds the service's instances. Required.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sets the balancer, unless the service config chooses one. The default is round robin, if that feature is on. A
    /// config can choose this balancer by its name too, unless another balancer has that name.
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Arc::new(balancer));
        self
    }

    /// Sets how the resolver is supervised: grace periods and backoff. See [`WatchSettings`] for the defaults.
    pub fn watch_settings(mut self, settings: WatchSettings) -> Self {
        self.watch = settings;
        self
    }

    /// Sets how many instances of the service are used at most. 10,000 by default; 0 counts as 1. If the registry, or
    /// the list of an [external balancer](crate::lookaside), has more, each channel uses a random subset, and the log
    /// says so. In a URL: `max_instances=10000`.
    ///
    /// This is [`WatchSettings::max_instances`]: the last call counts, of this method and of
    /// [`watch_settings`](Self::watch_settings).
    pub fn max_instances(mut self, most: usize) -> Self {
        self.watch.max_instances = most;
        self
    }

    /// Makes the channel and starts its task. This does no I/O; neither a server nor the registry has to be up.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the setting, if one is missing or malformed, or if this is called
    /// outside a Tokio runtime. [`Unsupported`](ErrorKind::Unsupported) if no balancer is set and the default one is
    /// not compiled in.
    pub fn build(self) -> Result<Channel> {
        let Self { service, resolver, balancer, watch: settings, transport, backoff, .. } = &self;
        let runtime = Handle::try_current()
            .map_err(|error| Error::invalid("a channel is built within a Tokio runtime").with_source(error))?;
        let resolver = resolver.clone().ok_or_else(|| missing("resolver", service))?;
        let balancer = match balancer {
            Some(balancer) => Arc::clone(balancer),
            None => features::default_balancer()?,
        };
        if transport.connect_timeout.is_zero() {
            return Err(Error::invalid("connect_timeout is 0, which allows no connection").for_service(service));
        }
        if self.most_connections == 0 {
            return Err(Error::invalid("max_connections is 0, which allows no connection").for_service(service));
        }
        if self.max_dials == 0 {
            return Err(Error::invalid("max_dials is 0, which allows no connection").for_service(service));
        }
        let terms = self.terms()?;
        transport.http2.check().map_err(|error| error.for_service(service))?;
        let defaults = self.defaults()?;
        let connector = self.secured(&defaults)?;
        let (config, balancer) = self.active_config(balancer)?;
        let parts = Parts {
            balancer,
            connector,
            settings: transport.clone(),
            backoff: backoff.clone(),
            most_connections: self.most_connections,
            extra_idle: self.extra_idle,
            max_dials: self.max_dials,
        };
        let way = terms.map(|terms| Way {
            service: service.clone(),
            defaults: defaults.clone(),
            connector: Arc::clone(&parts.connector),
            settings: parts.settings.clone(),
            backoff: parts.backoff.clone(),
            terms,
        });
        let source = Box::new(Lookup::new(watch(resolver, service, settings.clone()), way));
        Ok(Channel::new(control::start(&runtime, service.clone(), defaults, parts, config, source)))
    }

    #[cfg(feature = "tls")]
    fn secured(&self, defaults: &Defaults) -> Result<Arc<dyn Connector>> {
        let inner = self.plain_connector()?;
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
        self.plain_connector()
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
            max_waiting_calls: self.max_waiting_calls,
            backpressure: self.backpressure,
            own_fields: vec![LB_TOKEN],
            credentials: self.credentials()?,
        })
    }
}

fn missing(what: &str, service: &ServiceName) -> Error {
    Error::new(ErrorKind::Invalid, format!("no {what} was given")).for_service(service)
}

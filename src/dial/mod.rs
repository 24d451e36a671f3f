//! From a URL to a channel.

mod backend;
mod names;

use std::fmt;
use std::sync::Arc;

use callboard_core::{Balancer, Resolver, Result, Target, TargetOptions};

use self::backend::MakeResolver;
pub use self::backend::registry;
pub(crate) use self::backend::{Backend, MakeBackend};
use self::names::Names;
use crate::{Channel, ChannelBuilder, features};

/// What a scheme of a [`Dialer`] gives.
pub type Resolved = Arc<dyn Resolver>;

pub(crate) type MakeBalancer = dyn Fn(&mut TargetOptions<'_>) -> Result<Arc<dyn Balancer>> + Send + Sync;

/// Makes a channel to the service that a URL names, with what is compiled in.
///
/// The URL is `scheme://[user[:password]@]host[:port][,…]/service[?key=value&…]`; the scheme is the backend. Keys that
/// every scheme knows:
///
/// | key | meaning | default |
/// |---|---|---|
/// | `balancer` | how calls are shared out: `round_robin`, `weighted`, `weighted_round_robin`, `pick_first` | `round_robin` |
/// | `shuffle` | with `pick_first`: whether each client tries the endpoints in an order of its own | `false` |
/// | `timeout` | the deadline of calls that set none | none |
/// | `wait_for_ready` | whether calls wait for a ready endpoint instead of failing fast | `false` |
/// | `connect_timeout` | the bound of one attempt to connect | `20s` |
///
/// Like [`ChannelBuilder::build`] it does no I/O; neither the registry nor a server has to be up. To give it schemes and
/// balancers of your own, use a [`Dialer`].
///
/// # Errors
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has a key that nobody knows;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme or the balancer is not known, or needs a
/// feature that is off: the message says which.
pub async fn dial(url: &str) -> Result<Channel> {
    Dialer::new().dial(url).await
}

/// Dials URLs with schemes and balancers of your own, beside those that are compiled in.
///
/// It is a value, not a global table: two libraries in one program cannot meet in it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// use callboard::{Dialer, backend::Memory};
///
/// let dialer = Dialer::new().resolver("board", Memory::default());
/// let channel = dialer.dial("board:///project/test?balancer=weighted").await?;
/// assert_eq!(channel.service().as_str(), "project/test");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Dialer {
    schemes: Names<MakeResolver>,
    balancers: Names<MakeBalancer>,
}

impl Dialer {
    /// Knows what is compiled in.
    pub fn new() -> Self {
        Self {
            schemes: Names::new("scheme", backend::resolvers()),
            balancers: Names::new("balancer", features::balancers()),
        }
    }

    /// Adds a scheme, or replaces the one of that name. `make` is called for each URL of that scheme; it reads what it needs from the
    /// target, and its own query keys from the options.
    #[must_use]
    pub fn scheme(
        mut self,
        name: &str,
        make: impl Fn(&Target, &mut TargetOptions<'_>) -> Result<Resolved> + Send + Sync + 'static,
    ) -> Self {
        self.schemes.add(&name.to_ascii_lowercase(), Arc::new(make));
        self
    }

    /// Adds a scheme that always means this resolver, whatever the URL's host says.
    #[must_use]
    pub fn resolver(self, scheme: &str, resolver: impl Resolver) -> Self {
        let resolver: Resolved = Arc::new(resolver);
        self.scheme(scheme, move |_, _| Ok(Arc::clone(&resolver)))
    }

    /// Adds a balancer under its own name, or replaces the one of that name. All channels that choose it share it.
    #[must_use]
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        let balancer: Arc<dyn Balancer> = Arc::new(balancer);
        let name = balancer.name().to_owned();
        self.balancers.add(&name, Arc::new(move |_| Ok(Arc::clone(&balancer))));
        self
    }

    /// Reads a URL into a builder, for what no URL can say. The URL's settings can be overridden there.
    ///
    /// # Errors
    /// As [`dial`] says.
    pub fn builder(&self, url: &str) -> Result<ChannelBuilder> {
        let target: Target = url.parse()?;
        let mut options = target.options();
        let resolver = self.schemes.find(target.scheme())?(&target, &mut options)?;
        let mut builder = Channel::builder(target.service()?).resolver(resolver);
        if let Some(name) = options.text("balancer") {
            builder = builder.balancer(self.balancers.find(name)?(&mut options)?);
        }
        if let Some(timeout) = options.duration("timeout")? {
            builder = builder.timeout(timeout);
        }
        if let Some(wait) = options.flag("wait_for_ready")? {
            builder = builder.wait_for_ready(wait);
        }
        if let Some(timeout) = options.duration("connect_timeout")? {
            builder = builder.connect_timeout(timeout);
        }
        options.finish()?;
        Ok(builder)
    }

    /// Makes a channel to the service that a URL names. See [`dial`].
    ///
    /// # Errors
    /// As [`dial`] says.
    pub async fn dial(&self, url: &str) -> Result<Channel> {
        self.builder(url)?.build()
    }
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("schemes", &self.schemes.usable())
            .field("balancers", &self.balancers.usable())
            .finish()
    }
}

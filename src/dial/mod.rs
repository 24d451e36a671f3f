//! From a URL to a channel.

mod backend;
mod clients;
mod keys;

use std::fmt;
use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Resolver, Result, Target, TargetOptions};

use self::backend::MakeResolver;
pub use self::backend::{put_service_config, registry, resolver};
use crate::config::{Balancers, Known, Names};
use crate::{Channel, ChannelBuilder, features};

/// Schemes of URLs that people have from elsewhere. No other text before a '://' is repeated if the URL cannot be read: it
/// may be a secret in the wrong place.
const OTHERS: [&str; 6] = ["http", "https", "grpc", "grpcs", "dns", "tcp"];

/// What a scheme of a [`Dialer`] gives.
pub type Resolved = Arc<dyn Resolver>;

/// Makes a channel to the service that a URL names, with what is compiled in.
///
/// The URL is `scheme://[user[:password]@]host[:port][,…]/service[?key=value&…]`; the scheme is the backend. Keys that
/// every scheme knows:
///
/// | key | meaning | default |
/// |---|---|---|
/// | `balancer` | how calls are shared out, unless the service's config says: `round_robin`, `weighted`, `weighted_round_robin`, `pick_first` | `round_robin` |
/// | `shuffle` | with `pick_first`: whether each client tries the endpoints in an order of its own | `false` |
/// | `timeout` | the deadline of calls that set none, nor their method's config, up to the end of a stream; the earlier of this and the call's own counts, unless the call has a [`Timeout`](crate::Timeout) | none |
/// | `wait_for_ready` | whether calls wait for a ready endpoint instead of failing fast, unless their method's config says | `false` |
/// | `connect_timeout` | the bound of one attempt to connect | `20s` |
/// | `service_config` | whether the service's config in the registry is obeyed | `true` |
/// | `external_balancers` | whether [external balancers](crate::lookaside) that the registry lists are asked | `true` |
/// | `max_instances` | how many instances are used; of more, a part that each channel draws for itself | `10000` |
/// | `max_dials` | how many attempts to connect may be under way at once | `100` |
///
/// A server may be given the same URL ([`serve`](crate::serve()), [`registry`]): it passes over these keys. TLS to the
/// registry is the backend's key `registry_tls`. No key says TLS to the servers, which is the program's to decide:
/// `Dialer::new().builder(url)?.tls(…)`, see [`ChannelBuilder`].
///
/// Like [`ChannelBuilder::build`] it does no I/O; neither the registry nor a server has to be up. Channels to services of
/// one registry share one client of it, as [`registry`] says. To give it schemes and
/// balancers of your own, use a [`Dialer`].
///
/// # Errors
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has a key that nobody knows;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme or the balancer is not known, or needs a
/// feature that is off: the message says which.
pub async fn dial(url: &str) -> Result<Channel> {
    channel(url)
}

/// The same as [`dial`], where nothing can be awaited: as with tonic's `connect_lazy`, the channel connects by itself.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// let channel = callboard::channel("etcd://127.0.0.1:2379/project/test")?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`dial`] says; and [`Invalid`](callboard_core::ErrorKind::Invalid) outside a tokio runtime, as
/// [`ChannelBuilder::build`] says.
pub fn channel(url: &str) -> Result<Channel> {
    Dialer::new().channel(url)
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
    balancers: Balancers,
}

impl Dialer {
    /// Knows what is compiled in.
    pub fn new() -> Self {
        Self { schemes: schemes(backend::resolvers()), balancers: features::balancers() }
    }

    /// Adds a scheme, or replaces the one of that name. `make` is called for each URL of that scheme, and what it gives is that
    /// channel's alone unless `make` itself gives the same several times; it reads what it needs from the
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

    /// Adds a balancer under its own name, or replaces the one of that name. All channels that choose it share it, be it
    /// by `?balancer=` or by the service's config. It has no settings; what a config says beside its name is ignored.
    #[must_use]
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancers.add_made(Arc::new(balancer));
        self
    }

    /// Adds a balancer with settings, or replaces the one of that name. See
    /// [`ChannelBuilder::register_balancer`], which does the same for one channel.
    #[must_use]
    pub fn register_balancer(
        mut self,
        name: &str,
        make: impl Fn(&BalancerSettings) -> Result<Arc<dyn Balancer>> + Send + Sync + 'static,
    ) -> Self {
        self.balancers.add(name, make);
        self
    }

    /// Reads a URL into a builder, for what no URL can say. The URL's settings can be overridden there.
    ///
    /// # Errors
    /// As [`dial`] says.
    pub fn builder(&self, url: &str) -> Result<ChannelBuilder> {
        let target = target(url, &self.schemes)?;
        let mut options = target.options();
        let resolver = self.schemes.find(target.scheme())?(&target, &mut options)?;
        let builder = Channel::builder(target.service()?).resolver(resolver).balancers(self.balancers.clone());
        let builder = keys::apply(builder, &self.balancers, &mut options)?;
        options.finish()?;
        Ok(builder)
    }

    /// Makes a channel to the service that a URL names. See [`dial`].
    ///
    /// # Errors
    /// As [`dial`] says.
    pub async fn dial(&self, url: &str) -> Result<Channel> {
        self.channel(url)
    }

    /// The same as [`dial`](Self::dial), where nothing can be awaited. See [`channel`](channel()).
    ///
    /// # Errors
    /// As [`channel`](channel()) says.
    pub fn channel(&self, url: &str) -> Result<Channel> {
        self.builder(url)?.build()
    }
}

/// Names of schemes.
fn schemes<Make: ?Sized>(known: impl IntoIterator<Item = Known<Make>>) -> Names<Make> {
    Names::new("scheme", known).hint(": a URL names a registry and a service in it, such as etcd://127.0.0.1:2379/a/b")
}

/// Reads a URL. Where it cannot be read, a scheme that is not known here counts as the reason: the rest is then another
/// program's, as in `https://host:port`.
fn target<Make: ?Sized>(url: &str, schemes: &Names<Make>) -> Result<Target> {
    url.parse().or_else(|error| {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let of_another = scheme.filter(|scheme| OTHERS.contains(&scheme.as_str()));
        of_another.map_or(Err(error), |scheme| schemes.find(&scheme).and_then(|_| url.parse()))
    })
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("schemes", &self.schemes.usable()).field("balancers", &self.balancers).finish()
    }
}

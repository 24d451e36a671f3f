//! Makes a channel from a URL.

mod backend;
mod clients;
mod url_keys;

use std::fmt;
use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Resolver, Result, Target, TargetOptions};

use self::backend::MakeResolver;
pub use self::backend::{put_service_config, registry, resolver};
use crate::config::{Balancers, Known, Names};
use crate::{Channel, ChannelBuilder, features};

/// Well-known schemes of other programs, which an error may repeat. Any other text before a `://` may be a secret in
/// the wrong place, so an error for an unreadable URL does not repeat it.
const OTHERS: [&str; 6] = ["http", "https", "grpc", "grpcs", "dns", "tcp"];

/// The resolver that a scheme of a [`Dialer`] makes.
pub type Resolved = Arc<dyn Resolver>;

/// Makes a channel to the service that a URL names, with the backends and balancers that are compiled in.
///
/// The URL is `scheme://[user[:password]@]host[:port][,…]/service[?key=value&…]`. The scheme names the backend. These
/// keys work with every scheme:
///
/// | key | meaning | default |
/// |---|---|---|
/// | `balancer` | how calls are shared out, unless the service config chooses: `round_robin`, `weighted`, `weighted_round_robin`, `pick_first` | `round_robin` |
/// | `shuffle` | with `pick_first`: whether each client tries the endpoints in a random order | `false` |
/// | `timeout` | the deadline of calls, up to the end of a stream, unless the service config sets one for the method; the earlier of this and the call's own counts, unless the call has a [`Timeout`](crate::Timeout) | none |
/// | `wait_for_ready` | whether calls wait for a ready endpoint instead of failing fast, unless the service config sets it for the method | `false` |
/// | `connect_timeout` | how long one attempt to connect may take | `20s` |
/// | `service_config` | whether the service config in the registry is used | `true` |
/// | `external_balancers` | whether [external balancers](crate::lookaside) that the registry lists are used | `true` |
/// | `max_instances` | how many instances are used; if there are more, each channel uses a random subset | `10000` |
/// | `max_dials` | how many attempts to connect may run at once | `100` |
///
/// A server can use the same URL ([`serve`](crate::serve()), [`registry`]): it ignores these keys. The backend's key
/// `registry_tls` sets TLS to the registry. There is no key for TLS to the servers, as that is for the program to
/// decide: `Dialer::new().builder(url)?.tls(…)`, see [`ChannelBuilder`].
///
/// Like [`ChannelBuilder::build`], this does no I/O; neither the registry nor a server has to be up. Channels to
/// services in one registry share one client of it, as [`registry`] says. For schemes and balancers of your own, use a
/// [`Dialer`].
///
/// # Errors
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has an unknown key;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme or the balancer is not known, or needs a
/// feature that is off: the message says which.
pub async fn dial(url: &str) -> Result<Channel> {
    channel(url)
}

/// Does the same as [`dial`] without `async`. As with tonic's `connect_lazy`, the channel connects by itself.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// let channel = callboard::channel("etcd://127.0.0.1:2379/project/test")?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`dial`] says; [`Invalid`](callboard_core::ErrorKind::Invalid) outside a Tokio runtime, as
/// [`ChannelBuilder::build`] says.
pub fn channel(url: &str) -> Result<Channel> {
    Dialer::new().channel(url)
}

/// Dials URLs with schemes and balancers of your own, in addition to those that are compiled in.
///
/// A dialer is a value, not a global table, so two libraries in one program cannot conflict.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
/// use callboard::{Dialer, backend::Memory};
///
/// let dialer = Dialer::new().resolver("memory", Memory::default());
/// let channel = dialer.dial("memory:///project/test?balancer=weighted").await?;
/// assert_eq!(channel.service().as_str(), "project/test");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Dialer {
    schemes: Names<MakeResolver>,
    balancers: Balancers,
}

impl Dialer {
    /// Makes a dialer with the schemes and balancers that are compiled in.
    pub fn new() -> Self {
        Self { schemes: schemes(backend::resolvers()), balancers: features::balancers() }
    }

    /// Adds a scheme, or replaces the one of that name. `make` is called for each URL of that scheme. It reads what it
    /// needs from the target, and its own query keys from the options. Each channel has the resolver to itself, unless
    /// `make` returns the same one several times.
    #[must_use]
    pub fn scheme(
        mut self,
        name: &str,
        make: impl Fn(&Target, &mut TargetOptions<'_>) -> Result<Resolved> + Send + Sync + 'static,
    ) -> Self {
        self.schemes.add(&name.to_ascii_lowercase(), Arc::new(make));
        self
    }

    /// Adds a scheme for this resolver, whatever the URL's host is.
    #[must_use]
    pub fn resolver(self, scheme: &str, resolver: impl Resolver) -> Self {
        let resolver: Resolved = Arc::new(resolver);
        self.scheme(scheme, move |_, _| Ok(Arc::clone(&resolver)))
    }

    /// Adds a balancer under its own name, or replaces the one of that name. All channels that choose it share it, by
    /// `?balancer=` or by the service config. It has no settings; those in a config are ignored.
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

    /// Makes a builder from a URL, for settings that have no query key. The builder can override the URL's settings.
    ///
    /// # Errors
    /// As [`dial`] says.
    pub fn builder(&self, url: &str) -> Result<ChannelBuilder> {
        let target = target(url, &self.schemes)?;
        let mut options = target.options();
        let resolver = self.schemes.find(target.scheme())?(&target, &mut options)?;
        let builder = Channel::builder(target.service()?).resolver(resolver).balancers(self.balancers.clone());
        let builder = url_keys::apply(builder, &self.balancers, &mut options)?;
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

    /// Does the same as [`dial`](Self::dial) without `async`. See [`channel`](channel()).
    ///
    /// # Errors
    /// As [`channel`](channel()) says.
    pub fn channel(&self, url: &str) -> Result<Channel> {
        self.builder(url)?.build()
    }
}

/// The schemes by name.
fn schemes<Make: ?Sized>(known: impl IntoIterator<Item = Known<Make>>) -> Names<Make> {
    Names::new("scheme", known).hint(": a URL names a registry and a service in it, such as etcd://127.0.0.1:2379/a/b")
}

/// Reads a URL. If it cannot be read and its scheme is another program's, as in `https://host:port`, the error is that
/// the scheme is not known.
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

//! Settings of external balancers.

use std::time::Duration;

use callboard_core::{Error, Result};

use super::ChannelBuilder;
use crate::lookaside::Terms;

impl ChannelBuilder {
    /// Sets whether the channel uses external balancers that the registry lists. It does by default, as in gRPC.
    ///
    /// A single record of kind [balancer](crate::InstanceKind::Balancer) decides where all calls of the service go, for
    /// all clients that use external balancers. The log names a balancer and its address at `WARN` when it takes over.
    /// Where others can write to the registry and no balancer is expected, set this to `false`: the channel ignores
    /// such records, and logs once which. In a URL: `external_balancers=false`. See [`lookaside`](crate::lookaside).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
    /// use callboard::{Channel, backend::Memory};
    ///
    /// let builder = Channel::builder("project/test".parse()?).resolver(Memory::default());
    /// let channel = builder.external_balancers(false).build()?;
    /// assert!(channel.lookaside().is_none());
    /// # Ok(()) }
    /// ```
    pub fn external_balancers(mut self, asked: bool) -> Self {
        self.external_balancers = asked;
        self
    }

    /// Sets how long calls wait for the first list of an external balancer, if the registry lists any. After that,
    /// calls go to the backends in the registry; they do so at once if no balancer can be connected. It is also how
    /// long a balancer may take to answer before the next one is tried. 10 s by default, as in gRPC. See
    /// [`lookaside`](crate::lookaside).
    pub fn fallback_timeout(mut self, patience: Duration) -> Self {
        self.fallback_timeout = patience;
        self
    }

    /// The settings for talking to balancers. None if they are not used.
    pub(super) fn terms(&self) -> Result<Option<Terms>> {
        let patience = self.fallback_timeout;
        if patience.is_zero() {
            let why = "fallback_timeout is 0, in which no balancer can answer";
            return Err(Error::invalid(why).for_service(&self.service));
        }
        Ok(self.external_balancers.then_some(Terms { patience, most: self.watch.max_instances.max(1) }))
    }
}

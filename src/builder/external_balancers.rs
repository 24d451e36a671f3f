//! Who else may say where calls go.

use std::time::Duration;

use callboard_core::{Error, Result};

use super::ChannelBuilder;
use crate::lookaside::Terms;

impl ChannelBuilder {
    /// Whether the external balancers are asked that the registry lists. They are by default: gRPC's rule.
    ///
    /// One record of kind [balancer](crate::InstanceKind::Balancer) decides where all calls of the service go, at once and
    /// for all clients that ask; the log says at `WARN` who has taken over, and where it is. Where others can write to the
    /// registry, and no balancer is meant to be, `false` ignores such records; the log says once which. A URL says
    /// `external_balancers=false`. See [`lookaside`](crate::lookaside).
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

    /// How long calls wait for the first list of an external balancer, if the registry lists any; after that they go to the
    /// backends that it lists itself, and at once if no balancer can be connected. It is also how long a balancer may take to answer before the next one is asked. 10 s
    /// by default, as in gRPC. See [`lookaside`](crate::lookaside).
    pub fn fallback_timeout(mut self, patience: Duration) -> Self {
        self.fallback_timeout = patience;
        self
    }

    /// How balancers are asked, if they are.
    pub(super) fn terms(&self) -> Result<Option<Terms>> {
        let patience = self.fallback_timeout;
        if patience.is_zero() {
            let why = "fallback_timeout is 0, in which no balancer can answer";
            return Err(Error::invalid(why).for_service(&self.service));
        }
        Ok(self.external_balancers.then_some(Terms { patience, most: self.watch.max_instances.max(1) }))
    }
}

//! What the service's config may do to a channel.

use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Result};

use super::ChannelBuilder;
use crate::control::Policy;
use crate::dial::Balancers;

impl ChannelBuilder {
    /// Adds a balancer that the service's config can choose by this name, or replaces the one of that name. `make` is
    /// given what the config says beside the name, and is called again when that changes; an error or a panic in it
    /// refuses the config. It is called by the channel's task, so it must not block.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
    /// use std::sync::Arc;
    /// use callboard::{Balancer, BalancerSettings, Channel, Result, backend::Memory, balancer::PickFirst};
    ///
    /// // {"loadBalancingConfig": [{"closest": {"staggerMs": 400}}]}
    /// #[derive(serde::Deserialize)]
    /// #[serde(rename_all = "camelCase")]
    /// struct Settings {
    ///     stagger_ms: u64,
    /// }
    ///
    /// fn closest(settings: &BalancerSettings) -> Result<Arc<dyn Balancer>> {
    ///     let Settings { stagger_ms } = settings.read()?;
    ///     Ok(Arc::new(PickFirst::new().stagger(std::time::Duration::from_millis(stagger_ms))))
    /// }
    ///
    /// let builder = Channel::builder("project/test".parse()?).resolver(Memory::default());
    /// let channel = builder.balancer_named("closest", closest).build()?;
    /// # Ok(()) }
    /// ```
    pub fn balancer_named(
        mut self,
        name: &str,
        make: impl Fn(&BalancerSettings) -> Result<Arc<dyn Balancer>> + Send + Sync + 'static,
    ) -> Self {
        self.balancers.add(name, make);
        self
    }

    /// Replaces all balancers that a config can choose.
    pub(crate) fn balancers(mut self, balancers: Balancers) -> Self {
        self.balancers = balancers;
        self
    }

    /// Whether the service's config in the registry is obeyed: its balancer, and what it says of methods. It is by
    /// default. If not, only what is set here and on calls counts, and calls that begin before the registry has answered
    /// need not wait for it to know their deadline.
    pub fn service_config(mut self, obey: bool) -> Self {
        self.service_config = obey;
        self
    }

    /// What the service's config can choose among, unless it is not to choose.
    pub(super) fn policy(&self, default: &Arc<dyn Balancer>) -> Policy {
        let mut known = self.balancers.clone();
        if !known.knows(default.name()) {
            known.add_made(Arc::clone(default));
        }
        Policy::new(&self.service, Arc::clone(default), known, self.service_config)
    }
}

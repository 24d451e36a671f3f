//! What the service's config may do to a channel.

use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Error, Result};

use super::ChannelBuilder;
use crate::config::{ActiveConfig, Balancers};

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
    ///     Ok(Arc::new(PickFirst::new().attempt_delay(std::time::Duration::from_millis(stagger_ms))))
    /// }
    ///
    /// let builder = Channel::builder("project/test".parse()?).resolver(Memory::default());
    /// let channel = builder.register_balancer("closest", closest).build()?;
    /// # Ok(()) }
    /// ```
    pub fn register_balancer(
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

    /// The service config that holds while the registry gives none: JSON, as a [`ServiceConfig`](crate::ServiceConfig) is read from it. None by
    /// default. With it there are retries, timeouts by method and the rest without a registry that has configs.
    ///
    /// As in gRPC, it is all or nothing: a config in the registry replaces the whole of it. It holds before the registry
    /// has answered only where [`service_config(false)`](Self::service_config) has the registry's ignored; else calls wait
    /// for that answer. A balancer that it chooses comes before [`balancer`](Self::balancer). What cannot be read refuses
    /// [`build`](Self::build).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
    /// use callboard::{Channel, backend::Memory};
    ///
    /// let channel = Channel::builder("project/test".parse()?)
    ///     .resolver(Memory::default())
    ///     .default_service_config(
    ///         r#"{"methodConfig": [{"name": [{}], "timeout": "2s", "retryActiveConfig": {
    ///             "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
    ///             "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#,
    ///     )
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn default_service_config(mut self, json: impl Into<String>) -> Self {
        self.default_service_config = Some(json.into());
        self
    }

    /// What the service's config can choose among, unless it is not to choose; and the balancer to begin with.
    pub(super) fn active_config(&self, own: Arc<dyn Balancer>) -> Result<(ActiveConfig, Arc<dyn Balancer>)> {
        let mut known = self.balancers.clone();
        if !known.knows(own.name()) {
            known.add_made(Arc::clone(&own));
        }
        let mut config = ActiveConfig::new(&self.service, Arc::clone(&own), known, self.service_config);
        let Some(json) = &self.default_service_config else { return Ok((config, own)) };
        let refused = |error: Error| {
            let message = format!("default_service_config: {}", error.message());
            Error::new(error.kind(), message).with_source(error).for_service(&self.service)
        };
        let chosen = config.fall_back_to(json).map_err(refused)?;
        Ok((config, chosen.unwrap_or(own)))
    }
}

//! Settings of the service config.

use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Error, Result};

use super::ChannelBuilder;
use crate::config::{ActiveConfig, Balancers};

impl ChannelBuilder {
    /// Adds a balancer that the service config can choose by this name, or replaces the one of that name. `make` gets
    /// the balancer's settings from the config. It is called again when they change. An error or a panic in it makes
    /// the channel reject the config. The channel's task calls it, so it must not block.
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

    /// Sets whether the channel uses the service config in the registry: its balancer, and its settings for methods. It
    /// does by default. With `false`, only the settings of the channel and of each call count, and calls that begin
    /// before the registry has answered need not wait for it to know their deadline.
    pub fn service_config(mut self, obey: bool) -> Self {
        self.service_config = obey;
        self
    }

    /// Sets the service config for when the registry has none: JSON, as [`ServiceConfig`](crate::ServiceConfig) reads
    /// it. None by default. It gives retries, timeouts by method and the rest without a registry that stores configs.
    ///
    /// As in gRPC, a config in the registry replaces it as a whole. Before the registry has answered, it applies only
    /// with [`service_config(false)`](Self::service_config); otherwise calls wait for the answer. A balancer that it
    /// chooses comes before [`balancer`](Self::balancer). [`build`](Self::build) fails if it cannot be read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
    /// use callboard::{Channel, backend::Memory};
    ///
    /// let channel = Channel::builder("project/test".parse()?)
    ///     .resolver(Memory::default())
    ///     .default_service_config(
    ///         r#"{"methodConfig": [{"name": [{}], "timeout": "2s", "retryPolicy": {
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

    /// The state of the config at the start, with the balancers that a config can choose, and the balancer to begin
    /// with.
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

//! Writing a service's config.

use callboard_core::{Result, ServiceName};

use crate::client::Client;
use crate::error::in_service;

/// Puts the config under its key, without a lease, or deletes it.
///
/// If the answer to an attempt is lost, the next attempt does the same again. It then replaces what somebody else has
/// written between the two, as a later call would.
pub(crate) async fn put_service_config(
    client: &Client,
    key: &str,
    service: &ServiceName,
    config: Option<&str>,
) -> Result<()> {
    let written = match config {
        Some(config) => {
            let put = |etcd: &etcd_client::Client| {
                let mut kv = etcd.kv_client();
                async move { kv.put(key, config, None).await.map(drop) }
            };
            client.call("write the config", put).await
        }
        None => {
            let delete = |etcd: &etcd_client::Client| {
                let mut kv = etcd.kv_client();
                async move { kv.delete(key, None).await.map(drop) }
            };
            client.call("remove the config", delete).await
        }
    };
    written.map_err(|error| in_service(error, service))
}

//! Writing a service's config.

use callboard_core::{Result, ServiceName};
use etcd_client::Client;

use crate::connection::{Connection, ours};

/// Puts the config under its key, without a lease, or deletes it.
///
/// If the answer to an attempt is lost, the next one does the same again: what somebody else has put there between the
/// two is replaced, as it would be by one that came later.
pub(crate) async fn put_service_config(
    connection: &Connection,
    key: &str,
    service: &ServiceName,
    config: Option<&str>,
) -> Result<()> {
    let written = match config {
        Some(config) => {
            let put = |client: &Client| {
                let mut kv = client.kv_client();
                async move { kv.put(key, config, None).await.map(drop) }
            };
            connection.call("write the config", put).await
        }
        None => {
            let delete = |client: &Client| {
                let mut kv = client.kv_client();
                async move { kv.delete(key, None).await.map(drop) }
            };
            connection.call("remove the config", delete).await
        }
    };
    written.map_err(|error| ours(error).for_service(service))
}

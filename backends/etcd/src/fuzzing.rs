//! What fuzz targets call. It is compiled with `--cfg fuzzing` only and is not part of the API.

use callboard_core::{Result, ServiceName, Snapshot};
use etcd_client::proto::{PbEvent, PbKeyValue};

use crate::record::{DELETE, Layout};
use crate::watch::Entries;

/// The set that is known of a service after these keys were written, or deleted where there is no value.
pub async fn fold(prefix: &str, service: &ServiceName, events: &[(&[u8], Option<&[u8]>)]) -> Result<Snapshot> {
    let mut entries = Entries::new(Layout::new(prefix)?.directory(service));
    for (key, value) in events {
        let stored =
            PbKeyValue { key: key.to_vec(), value: value.unwrap_or_default().to_vec(), ..PbKeyValue::default() };
        let kind = if value.is_some() { 0 } else { DELETE };
        entries.apply(PbEvent { r#type: kind, kv: Some(stored), prev_kv: None });
    }
    Ok(entries.snapshot().await)
}

//! What fuzz targets reach. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use callboard_core::{Result, ServiceName, Snapshot};
use etcd_client::proto::{PbEvent, PbKeyValue};

use crate::board::{Board, DELETE};
use crate::layout::Layout;

/// The set that is known of a service after these keys were written, or deleted where there is no value.
pub async fn fold(prefix: &str, service: &ServiceName, events: &[(&[u8], Option<&[u8]>)]) -> Result<Snapshot> {
    let mut board = Board::new(service.clone(), Layout::new(prefix)?.directory(service));
    for (key, value) in events {
        let stored =
            PbKeyValue { key: key.to_vec(), value: value.unwrap_or_default().to_vec(), ..PbKeyValue::default() };
        let kind = if value.is_some() { 0 } else { DELETE };
        board.apply(PbEvent { r#type: kind, kv: Some(stored), prev_kv: None });
    }
    Ok(board.snapshot().await)
}

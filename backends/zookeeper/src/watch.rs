//! What a watch yields.

use std::sync::Arc;

use callboard_core::{Result, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};

use crate::board::Board;
use crate::layout;
use crate::sessions::Sessions;

/// The sets of a service, until something fails.
pub(crate) fn snapshots(sessions: Arc<Sessions>, service: ServiceName) -> Snapshots {
    let watch = Watch { sessions, service, board: None };
    stream::try_unfold(watch, |mut watch| async move {
        let snapshot = watch.next().await.map_err(|error| error.for_service(&watch.service))?;
        Ok(Some((snapshot, watch)))
    })
    .boxed()
}

struct Watch {
    sessions: Arc<Sessions>,
    service: ServiceName,
    /// None before the first set.
    board: Option<Board>,
}

impl Watch {
    async fn next(&mut self) -> Result<Snapshot> {
        let directory = layout::directory(&self.sessions.settings.prefix, &self.service)?;
        let board = match self.board.take() {
            Some(mut board) => {
                board.change().await?;
                board
            }
            None => Board::open(self.sessions.session().await?, directory).await?,
        };
        Ok(self.board.insert(board).snapshot().await)
    }
}

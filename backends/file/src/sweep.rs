//! Removing what dead owners have left.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use callboard_core::Result;

use crate::lock::Turn;
use crate::place::{Place, id, is_draft};
use crate::record::look;
use crate::scan::{is_stale, names};

/// How long each of its two looks takes at most, whatever lies there: what is left is shown to nobody, and the next who
/// registers goes on.
const LONGEST: Duration = Duration::from_millis(300);

/// Removes stale records and drafts of a service. Only if there are any, others wait for it.
pub(crate) fn sweep(place: &Place) -> Result<()> {
    let give_up = Instant::now() + LONGEST;
    let in_time = |_: &&String| Instant::now() < give_up;
    let names = names(&place.folder)?;
    let suspects: Vec<_> = names.iter().take_while(in_time).filter(|name| is_litter(place, name)).collect();
    if suspects.is_empty() {
        return Ok(());
    }
    // A draft that somebody is writing looks the same, and a record may have a new owner by now. With the turn taken,
    // neither can be.
    let _turn = Turn::take(&place.folder)?;
    let give_up = Instant::now() + LONGEST;
    for name in suspects.into_iter().take_while(|_| Instant::now() < give_up).filter(|name| is_litter(place, name)) {
        remove(&place.folder.join(name));
    }
    Ok(())
}

fn is_litter(place: &Place, name: &str) -> bool {
    let stale = |id: &str| look(&place.record(id)).ok().flatten().is_some_and(|found| is_stale(&found));
    is_draft(name) || id(name).is_some_and(stale)
}

/// What cannot be removed is not shown all the same, so that is no failure.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => tracing::debug!(path = %path.display(), "removed what a dead owner has left"),
        Err(error) => tracing::debug!(path = %path.display(), %error, "cannot remove what a dead owner has left"),
    }
}

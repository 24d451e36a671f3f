//! Whether a service has no instances, or the token may not see them.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::client::{Agent, Index, Listing, Options, Querier};

/// What Consul's empty lists have turned out to mean.
///
/// Consul answers with an empty list to a token that may not see the entries. A blocking query may be answered from what
/// Consul has prepared, under the same index and without a mark that entries were left out. So an empty list is checked.
#[derive(Debug, Default)]
pub(super) struct EmptyList {
    /// When it was last found that the list is empty because there are no instances. None since a list was not empty.
    confirmed: Option<Instant>,
}

/// How a service's entries are listed.
pub(super) struct Lister<'a> {
    pub(super) agent: &'a Agent,
    pub(super) options: &'a Options,
    pub(super) wait: Duration,
    pub(super) name: &'a str,
    pub(super) querier: &'a Querier,
}

impl EmptyList {
    /// Finds out whether an empty list, which was asked for with this index, can be believed. Of empty lists in a row not
    /// each is checked, but one in as much time as a query waits.
    ///
    /// # Errors
    /// `Denied`, if the token may not see all entries.
    pub(super) async fn check(&mut self, listing: &Listing, index: Index, lister: &Lister<'_>) -> Result<()> {
        if !listing.rows.is_empty() {
            self.confirmed = None;
            return Ok(());
        }
        if self.confirmed.is_some_and(|confirmed| confirmed.elapsed() < lister.wait) {
            return Ok(());
        }
        // The answer to a query that did not wait needs no second one.
        let some = !listing.filtered && index != Index::default() && lister.lists_some().await?;
        if listing.filtered || !some && !lister.may_see().await? {
            return Err(denied());
        }
        self.confirmed = Some(Instant::now());
        Ok(())
    }
}

impl Lister<'_> {
    /// Whether entries are listed now. This query does not wait: its answer tells whether Consul has left out
    /// entries, unless there is no token at all.
    ///
    /// # Errors
    /// `Denied`, if it has left out all entries.
    async fn lists_some(&self) -> Result<bool> {
        let now = self.agent.listed(self.name, self.options, Index::default(), self.wait, self.querier).await?;
        if now.filtered && now.rows.is_empty() { Err(denied()) } else { Ok(!now.rows.is_empty()) }
    }

    /// Whether services of this name may be seen, as far as the agent can say.
    async fn may_see(&self) -> Result<bool> {
        let datacenter: Options = self.options.iter().filter(|(key, _)| *key == "dc").cloned().collect();
        Ok(self.agent.may_see(self.name, &datacenter).await? != Some(false))
    }
}

fn denied() -> Error {
    let message = "Consul shows no instance of the service to this token, whether or not there are some: it needs \
                   service:read for the service, and node:read for the nodes";
    Error::new(ErrorKind::Denied, message)
}

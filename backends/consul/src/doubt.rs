//! Whether nobody is there, or the token may not see who is.

use callboard_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::agent::Listing;
use crate::consul::Inner;
use crate::http::Options;
use crate::pace::Index;
use crate::turns::Asker;

/// Consul answers with an empty list to whoever may not see what there is, and where it does so from what it has
/// prepared for blocking queries, under the same index and without saying so. So an empty list is doubted.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// When it was last found that the list is empty because nobody is there. None since it last was not empty.
    settled: Option<Instant>,
}

impl Doubt {
    /// Finds out whether an empty list may be believed, which was asked for with this index. Not at each of a row of
    /// them, but as often as a query that waits for its whole time would be answered.
    ///
    /// # Errors
    /// `Denied`, if the token may not see all that there is.
    pub(crate) async fn settled(
        &mut self,
        said: &Listing,
        index: Index,
        consul: &Inner,
        name: &str,
        asker: &Asker,
    ) -> Result<()> {
        if !said.rows.is_empty() {
            self.settled = None;
            return Ok(());
        }
        if self.settled.is_some_and(|settled| settled.elapsed() < consul.query.wait) {
            return Ok(());
        }
        // What was not waited for is not asked twice.
        let somebody = !said.filtered && index != Index::default() && shows_somebody(consul, name, asker).await?;
        if said.filtered || !somebody && !may_see(consul, name).await? {
            return Err(denied());
        }
        self.settled = Some(Instant::now());
        Ok(())
    }
}

/// Whether somebody is listed now. It asks without waiting: to that Consul says whether it has left out anything, unless
/// there is no token at all.
///
/// # Errors
/// `Denied`, if it has left out everything.
async fn shows_somebody(consul: &Inner, name: &str, asker: &Asker) -> Result<bool> {
    let Inner { agent, query, .. } = consul;
    let now = agent.listed(name, &query.options, Index::default(), query.wait, asker).await?;
    if now.filtered && now.rows.is_empty() { Err(denied()) } else { Ok(!now.rows.is_empty()) }
}

/// Whether services of this name may be seen, as far as the agent can say.
async fn may_see(consul: &Inner, name: &str) -> Result<bool> {
    let Inner { agent, query, .. } = consul;
    let where_: Options = query.options.iter().filter(|(key, _)| *key == "dc").cloned().collect();
    Ok(agent.may_see(name, &where_).await? != Some(false))
}

fn denied() -> Error {
    let message = "Consul shows nobody of the service to this token, whoever is there: it needs service:read for it, and \
                   node:read for the nodes";
    Error::new(ErrorKind::Denied, message)
}

//! Reading the entries of a service, now or as they were at an earlier position.

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::GetOptions;
use etcd_client::proto::{PbKeyValue, PbRangeResponse};
use futures_util::future::try_join;
use tonic::Code;

use super::entries::Entries;
use crate::client::{Client, LARGEST_ANSWER, Position};
use crate::error::is_too_large;
use crate::record::Mark;

/// How many entries one answer has at most. etcd does not limit its answers, but a client does.
const PAGE: i64 = 1_000;

/// The same where those were too large: a few of the largest that etcd takes, 1.5 MiB, fit in any case.
const SMALL_PAGE: i64 = 16;

/// Lists the directory of the service, page by page, all at one revision. Before the last page has come the entries
/// stay as they were.
pub(super) async fn list(client: &Client, entries: &mut Entries) -> Result<Position> {
    let mut listing = entries.replace();
    let (mut start, end) = (listing.directory().start().as_bytes().to_vec(), listing.directory().end());
    let mut position = None;
    loop {
        let options = GetOptions::new().with_range(end.clone());
        let options = position.map_or(options.clone(), |at: Position| options.with_revision(at.revision));
        let answer = page(client, &start, &options).await?;
        let now = Position::of_range(&answer)?;
        let first = *position.get_or_insert(now);
        if now.cluster != first.cluster {
            return Err(Error::new(ErrorKind::Unavailable, "cannot list: the members are of different etcd clusters"));
        }
        let last = answer.kvs.last().filter(|_| answer.more).map(|last| last.key.clone());
        listing.page(answer.kvs).await;
        let Some(last) = last else {
            listing.end();
            return Ok(first);
        };
        // The next key there can be.
        start = [last.as_slice(), &[0]].concat();
    }
}

/// The next entries, as many as one answer may have.
async fn page(client: &Client, start: &[u8], options: &GetOptions) -> Result<PbRangeResponse> {
    let of = |length| options.clone().with_limit(length);
    match client.get("list", start, &of(PAGE)).await {
        Err(error) if is_too_large(&error) => client.get("list", start, &of(SMALL_PAGE)).await,
        answer => answer,
    }
}

/// Whether etcd still has the history in which the entries were right at this position. It has not if it was wiped,
/// restored or compacted since.
///
/// The entry that was written last is read as it was at that position. Its lease has an id that no other lease ever
/// had. So if that very writing is there, everything before it is there too. Without entries there is nothing to read,
/// and listing costs nothing.
///
/// The config is read too, whether or not there was one: it may have been written or deleted after that entry. It
/// proves nothing about the entries, as it has no lease: a script that sets up an etcd may write the same config at the
/// same revision each time. So a service with a config and no entry is listed.
pub(super) async fn remembers(client: &Client, entries: &Entries, position: Position) -> Result<bool> {
    let Some((key, mark)) = entries.newest() else { return Ok(false) };
    let config = entries.directory().config();
    let (entry, config) = try_join(past(client, key, position), past(client, config.as_bytes(), position)).await?;
    let is_newest = |kvs: Vec<PbKeyValue>| kvs.first().is_some_and(|stored| Mark::of(stored) == mark);
    Ok(entry.is_some_and(is_newest) && config.is_some_and(|kvs| entries.has_config(kvs.first())))
}

/// What was stored under a key at this position. None if etcd does not know the position any more, or is another
/// cluster.
async fn past(client: &Client, key: &[u8], position: Position) -> Result<Option<Vec<PbKeyValue>>> {
    let options = GetOptions::new().with_revision(position.revision);
    let answer = client
        .call("read an earlier revision", |etcd| {
            let (key, options) = (key.to_vec(), options.clone());
            // As large as a config may be that is read with a list.
            let mut kv = etcd.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            async move {
                match kv.get(key, Some(options)).await {
                    Ok(answer) => Ok(Some(answer.0)),
                    // Compacted, or in the future.
                    Err(etcd_client::Error::GRpcStatus(status)) if status.code() == Code::OutOfRange => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })
        .await?;
    let Some(answer) = answer else { return Ok(None) };
    let same_cluster = Position::of_range(&answer)?.cluster == position.cluster;
    Ok(same_cluster.then_some(answer.kvs))
}

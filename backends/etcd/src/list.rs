//! Reading what stands in etcd now, or stood there at a moment.

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::proto::{PbKeyValue, PbRangeResponse};
use etcd_client::{Client, GetOptions};
use futures_util::future::try_join;
use tonic::Code;

use crate::board::{Board, Mark};
use crate::connection::Connection;
use crate::failure::is_too_large;
use crate::feed::{LARGEST_ANSWER, Moment};

/// How many entries one answer has at most: etcd's own limit for an answer is no limit, but a client's is.
const PAGE: i64 = 1_000;

/// How many it has at most where those were too large: a few of the largest that etcd takes, 1.5 MiB, fit in any case.
const SMALL_PAGE: i64 = 16;

/// Puts on the board what stands in its directory, page by page, all at one moment. Before the last page has come the
/// board stays as it is.
pub(crate) async fn list(connection: &Connection, board: &mut Board) -> Result<Moment> {
    let mut listing = board.replace();
    let (mut start, end) = (listing.directory().start().as_bytes().to_vec(), listing.directory().end());
    let mut moment = None;
    loop {
        let options = GetOptions::new().with_range(end.clone());
        let options = moment.map_or(options.clone(), |at: Moment| options.with_revision(at.revision));
        let answer = page(connection, &start, &options).await?;
        let now = moment_of(&answer)?;
        let first = *moment.get_or_insert(now);
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

/// The entries that come next, as many as one answer may have.
async fn page(connection: &Connection, start: &[u8], options: &GetOptions) -> Result<PbRangeResponse> {
    let of = |length| options.clone().with_limit(length);
    match get(connection, "list", start, &of(PAGE)).await {
        Err(error) if is_too_large(&error) => get(connection, "list", start, &of(SMALL_PAGE)).await,
        answer => answer,
    }
}

/// What stands under a key, and when.
pub(crate) async fn read(connection: &Connection, key: &str) -> Result<(Option<PbKeyValue>, Moment)> {
    let mut answer = get(connection, "read the entry", key.as_bytes(), &GetOptions::new()).await?;
    Ok((answer.kvs.pop(), moment_of(&answer)?))
}

/// Whether etcd still has the past in which the board was right at this moment. It has not if it was wiped, restored
/// or compacted since.
///
/// The entry that was written last is asked for as it stood at that moment. Its lease has an id that no other lease
/// ever had, so if that very writing is there, everything is that came before it. An empty board has nothing to ask
/// for, and costs nothing to list.
///
/// The config is asked for too, whether or not there was one: it may have been written or deleted after that entry. It
/// proves nothing of the entries, as it has no lease: a script that sets up an etcd may write the same one at the same
/// revision each time. So a board with nothing but a config is listed.
pub(crate) async fn remembers(connection: &Connection, board: &Board, moment: Moment) -> Result<bool> {
    let Some((key, mark)) = board.newest() else { return Ok(false) };
    let config = board.directory().config();
    let (entry, config) = try_join(past(connection, key, moment), past(connection, config.as_bytes(), moment)).await?;
    let is_newest = |kvs: Vec<PbKeyValue>| kvs.first().is_some_and(|stored| Mark::of(stored) == mark);
    Ok(entry.is_some_and(is_newest) && config.is_some_and(|kvs| board.has_config(kvs.first())))
}

/// What stood under a key at this moment. None if etcd does not know of that moment, or is another cluster.
async fn past(connection: &Connection, key: &[u8], moment: Moment) -> Result<Option<Vec<PbKeyValue>>> {
    let options = GetOptions::new().with_revision(moment.revision);
    let answer = connection
        .call("ask for the past", |client: &Client| {
            let (key, options) = (key.to_vec(), options.clone());
            // As large as a config may be that is read with a list.
            let mut kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
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
    let same_cluster = moment_of(&answer)?.cluster == moment.cluster;
    Ok(same_cluster.then_some(answer.kvs))
}

async fn get(connection: &Connection, what: &str, key: &[u8], options: &GetOptions) -> Result<PbRangeResponse> {
    connection
        .call(what, |client: &Client| {
            let (key, options) = (key.to_vec(), options.clone());
            let mut kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            async move { kv.get(key, Some(options)).await.map(|answer| answer.0) }
        })
        .await
}

fn moment_of(answer: &PbRangeResponse) -> Result<Moment> {
    let header = answer.header.as_ref();
    let header =
        header.ok_or_else(|| Error::new(ErrorKind::Unavailable, "etcd's answer does not say of when it is"))?;
    Ok(Moment { cluster: header.cluster_id, revision: header.revision })
}

//! One published entry: whose it is, and how it is written.

use callboard_core::{Error, ErrorKind, Incarnation, Instance, Result, conflict, encode, holder};
use etcd_client::proto::{PbKeyValue, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp};

use crate::connection::Connection;
use crate::feed::Moment;

/// The claim on one key, by a lease.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) key: String,
    /// The instance's id, as the key names it.
    pub(crate) id: String,
    pub(crate) lease: i64,
    pub(crate) incarnation: Incarnation,
}

/// How often the entry may change under the hands of who wants to take it over.
const ROUNDS: usize = 5;

impl Claim {
    /// Puts the instance under the key, in the place of what is not newer. Says as of when it is there.
    ///
    /// What is there was looked at when the lease was asked for; it is replaced only if it has not been written since.
    pub(crate) async fn take(
        &self,
        connection: &Connection,
        instance: &Instance,
        mut there: Option<PbKeyValue>,
    ) -> Result<Moment> {
        for _ in 0..ROUNDS {
            self.not_newer(there.as_ref())?;
            let seen = there.map_or(0, |there| there.mod_revision);
            let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, seen);
            let (written, found, moment) = self.write(connection, unchanged, instance).await?;
            // If an answer was lost, an earlier attempt may have written it.
            if written || self.holds(found.as_ref()) {
                return Ok(moment);
            }
            there = found;
        }
        Err(Error::new(ErrorKind::Unavailable, "the entry changes faster than it can be taken over"))
    }

    /// Writes the instance, if the entry is this claim's.
    pub(crate) async fn update(&self, connection: &Connection, instance: &Instance) -> Result<()> {
        let is_ours = Compare::lease(self.key.as_str(), CompareOp::Equal, self.lease);
        let (written, found, _) = self.write(connection, is_ours, instance).await?;
        if written { Ok(()) } else { Err(self.lost_to(found.as_ref())) }
    }

    /// Writes the instance with the lease if the comparison holds; otherwise reads what is there.
    async fn write(
        &self,
        connection: &Connection,
        when: Compare,
        instance: &Instance,
    ) -> Result<(bool, Option<PbKeyValue>, Moment)> {
        let with_lease = PutOptions::new().with_lease(self.lease);
        let put = TxnOp::put(self.key.as_str(), encode(instance), Some(with_lease));
        let get = TxnOp::get(self.key.as_str(), None);
        let txn = Txn::new().when([when]).and_then([put]).or_else([get]);
        let write = |client: &Client| {
            let (mut kv, txn) = (client.kv_client(), txn.clone());
            async move { kv.txn(txn).await.map(|answer| answer.0) }
        };
        let answer: PbTxnResponse = connection.call("write the entry", write).await?;
        let found = answer.responses.into_iter().find_map(|part| match part.response {
            Some(PbTxnOpResponse::ResponseRange(mut range)) => range.kvs.pop(),
            _ => None,
        });
        let header = answer.header.unwrap_or_default();
        Ok((answer.succeeded, found, Moment { cluster: header.cluster_id, revision: header.revision }))
    }

    /// Whether what is there is what this claim has put there.
    fn holds(&self, there: Option<&PbKeyValue>) -> bool {
        there.is_some_and(|there| there.lease == self.lease)
    }

    /// Why the entry is not this claim's any more. Of two claims that are equal the later one stays; what was written
    /// by hand has no lease, and is no claim.
    fn lost_to(&self, there: Option<&PbKeyValue>) -> Error {
        let lost = |why| Error::new(ErrorKind::Lost, why);
        let Some(there) = there else { return lost("the entry is gone: deleted, or its lease was ended") };
        match holder(&self.id, &there.value) {
            Some(other) if other.incarnation() > self.incarnation => conflict(self.incarnation, &other),
            Some(other) if other.incarnation() == self.incarnation && there.lease != 0 => {
                conflict(self.incarnation, &other)
            }
            _ => lost("the entry was replaced"),
        }
    }

    /// Fails if the entry is not this claim's any more.
    pub(crate) fn check(&self, there: Option<&PbKeyValue>) -> Result<()> {
        if self.holds(there) { Ok(()) } else { Err(self.lost_to(there)) }
    }

    /// What is there may be replaced: it is of no newer incarnation, or nobody can read it.
    fn not_newer(&self, there: Option<&PbKeyValue>) -> Result<()> {
        match there.and_then(|there| holder(&self.id, &there.value)) {
            Some(other) if other.incarnation() > self.incarnation => Err(conflict(self.incarnation, &other)),
            _ => Ok(()),
        }
    }
}

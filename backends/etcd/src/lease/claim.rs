//! The claim on one entry: who holds it, and how it is written.

use callboard_core::{Error, ErrorKind, Incarnation, Instance, Result, conflict, encode, holder};
use etcd_client::proto::{PbKeyValue, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use crate::client::{Client, Position};

/// The claim on one key, by a lease.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) key: String,
    /// The instance's id, as the key names it.
    pub(super) id: String,
    pub(super) lease: i64,
    pub(super) incarnation: Incarnation,
}

/// How often the entry may be changed by others while it is taken over.
const ROUNDS: usize = 5;

impl Claim {
    /// Writes the instance under the key, in the place of an entry that is not newer. Says as of when it is there.
    ///
    /// `there` is the entry as it was read when the lease was requested. It is replaced only if it has not been written
    /// since.
    pub(super) async fn take(
        &self,
        client: &Client,
        instance: &Instance,
        mut there: Option<PbKeyValue>,
    ) -> Result<Position> {
        for _ in 0..ROUNDS {
            self.not_newer(there.as_ref())?;
            let seen = there.map_or(0, |there| there.mod_revision);
            let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, seen);
            let (written, found, position) = self.write(client, unchanged, instance).await?;
            // If an answer was lost, an earlier attempt may have written it.
            if written || self.holds(found.as_ref()) {
                return Ok(position);
            }
            there = found;
        }
        Err(Error::new(ErrorKind::Unavailable, "the entry changes faster than it can be taken over"))
    }

    /// Writes the instance if the entry is this claim's.
    pub(super) async fn update(&self, client: &Client, instance: &Instance) -> Result<()> {
        let is_ours = Compare::lease(self.key.as_str(), CompareOp::Equal, self.lease);
        let (written, found, _) = self.write(client, is_ours, instance).await?;
        if written { Ok(()) } else { Err(self.lost_to(found.as_ref())) }
    }

    /// Writes the instance with the lease if the comparison holds; otherwise reads the entry.
    async fn write(
        &self,
        client: &Client,
        when: Compare,
        instance: &Instance,
    ) -> Result<(bool, Option<PbKeyValue>, Position)> {
        let with_lease = PutOptions::new().with_lease(self.lease);
        let put = TxnOp::put(self.key.as_str(), encode(instance), Some(with_lease));
        let get = TxnOp::get(self.key.as_str(), None);
        let txn = Txn::new().when([when]).and_then([put]).or_else([get]);
        let write = |etcd: &etcd_client::Client| {
            let (mut kv, txn) = (etcd.kv_client(), txn.clone());
            async move { kv.txn(txn).await.map(|answer| answer.0) }
        };
        let answer: PbTxnResponse = client.call("write the entry", write).await?;
        let found = answer.responses.into_iter().find_map(|part| match part.response {
            Some(PbTxnOpResponse::ResponseRange(mut range)) => range.kvs.pop(),
            _ => None,
        });
        let header = answer.header.unwrap_or_default();
        Ok((answer.succeeded, found, Position::of(&header)))
    }

    /// Whether this claim has written the entry.
    fn holds(&self, there: Option<&PbKeyValue>) -> bool {
        there.is_some_and(|there| there.lease == self.lease)
    }

    /// Why the entry is not this claim's any more. Of two claims that are equal the later one stays. An entry that was
    /// written by hand has no lease, and is no claim.
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
    pub(super) fn check(&self, there: Option<&PbKeyValue>) -> Result<()> {
        if self.holds(there) { Ok(()) } else { Err(self.lost_to(there)) }
    }

    /// Fails if the entry is of a newer incarnation. An entry that cannot be read may be replaced.
    fn not_newer(&self, there: Option<&PbKeyValue>) -> Result<()> {
        match there.and_then(|there| holder(&self.id, &there.value)) {
            Some(other) if other.incarnation() > self.incarnation => Err(conflict(self.incarnation, &other)),
            _ => Ok(()),
        }
    }
}

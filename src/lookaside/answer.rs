//! Messages of a balancer. A long one is decoded on a thread for blocking work.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use super::counts::CallCounts;
use super::list::List;
use super::subset::Subset;
use super::v1::{LoadBalanceRequest, LoadBalanceResponse, Response};

/// An answer larger than this, in bytes, is not decoded on a thread that calls may use. It has about a thousand
/// entries.
const LONG: usize = 16 << 10;

/// One message, not decoded yet.
pub(super) struct Answer(Bytes);

/// What a message says.
pub(super) enum Said {
    /// The first message, with the interval of reports.
    Initial(Duration),
    /// A list. None if it has entries and none of them is valid.
    List(Option<Arc<List>>),
    Fallback,
    /// A message that this version does not know, or an empty one.
    Unknown,
}

impl Answer {
    /// For fuzz targets.
    #[cfg(fuzzing)]
    pub(super) fn of(message: Vec<u8>) -> Self {
        Self(message.into())
    }

    /// Decodes the message, without delaying other tasks on this thread.
    pub(super) async fn read(self, counts: &Arc<CallCounts>, subset: Subset) -> Result<Said, Status> {
        if self.0.len() <= LONG {
            return read(self.0, counts, subset);
        }
        let counts = Arc::clone(counts);
        let reading = tokio::task::spawn_blocking(move || read(self.0, &counts, subset));
        reading.await.map_err(|error| Status::internal(format!("an answer could not be read: {error}")))?
    }
}

fn read(bytes: Bytes, counts: &Arc<CallCounts>, subset: Subset) -> Result<Said, Status> {
    let answer = LoadBalanceResponse::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(match answer.load_balance_response_type {
        Some(Response::InitialResponse(initial)) => Said::Initial(initial.report_interval()),
        Some(Response::ServerList(said)) => Said::List(List::read(&said.servers, counts, subset).map(Arc::new)),
        Some(Response::FallbackResponse(_)) => Said::Fallback,
        None => Said::Unknown,
    })
}

/// The protocol's codec, except that answers are not decoded.
pub(super) struct Unread;

impl Codec for Unread {
    type Encode = LoadBalanceRequest;
    type Decode = Answer;
    type Encoder = <ProstCodec<LoadBalanceRequest, LoadBalanceResponse> as Codec>::Encoder;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<LoadBalanceRequest, LoadBalanceResponse>::default().encoder()
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Unread {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        Ok(Some(Answer(message.copy_to_bytes(message.remaining()))))
    }
}

//! Which messages of a body are compressed, which tonic tells nobody: the first byte of each message's prefix.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// gRPC's prefix of a message: the flag, and four bytes of length.
const PREFIX: usize = 5;

/// The flags of the messages that have passed so far.
#[derive(Clone, Debug, Default)]
pub struct Flags(Arc<Mutex<Vec<bool>>>);

impl Flags {
    /// Whether each message was compressed, in their order.
    pub fn all(&self) -> Vec<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same body, whose messages are noted here as they pass.
    pub fn note(&self, body: Body) -> Body {
        Body::new(Noted { body, flags: self.clone(), prefix: Vec::new(), rest: 0 })
    }

    fn push(&self, flag: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(flag);
    }
}

struct Noted {
    body: Body,
    flags: Flags,
    /// What has come of a message's prefix.
    prefix: Vec<u8>,
    /// How much of the message is still to come.
    rest: usize,
}

impl Noted {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let taken = (PREFIX - self.prefix.len()).min(bytes.len());
            self.prefix.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let [flag, l0, l1, l2, l3] = self.prefix[..] {
                self.flags.push(flag != 0);
                self.rest = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
                self.prefix.clear();
            }
        }
    }
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.pass(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_noted_once_wherever_its_bytes_are_split() {
        let wire = [1, 0, 0, 0, 2, 7, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 7];
        for size in 1..wire.len() {
            let flags = Flags::default();
            let mut noted = Noted { body: Body::empty(), flags: flags.clone(), prefix: Vec::new(), rest: 0 };
            for part in wire.chunks(size) {
                noted.pass(part);
            }
            assert_eq!(flags.all(), [true, false, true], "in parts of {size}");
        }
    }
}

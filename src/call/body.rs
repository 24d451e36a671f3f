//! The body of a response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callboard_core::Code;
use http_body::Frame;
use tonic::Status;

use super::attempt::Attempt;
use super::ending::is_cut;
use crate::control::{Standing, Summary};
use crate::grpc::{self, Deadline, Phase, status};
use crate::transport::{Failure, Incoming};

/// A response's body. The call ends when it ends, fails or is dropped, and at the deadline at the latest.
#[derive(Debug)]
pub(super) struct ResponseBody {
    // None once the call is over: its slot on the connection is free from then on.
    running: Option<(Incoming, Attempt)>,
    standing: Arc<Standing>,
    deadline: Option<Deadline>,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        attempt: Attempt,
        standing: Arc<Standing>,
        deadline: Option<Deadline>,
    ) -> Self {
        Self { running: Some((incoming, attempt)), standing, deadline }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { running, standing, deadline } = self.get_mut();
        let Some((incoming, attempt)) = running else { return Poll::Ready(None) };
        let polled = incoming.poll_frame(cx);
        let data = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map(Bytes::len),
            _ => None,
        };
        data.into_iter().for_each(|bytes| attempt.received(bytes));
        // The timer is polled only when there is nothing to read. For a response that is always ready, the clock is
        // checked.
        let late = match &polled {
            Poll::Ready(frame) => is_late(frame.as_ref(), deadline.as_ref()),
            Poll::Pending => deadline.as_mut().is_some_and(|deadline| deadline.poll(cx).is_ready()),
        };
        let mut result = match polled {
            _ if late => Some(Err(exceeded(deadline.as_ref(), &standing.now(), attempt))),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => {
                let report = |why: &str| attempt.report(&standing.now(), why);
                let failed = |failure| grpc::of_failure(failure, Phase::Body, attempt.endpoint(), report);
                frame.map(|frame| frame.map_err(failed))
            }
        };
        if data.is_some() && !late {
            return Poll::Ready(result);
        }
        if let Some((_, mut attempt)) = running.take() {
            if let Some(trailers) = result.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
                attempt.note_load(trailers);
                grpc::strip_response(trailers);
            }
            attempt.done(code_of(result.as_ref()));
        }
        Poll::Ready(result)
    }
}

/// Whether a frame that came after the deadline is late: data, or a cancellation, by which servers end a call at its
/// deadline.
fn is_late(frame: Option<&Result<Frame<Bytes>, Failure>>, deadline: Option<&Deadline>) -> bool {
    match frame {
        Some(Ok(frame)) if frame.is_data() => deadline.is_some_and(Deadline::is_over),
        Some(Ok(frame)) => is_cut(frame.trailers_ref().and_then(status::in_fields), deadline),
        Some(Err(failure)) => is_cut(failure.code(), deadline),
        None => false,
    }
}

/// The code of the call by the last frame of its body.
fn code_of(result: Option<&Result<Frame<Bytes>, Status>>) -> Code {
    match result {
        Some(Ok(trailers)) => trailers.trailers_ref().and_then(status::in_fields).unwrap_or(Code::Unknown),
        Some(Err(status)) => status::from_tonic(status.code()),
        None => Code::Unknown,
    }
}

fn exceeded(deadline: Option<&Deadline>, summary: &Summary, attempt: &Attempt) -> Status {
    let (whence, registry) = (attempt.whence(summary.service()), summary.registry());
    let status = grpc::exceeded(deadline, &format!("while the response was being received: {whence}; {registry}"));
    grpc::local(status, Phase::Body, Some(attempt.endpoint()))
}

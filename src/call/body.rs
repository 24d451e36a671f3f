//! The body of a response.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use callboard_core::{Code, Service};
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::attempt::code_in;
use super::deadline::Deadline;
use super::status;
use super::ticket::Ticket;
use crate::transport::{Failure, Incoming};

pin_project! {
    /// A response's body: ends the call when it ends, fails, or is dropped, and not after the deadline.
    #[derive(Debug)]
    pub(super) struct ResponseBody {
        // None once the call is over: the place on the connection is free from then on.
        running: Option<(Incoming, Ticket)>,
        service: Service,
        deadline: Option<Deadline>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, ticket: Ticket, service: Service, deadline: Option<Deadline>) -> Self {
        let timer = deadline.map(|deadline| sleep_until(deadline.at));
        Self { running: Some((incoming, ticket)), service, deadline, timer }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let Some((incoming, ticket)) = this.running else { return Poll::Ready(None) };
        let result = match incoming.poll_frame(cx) {
            // The timer is asked only when there is nothing to read. A response of which there always is ends too.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => match this.deadline {
                Some(deadline) if deadline.at <= Instant::now() => {
                    Some(Err(Failure::Body(exceeded(this.deadline.as_ref(), this.service, ticket))))
                }
                _ => return Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(result) => result,
            Poll::Pending => match this.timer.as_pin_mut().map(|timer| timer.poll(cx)) {
                Some(Poll::Ready(())) => {
                    Some(Err(Failure::Body(exceeded(this.deadline.as_ref(), this.service, ticket))))
                }
                _ => return Poll::Pending,
            },
        };
        let result = result.map(|frame| frame.map_err(|failure| told(failure, this.service, ticket)));
        if let Some((_, ticket)) = this.running.take() {
            ticket.done(code_of(result.as_ref()));
        }
        Poll::Ready(result)
    }
}

/// The status that a finished body ends the call with.
fn code_of(result: Option<&Result<Frame<Bytes>, Status>>) -> Code {
    match result {
        Some(Ok(trailers)) => trailers.trailers_ref().and_then(code_in).unwrap_or(Code::Unknown),
        Some(Err(status)) => status::from_tonic(status.code()),
        None => Code::Unknown,
    }
}

fn told(failure: Failure, service: &Service, ticket: &Ticket) -> Status {
    status::of_failure(failure, &whence(service, ticket))
}

fn whence(service: &Service, ticket: &Ticket) -> String {
    format!("service {service}, endpoint {}", ticket.endpoint().instance().address)
}

fn exceeded(deadline: Option<&Deadline>, service: &Service, ticket: &Ticket) -> Status {
    let whence = whence(service, ticket);
    deadline.map_or_else(
        || Status::deadline_exceeded(whence.clone()),
        |deadline| deadline.exceeded(&format!("while the response was on its way: {whence}")),
    )
}

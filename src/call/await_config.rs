//! Calls that begin before the service config is known.

use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::WaitForReady;
use super::pick::too_many;
use crate::control::{News, Shared, Verdict};
use crate::grpc::{self, Deadline, Phase, until};

/// Waits until it is known whether the service has a service config, as gRPC does. The call's time has begun. While it
/// waits, the channel's own timeout applies.
pub(super) fn wait<'s>(
    shared: &'s Shared,
    request: &http::Request<Body>,
    begun: Instant,
) -> impl Future<Output = Result<(), Status>> + use<'s> {
    let timeout = grpc::of_call(request.extensions(), None, shared.defaults.timeout);
    let deadline = Deadline::of(request, timeout, Some(begun), &shared.runtime);
    let wait_for_ready = request.extensions().get().map_or(shared.defaults.wait_for_ready, |WaitForReady(wait)| *wait);
    async move {
        let mut deadline = deadline.map_err(|status| grpc::local(status, Phase::Request, None))?;
        let _waits = shared.waiting.begin().ok_or_else(|| grpc::local(too_many(shared), Phase::Choosing, None))?;
        match until(&mut deadline, Box::pin(settled(shared, wait_for_ready))).await {
            Some(()) => Ok(()),
            None => Err(late(deadline.as_ref(), shared)),
        }
    }
}

/// Resolves when the service config is known, or when the call fails anyway.
async fn settled(shared: &Shared, wait_for_ready: bool) {
    loop {
        let (over, News { changed, .. }) = shared.look(|published| match published.verdict {
            Verdict::Ended => true,
            Verdict::Fail if !wait_for_ready => true,
            _ => published.settled,
        });
        if over {
            return;
        }
        changed.await;
    }
}

fn late(deadline: Option<&Deadline>, shared: &Shared) -> Status {
    let status = grpc::exceeded(deadline, &format!("while waiting for the registry: {}", shared.published().summary));
    grpc::local(status, Phase::Choosing, None)
}

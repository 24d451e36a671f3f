//! Calls that begin before it is known how the service is to be called.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::attempt::{Answer, begin};
use super::deadline::{self, Deadline};
use super::origin::{self, Phase};
use super::pick::too_many;
use super::{WaitForReady, timeout};
use crate::control::Verdict;
use crate::publication::News;
use crate::shared::Shared;

/// Waits until the registry has said whether there is a config for the service, as gRPC does, then makes the call. Its
/// time begins here; while it waits, the channel's own timeout holds.
pub(super) fn run(shared: Arc<Shared>, request: http::Request<Body>) -> BoxFuture<'static, Answer> {
    let begun = Instant::now();
    let timeout = timeout::of_call(request.extensions(), None, shared.defaults.timeout);
    let deadline = Deadline::of(&request, timeout, Some(begun), &shared.runtime);
    let wait_for_ready = request.extensions().get().map_or(shared.defaults.wait_for_ready, |WaitForReady(wait)| *wait);
    Box::pin(async move {
        let mut deadline = deadline.map_err(|status| origin::local(status, Phase::Request, None))?;
        let waits = shared.waiting.begin().ok_or_else(|| origin::local(too_many(&shared), Phase::Choosing, None))?;
        let answered = deadline::until(&mut deadline, Box::pin(settled(&shared, wait_for_ready))).await;
        if answered.is_none() {
            return Err(late(deadline.as_ref(), &shared));
        }
        drop(waits);
        let call = {
            let published = shared.published();
            begin(shared, request, published.rules.as_deref(), Some(begun))
        };
        call.await
    })
}

/// Resolves when it is known, or when the call need not know: it fails.
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
    let status =
        deadline::exceeded(deadline, &format!("while waiting for the registry: {}", shared.published().summary));
    origin::local(status, Phase::Choosing, None)
}

//! The four methods of the service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Result, Streaming};

use crate::pb::echo_server::Echo;
use crate::pb::{EchoRequest, EchoResponse};
use crate::shared::{InFlight, Shared};

/// The handlers. Each call is counted from its arrival until its handler or its stream of answers is dropped.
pub(crate) struct Handlers(pub(crate) Arc<Shared>);

type Answers = Pin<Box<dyn Stream<Item = Result<EchoResponse>> + Send>>;

/// Thinks for as long as the message asks.
async fn think(request: &EchoRequest) {
    if request.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(request.delay_ms.into())).await;
    }
}

fn answer(call: &InFlight, payload: Vec<u8>) -> EchoResponse {
    EchoResponse { payload, server: call.server().to_owned() }
}

#[tonic::async_trait]
impl Echo for Handlers {
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>> {
        let call = self.0.call();
        let request = request.into_inner();
        think(&request).await;
        Ok(Response::new(answer(&call, request.payload)))
    }

    type ServerStreamingStream = Answers;

    /// Thinks before each answer.
    async fn server_streaming(&self, request: Request<EchoRequest>) -> Result<Response<Answers>> {
        let state = (self.0.call(), request.into_inner());
        Ok(Response::new(Box::pin(stream::unfold(state, async |(call, mut request)| {
            request.repeat = request.repeat.checked_sub(1)?;
            think(&request).await;
            Some((Ok(answer(&call, request.payload.clone())), (call, request)))
        }))))
    }

    /// Thinks after each message, before it reads the next one.
    async fn client_streaming(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<EchoResponse>> {
        let call = self.0.call();
        let mut messages = request.into_inner();
        let mut payload = Vec::new();
        while let Some(message) = messages.message().await? {
            think(&message).await;
            payload.extend_from_slice(&message.payload);
        }
        Ok(Response::new(answer(&call, payload)))
    }

    type BidirectionalStream = Answers;

    /// Thinks before each answer, and reads the next message after it.
    async fn bidirectional(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Answers>> {
        let state = (self.0.call(), request.into_inner());
        Ok(Response::new(Box::pin(stream::try_unfold(state, async |(call, mut messages)| {
            let Some(message) = messages.message().await? else { return Ok(None) };
            think(&message).await;
            Ok(Some((answer(&call, message.payload), (call, messages))))
        }))))
    }
}

//! Calls that the client gives up.
//!
//! A tonic client cancels a call by dropping it, and is told nothing then. That it ended as CANCELLED is what the balancer
//! is told, and that the server has seen it, what the server counts.

use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard_interop::pb::{StreamingInputCallRequest, StreamingOutputCallRequest};
use futures_util::future::{self, Either};
use tonic::{Code, Request};

use super::streaming::{asking, carrying, requests};
use crate::client::{Client, Noting};
use crate::common::until;

pub async fn cancel_after_begin(client: Client) {
    let noting = Noting::new(RoundRobin::new());
    let client = client.balanced(noting.clone(), 3).await;
    let before = client.fleet.counts().await;
    let (_sender, requests) = requests::<StreamingInputCallRequest>();
    let mut stub = client.stub();
    let call = Box::pin(stub.streaming_input_call(requests));
    let begun = Box::pin(client.until(|counts| counts.begun > before.begun));
    match future::select(call, begun).await {
        Either::Left((result, _)) => panic!("nothing was asked: {result:?}"),
        // Here the call is dropped.
        Either::Right(_) => {}
    }
    is_cancelled(&client, &noting, before.cancelled).await;
}

pub async fn cancel_after_first_response(client: Client) {
    let noting = Noting::new(RoundRobin::new());
    let client = client.balanced(noting.clone(), 3).await;
    let before = client.fleet.counts().await;
    let (sender, requests) = requests();
    sender.send(carrying(27_182, asking(&[31_415]))).unwrap();
    let mut responses = client.stub().full_duplex_call(requests).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap().unwrap().payload.unwrap().body.len(), 31_415);
    drop(responses);
    is_cancelled(&client, &noting, before.cancelled).await;
}

async fn is_cancelled<B>(client: &Client, noting: &Noting<B>, before: usize) {
    until("the balancer is told", || noting.last().is_some()).await;
    assert_eq!(noting.last().unwrap().code, callboard::Code::Cancelled);
    client.until(|counts| counts.cancelled > before).await;
}

/// gRPC's case is one call of 1 ms. Who is first, this side's clock or the server's, is a matter of chance: so there are
/// many, up to 20 ms, which is time enough to reach the server.
pub async fn timeout_on_sleeping_server(client: Client) {
    let mut codes = Vec::new();
    for timeout in (1..=20).flat_map(|millis| [millis; 5]).map(Duration::from_millis) {
        let (sender, requests) = requests();
        sender.send(carrying(27_182, StreamingOutputCallRequest::default())).unwrap();
        let mut request = Request::new(requests);
        request.set_timeout(timeout);
        let result = match client.stub().full_duplex_call(request).await {
            Ok(responses) => responses.into_inner().message().await,
            Err(status) => Err(status),
        };
        codes.push(result.err().map(|status| status.code()));
    }
    let all = codes.len();
    codes.retain(|code| *code != Some(Code::DeadlineExceeded));
    assert!(codes.is_empty(), "{} of {all} ended otherwise, the first with {:?}", codes.len(), codes[0]);
}

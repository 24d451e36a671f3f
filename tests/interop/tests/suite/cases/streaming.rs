//! Calls of many messages.

use callboard_interop::pb::{
    Payload, ResponseParameters, StreamingInputCallRequest, StreamingOutputCallRequest, StreamingOutputCallResponse,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::client::Client;

const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
const RESPONSES: [usize; 4] = [31_415, 9, 2_653, 58_979];

/// A request that asks for responses of these sizes.
pub fn asking(sizes: &[usize]) -> StreamingOutputCallRequest {
    let parameters = |size: &usize| ResponseParameters { size: *size as i32, ..ResponseParameters::default() };
    StreamingOutputCallRequest {
        response_parameters: sizes.iter().map(parameters).collect(),
        ..StreamingOutputCallRequest::default()
    }
}

/// The same, with so much in it.
pub fn carrying(size: usize, request: StreamingOutputCallRequest) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest { payload: Some(Payload::zeros(size)), ..request }
}

/// Requests that are sent one by one: the stream ends when the sender is dropped.
pub fn requests<T>() -> (mpsc::UnboundedSender<T>, UnboundedReceiverStream<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, UnboundedReceiverStream::new(receiver))
}

fn zeros(size: usize) -> StreamingOutputCallResponse {
    StreamingOutputCallResponse { payload: Some(Payload::zeros(size)) }
}

pub async fn client_streaming(client: Client) {
    let requests = REQUESTS.map(|size| StreamingInputCallRequest {
        payload: Some(Payload::zeros(size)),
        ..StreamingInputCallRequest::default()
    });
    let response = client.stub().streaming_input_call(stream::iter(requests)).await.unwrap();
    assert_eq!(response.into_inner().aggregated_payload_size, 74_922);
}

pub async fn server_streaming(client: Client) {
    let response = client.stub().streaming_output_call(asking(&RESPONSES)).await.unwrap();
    let responses: Vec<_> = response.into_inner().try_collect().await.unwrap();
    assert_eq!(responses, RESPONSES.map(zeros));
}

pub async fn ping_pong(client: Client) {
    let (sender, requests) = requests();
    sender.send(carrying(REQUESTS[0], asking(&RESPONSES[..1]))).unwrap();
    let mut responses = client.stub().full_duplex_call(requests).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap(), Some(zeros(RESPONSES[0])));
    for (request, response) in REQUESTS.into_iter().zip(RESPONSES).skip(1) {
        sender.send(carrying(request, asking(&[response]))).unwrap();
        assert_eq!(responses.message().await.unwrap(), Some(zeros(response)));
    }
    drop(sender);
    assert_eq!(responses.message().await.unwrap(), None);
}

pub async fn empty_stream(client: Client) {
    let responses = client.stub().full_duplex_call(stream::empty()).await.unwrap().into_inner();
    assert_eq!(responses.count().await, 0);
}

//! Metadata that is sent back.

use callboard_interop::pb::Payload;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{IntoStreamingRequest, Request};

use super::streaming::{asking, carrying};
use super::{LARGE_RESPONSE, large_request};
use crate::client::Client;

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";
const TEXT: &str = "test_initial_metadata_value";
const BYTES: [u8; 3] = [0xab; 3];

fn attach(metadata: &mut MetadataMap) {
    metadata.insert(INITIAL, TEXT.parse().unwrap());
    metadata.insert_bin(TRAILING, MetadataValue::from_bytes(&BYTES));
}

fn initial(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(INITIAL).map(|value| value.to_str().unwrap())
}

fn trailing(metadata: &MetadataMap) -> Option<Vec<u8>> {
    metadata.get_bin(TRAILING).map(|value| value.to_bytes().unwrap().to_vec())
}

pub async fn custom_metadata(client: Client) {
    let mut request = Request::new(large_request());
    attach(request.metadata_mut());
    let response = client.stub().unary_call(request).await.unwrap();
    // Of a response of one message, tonic gives head and trailers as one.
    assert_eq!(initial(response.metadata()), Some(TEXT));
    assert_eq!(trailing(response.metadata()), Some(BYTES.into()));
    assert_eq!(response.into_inner().payload, Some(Payload::zeros(LARGE_RESPONSE)));

    let message = carrying(271_828, asking(&[LARGE_RESPONSE]));
    let mut request = futures_util::stream::iter([message]).into_streaming_request();
    attach(request.metadata_mut());
    let response = client.stub().full_duplex_call(request).await.unwrap();
    assert_eq!((initial(response.metadata()), trailing(response.metadata())), (Some(TEXT), None));
    let mut responses = response.into_inner();
    assert_eq!(responses.message().await.unwrap().unwrap().payload, Some(Payload::zeros(LARGE_RESPONSE)));
    assert_eq!(responses.message().await.unwrap(), None);
    let trailers = responses.trailers().await.unwrap().unwrap();
    assert_eq!((initial(&trailers), trailing(&trailers)), (None, Some(BYTES.into())));
}

//! Calls whose messages are compressed, or not. tonic compresses all or none of what one client sends, and all or none of
//! one stream's responses.

use callboard::Channel;
use callboard_interop::flags::Flags;
use callboard_interop::pb::test_service_client::TestServiceClient;
use callboard_interop::pb::{
    BoolValue, Payload, ResponseParameters, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
};
use futures_util::{TryStreamExt, stream};
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::{Code, Status};
use tower::util::MapResponse;

use super::{LARGE_RESPONSE, large_request};
use crate::client::Client;
use crate::table::Verdict;

type Response = http::Response<Body>;

/// A stub that notes which responses are compressed.
fn noting(
    channel: &Channel,
) -> (TestServiceClient<MapResponse<Channel, impl Fn(Response) -> Response + Clone>>, Flags) {
    let flags = Flags::default();
    let noted = flags.clone();
    let channel = MapResponse::new(channel.clone(), move |response: Response| response.map(|body| noted.note(body)));
    (TestServiceClient::new(channel), flags)
}

const NO_PROBE: Verdict = Verdict::InPart(
    "grpc-go's server takes compressed messages, and does not look at expect_compressed: nothing to probe",
);
const MIRRORED: Verdict =
    Verdict::InPart("grpc-go's server does not look at response_compressed: it answers compressed what is compressed");
const ALL_OR_NONE: Verdict = Verdict::InPart("a stream each: tonic compresses all or none of a stream's messages");
const NEITHER: Verdict =
    Verdict::InPart("a stream each, and no probe: neither tonic's client nor grpc-go's server can");

fn expecting(value: bool) -> SimpleRequest {
    SimpleRequest { expect_compressed: Some(BoolValue { value }), ..large_request() }
}

fn refused<T>(result: Result<T, Status>) {
    assert_eq!(result.err().map(|status| status.code()), Some(Code::InvalidArgument));
}

pub async fn client_compressed_unary(client: Client) -> Verdict {
    let mut plain = client.stub();
    if client.is_tonic() {
        refused(plain.unary_call(expecting(true)).await);
        refused(compressing(&client).unary_call(expecting(false)).await);
    }
    let compressed = compressing(&client).unary_call(expecting(true)).await.unwrap().into_inner();
    assert_eq!(compressed.payload, Some(Payload::zeros(LARGE_RESPONSE)));
    let response = plain.unary_call(expecting(false)).await.unwrap().into_inner();
    assert_eq!(response.payload, Some(Payload::zeros(LARGE_RESPONSE)));
    if client.is_tonic() { Verdict::Passed } else { NO_PROBE }
}

/// A stub that compresses its messages.
fn compressing(client: &Client) -> TestServiceClient<Channel> {
    client.stub().send_compressed(Gzip).accept_compressed(Gzip)
}

pub async fn server_compressed_unary(client: Client) -> Verdict {
    for value in [true, false] {
        let (stub, flags) = noting(&client.channel);
        let stub = stub.accept_compressed(Gzip);
        // grpc-go's server does as the client does.
        let mut stub = if value && !client.is_tonic() { stub.send_compressed(Gzip) } else { stub };
        let wanted = SimpleRequest { response_compressed: Some(BoolValue { value }), ..large_request() };
        let response = stub.unary_call(wanted).await.unwrap().into_inner();
        assert_eq!(response.payload, Some(Payload::zeros(LARGE_RESPONSE)));
        assert_eq!(flags.all(), [value], "whether it was compressed");
    }
    if client.is_tonic() { Verdict::Passed } else { MIRRORED }
}

pub async fn client_compressed_streaming(client: Client) -> Verdict {
    let requests = |sizes: &[usize], value| {
        let expect_compressed = Some(BoolValue { value });
        let request =
            |size: &usize| StreamingInputCallRequest { payload: Some(Payload::zeros(*size)), expect_compressed };
        stream::iter(sizes.iter().map(request).collect::<Vec<_>>())
    };
    if client.is_tonic() {
        refused(client.stub().streaming_input_call(requests(&[27_182], true)).await);
    }
    let sizes = [27_182, 45_904];
    let compressed = compressing(&client).streaming_input_call(requests(&sizes, true)).await.unwrap();
    assert_eq!(compressed.into_inner().aggregated_payload_size, 73_086);
    let plain = client.stub().streaming_input_call(requests(&sizes, false)).await.unwrap();
    assert_eq!(plain.into_inner().aggregated_payload_size, 73_086);
    if client.is_tonic() { ALL_OR_NONE } else { NEITHER }
}

pub async fn server_compressed_streaming(client: Client) -> Verdict {
    let sizes = [31_415, 92_653];
    for value in [true, false] {
        let parameters = |size| ResponseParameters { size, compressed: Some(BoolValue { value }), interval_us: 0 };
        let request = StreamingOutputCallRequest {
            response_parameters: sizes.map(parameters).into(),
            ..StreamingOutputCallRequest::default()
        };
        let (stub, flags) = noting(&client.channel);
        let mut stub = match (value, client.is_tonic()) {
            (true, true) => stub.accept_compressed(Gzip),
            (true, false) => stub.accept_compressed(Gzip).send_compressed(Gzip),
            // A client that takes none gets none.
            (false, _) => stub,
        };
        let responses = stub.streaming_output_call(request).await.unwrap().into_inner();
        let bodies = responses.map_ok(|response| response.payload.unwrap().body.len() as i32);
        assert_eq!(bodies.try_collect::<Vec<_>>().await.unwrap(), sizes);
        assert_eq!(flags.all(), [value, value], "whether they were compressed");
    }
    if client.is_tonic() { ALL_OR_NONE } else { MIRRORED }
}

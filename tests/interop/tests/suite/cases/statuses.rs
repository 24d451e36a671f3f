//! Calls that a server fails.

use callboard_interop::pb::unimplemented_service_client::UnimplementedServiceClient;
use callboard_interop::pb::{EchoStatus, Empty, SimpleRequest, StreamingOutputCallRequest};
use futures_util::stream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::client::Client;

fn echo(message: &str) -> Option<EchoStatus> {
    Some(EchoStatus { code: Code::Unknown as i32, message: message.to_owned() })
}

fn is_status<T>(result: Result<T, Status>, code: Code, message: &str) {
    let status = result.err().expect("the call is to fail");
    assert_eq!((status.code(), status.message()), (code, message));
}

fn unary(message: &str) -> SimpleRequest {
    SimpleRequest { response_status: echo(message), ..SimpleRequest::default() }
}

pub async fn status_code_and_message(client: Client) {
    let message = "test status message";
    is_status(client.stub().unary_call(unary(message)).await, Code::Unknown, message);
    let request = StreamingOutputCallRequest { response_status: echo(message), ..Default::default() };
    let result = match client.stub().full_duplex_call(stream::iter([request])).await {
        Ok(responses) => responses.into_inner().message().await,
        Err(status) => Err(status),
    };
    is_status(result, Code::Unknown, message);
}

pub async fn special_status_message(client: Client) {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    is_status(client.stub().unary_call(unary(message)).await, Code::Unknown, message);
}

fn is_unimplemented<T>(result: Result<T, Status>) {
    assert_eq!(result.err().map(|status| status.code()), Some(Code::Unimplemented));
}

pub async fn unimplemented_method(client: Client) {
    let mut stub = Grpc::new(client.channel.clone());
    stub.ready().await.unwrap();
    let path = PathAndQuery::from_static("/grpc.testing.TestService/UnimplementedCall");
    let codec = ProstCodec::<Empty, Empty>::default();
    let result: Result<Response<Empty>, Status> = stub.unary(Request::new(Empty {}), path, codec).await;
    is_unimplemented(result);
}

pub async fn unimplemented_service(client: Client) {
    is_unimplemented(UnimplementedServiceClient::new(client.channel).unimplemented_call(Empty {}).await);
}

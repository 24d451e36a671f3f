//! The generated client with the server's message limits.

use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

use crate::pb::echo_client::EchoClient;

/// The largest message that [`EchoServer`](crate::EchoServer) and [`client`] send and accept, in bytes: 16 MiB.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// The generated client over any channel, with messages of up to [`MESSAGE_LIMIT`] allowed both ways.
pub fn client<C>(channel: C) -> EchoClient<C>
where
    C: GrpcService<Body>,
    C::Error: Into<StdError>,
    C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    EchoClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT)
}

//! Many calls over one channel, and over many.

use std::time::Duration;

use callboard::Channel;
use callboard_interop::pb::test_service_client::TestServiceClient;
use callboard_interop::pb::{Payload, SimpleRequest};
use tonic::{Request, Status};

use crate::client::Client;

const LARGE_REQUEST: usize = 271_828;
pub const LARGE_RESPONSE: usize = 314_159;

/// How many callers there are at a time, and how many calls each makes, one after the other.
const CALLERS: usize = 8;
const CALLS: usize = 20;
/// The bound of one call.
const LATENCY: Duration = Duration::from_secs(20);

/// The request that most cases send.
pub fn large_request() -> SimpleRequest {
    let (response_size, payload) = (LARGE_RESPONSE as i32, Some(Payload::zeros(LARGE_REQUEST)));
    SimpleRequest { response_size, payload, ..SimpleRequest::default() }
}

/// Makes a large call.
pub async fn large(stub: &mut TestServiceClient<Channel>) -> Result<(), Status> {
    let mut request = Request::new(large_request());
    request.set_timeout(LATENCY);
    let response = stub.unary_call(request).await?.into_inner();
    assert_eq!(response.payload, Some(Payload::zeros(LARGE_RESPONSE)));
    Ok(())
}

pub async fn rpc_soak(client: Client) {
    soak(move || client.stub()).await;
}

pub async fn channel_soak(client: Client) {
    soak(move || TestServiceClient::new(client.fleet.builder().build().unwrap())).await;
}

/// Makes all calls, each with a stub of its own.
async fn soak(stub: impl Fn() -> TestServiceClient<Channel> + Clone + Send + Sync + 'static) {
    let caller = || {
        let stub = stub.clone();
        tokio::spawn(async move {
            for call in 0..CALLS {
                large(&mut stub()).await.unwrap_or_else(|status| panic!("call {call}: {status}"));
            }
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| caller()).collect();
    for caller in callers {
        // What made it fail is what this fails with.
        caller.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

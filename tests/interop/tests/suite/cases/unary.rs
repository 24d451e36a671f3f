//! Calls of one message each way.

use callboard::balancer::PickFirst;
use callboard_interop::pb::{Empty, Payload, SimpleRequest};

use super::large;
use crate::client::Client;
use crate::table::Verdict;

pub async fn empty_unary(client: Client) {
    let response = client.stub().empty_call(Empty {}).await.unwrap();
    assert_eq!(response.into_inner(), Empty {});
}

pub async fn cacheable_unary(_: Client) -> Verdict {
    Verdict::LeftOut(
        "it wants requests by GET and a proxy that caches; tonic sends none, and grpc-go's server takes none",
    )
}

pub async fn large_unary(client: Client) {
    large(&mut client.stub()).await.unwrap();
}

/// Not yet a case of gRPC's own, which has it on its list.
pub async fn concurrent_large_unary(client: Client) {
    let call = || {
        let mut stub = client.stub();
        tokio::spawn(async move { large(&mut stub).await })
    };
    let calls: Vec<_> = (0..100).map(|_| call()).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

pub async fn pick_first_unary(client: Client) {
    let client = client.balanced(PickFirst::new(), 1).await;
    let request = SimpleRequest {
        response_size: 1,
        payload: Some(Payload::zeros(1)),
        fill_server_id: true,
        ..SimpleRequest::default()
    };
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(client.stub().unary_call(request.clone()).await.unwrap().into_inner().server_id);
    }
    assert_ne!(ids[0], "");
    ids.dedup();
    assert_eq!(ids.len(), 1, "one server answers: {ids:?}");
}

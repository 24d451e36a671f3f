//! Which endpoint a call went to, for who has to know it after a failure.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use callboard_core::{Endpoint, Load};

/// Learns which endpoint a call went to, whether it succeeds or fails: grpc-go's call option of this name.
///
/// Put a clone into a request's extensions and ask this one afterwards. A response has [`ServedBy`](crate::ServedBy) in its
/// extensions already; a failure has none, and nothing about the endpoint is put into its metadata, which a gateway may
/// hand on to its own callers.
///
/// ```no_run
/// # use callboard_echo::pb::{EchoRequest, echo_client::EchoClient};
/// # async fn doc(client: &mut EchoClient<callboard::Channel>) {
/// let peer = callboard::Peer::new();
/// let mut request = tonic::Request::new(EchoRequest::default());
/// request.extensions_mut().insert(peer.clone());
/// if let Err(status) = client.unary(request).await
///     && let Some(endpoint) = peer.endpoint()
/// {
///     println!("{} said {:?}", endpoint.instance().address(), status.code());
/// }
/// # }
/// ```
///
/// It is for one call: with several at once, the latest counts. It is written without a lock, when an endpoint is chosen
/// for an attempt and when the response has ended.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    endpoint: ArcSwapOption<Endpoint>,
    load: ArcSwapOption<Load>,
}

impl Peer {
    /// One that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the call went; of several attempts, the last one. None until an endpoint is chosen.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.0.endpoint.load().as_deref().cloned()
    }

    /// What the end of the response has reported of the server's load and the call's cost: gRPC's ORCA. None if it has
    /// not ended yet, or reports nothing. It does not stand in the metadata: the channel has taken it out.
    pub fn load(&self) -> Option<Load> {
        self.0.load.load().as_deref().cloned()
    }

    pub(super) fn chosen(&self, endpoint: &Endpoint) {
        self.0.load.store(None);
        self.0.endpoint.store(Some(Arc::new(endpoint.clone())));
    }

    pub(super) fn reported(&self, load: &Load) {
        self.0.load.store(Some(Arc::new(load.clone())));
    }
}

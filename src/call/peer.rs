//! The endpoint that a call was sent to, also after a failure.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use callboard_core::{Endpoint, Load};

/// Reports which endpoint a call was sent to, whether it succeeds or fails: grpc-go's call option of this name.
///
/// Put a clone into a request's extensions and ask this one afterwards. A response has [`ServedBy`](crate::ServedBy) in
/// its extensions already. A failure has no extensions, and nothing about the endpoint is put into its metadata,
/// because a gateway may pass that on to its own callers.
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
/// Use one per call: with several calls at once, the latest counts. It is written without a lock, when an endpoint is
/// chosen for an attempt and when the response has ended.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    endpoint: ArcSwapOption<Endpoint>,
    load: ArcSwapOption<Load>,
}

impl Peer {
    /// An empty one, for one call.
    pub fn new() -> Self {
        Self::default()
    }

    /// The endpoint of the call's last attempt. None until one is chosen.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.0.endpoint.load().as_deref().cloned()
    }

    /// The load report at the end of the response, with the server's load and the call's cost: gRPC's ORCA. None if the
    /// response has not ended yet, or has no report. The channel removes it from the metadata.
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

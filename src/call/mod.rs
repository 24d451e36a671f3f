//! One call, from the generated client to the end of its response.
//!
//! ```text
//! wait for a picker ─▶ pick ─▶ take a place on the connection ─▶ send ─▶ response ─▶ body ─▶ done
//!        ▲                                                        │
//!        └───────── never sent, or refused unprocessed ───────────┘
//! ```
//! The deadline covers all of it.

mod attempt;
mod body;
mod deadline;
mod direct;
mod early;
mod head;
mod pick;
mod status;
mod ticket;

pub(crate) use attempt::run;
pub(crate) use direct::Direct;

/// Makes a call wait until an endpoint is ready, or makes it fail at once although the channel waits by default.
///
/// Put it into a request's extensions. Without it a call fails fast, as in gRPC: when every endpoint is failing, or
/// nobody is signed in, it ends with `UNAVAILABLE` at once. A waiting call waits within its deadline.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(callboard::WaitForReady(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitForReady(pub bool);

/// Permits callboard to send a call again although a server may have processed it: after its connection was lost before
/// the response began, up to four times, each time elsewhere if there is another endpoint.
///
/// Put it into the extensions of a request that does no harm when it is done twice. Without it, such a call ends with
/// `UNAVAILABLE`.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(callboard::Idempotent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotent;

/// The endpoint that served a call: in the extensions of its response.
///
/// ```no_run
/// # async fn doc(response: tonic::Response<()>) {
/// if let Some(callboard::ServedBy(endpoint)) = response.extensions().get() {
///     println!("served by {}", endpoint.instance().address);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServedBy(pub callboard_core::Endpoint);

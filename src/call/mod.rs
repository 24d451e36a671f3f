//! One call, from the generated client to the end of its response.
//!
//! ```text
//! wait for a picker ─▶ pick ─▶ reserve a slot on a connection ─▶ send ─▶ response ─▶ body ─▶ done
//!        ▲                                                        │
//!        ├───────── never sent, or refused unprocessed ───────────┤
//!        └──── a wait ◀──── failed as a retry policy lists it ────┘
//! ```
//! The deadline covers all of it. [`run`] makes the attempts, [`after_failure`] handles those that have failed, and [`retry`]
//! decides whether there is another one. [`limits`] bounds messages.

mod after_failure;
mod attempt;
mod await_config;
mod body;
mod credentials;
mod ending;
mod limits;
mod peer;
mod pick;
mod retry;
mod run;

pub use self::peer::Peer;
pub(crate) use self::run::run;

/// Makes a call wait until an endpoint is ready, or makes it fail at once although the channel waits by default.
///
/// Put it into a request's extensions. Without it a call fails fast, as in gRPC: if every endpoint is failing, or no
/// instances are registered, it ends with `UNAVAILABLE` at once. A waiting call waits until its deadline.
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
/// Put it into the extensions of a request that does no harm when it is processed twice. Without it, such a call ends
/// with `UNAVAILABLE`, unless the service's config has a retry policy for it.
///
/// If that policy lists `UNAVAILABLE`, it alone decides what follows a lost connection, with or without this value: the
/// number of attempts, the waits, and the throttling. If it lists only other statuses, or the request is larger than
/// the [retry buffer](crate::ChannelBuilder::retry_buffer), this value permits retries after lost connections as
/// without a policy. These attempts count as attempts of the policy, and there are never more than five in all.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(callboard::Idempotent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotent;

/// The endpoint that served a call: in the extensions of its response. For a call that may fail, see [`Peer`].
///
/// ```no_run
/// # async fn doc(response: tonic::Response<()>) {
/// if let Some(callboard::ServedBy(endpoint)) = response.extensions().get() {
///     println!("served by {}", endpoint.instance().address());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServedBy(pub callboard_core::Endpoint);

//! The timeout of a call.

use std::time::Duration;

use http::Extensions;

/// The timeout of a call, longer or shorter, in place of the channel's own [`timeout`](crate::ChannelBuilder::timeout).
/// It bounds the time from the start of the call to the end of its response; of a stream, to its last message.
///
/// Put it into a request's extensions. [`tonic::Request::set_timeout`] can only make the time shorter: the shorter of
/// two timeouts counts, as everywhere in gRPC. That applies also if both are given. A timeout of the method in the
/// service config bounds this one as well: a caller cannot raise it, so configure there which methods take longer.
/// [`Duration::MAX`] is no timeout.
///
/// ```
/// use std::time::Duration;
///
/// // On a channel with `?timeout=2s`, a stream that may take a minute.
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(callboard::Timeout(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

/// The timeout of a call beside its `grpc-timeout`: the smaller of its own and that of its method in the service
/// config. If it has none of its own, that of the method, or else the channel's.
pub(crate) fn of_call(
    extensions: &Extensions,
    of_method: Option<Duration>,
    of_channel: Option<Duration>,
) -> Option<Duration> {
    match extensions.get() {
        Some(Timeout(own)) => of_method.into_iter().chain([*own]).min(),
        None => of_method.or(of_channel),
    }
}

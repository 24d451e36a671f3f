//! How long a call may take, and who says so.

use std::time::Duration;

use http::Extensions;

/// How long a call may take, in the place of the channel's own [`timeout`](crate::ChannelBuilder::timeout), be it longer or
/// shorter: the time from the call to the end of its response, of a stream to its last message.
///
/// Put it into a request's extensions. [`tonic::Request::set_timeout`] can only make the time shorter: the earlier one of
/// two counts, as everywhere in gRPC. Where both are given, that holds for them, too. A timeout that the service's config
/// gives the method bounds this one as well: it is the service's word, which no caller can raise; say in the config which
/// methods take longer. [`Duration::MAX`] is no timeout.
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

/// What bounds a call beside what it asks for in `grpc-timeout`: what the service's config says of its method, and what
/// the call itself or else, if no config does, the channel says.
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

//! The messages of `grpc.lb.v1`, as they are on the wire, to write external balancers with.
//!
//! They are generated from `proto/grpc/lb/v1/load_balancer.proto`, with gRPC's names. Durations and timestamps are
//! those of [`prost_types`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The crate with [`Duration`](prost_types::Duration) and [`Timestamp`](prost_types::Timestamp), re-exported to name
/// them.
pub use prost_types;

/// The constructors of a client's messages.
pub use self::load_balance_request::LoadBalanceRequestType as Request;
/// The constructors of a balancer's messages.
pub use self::load_balance_response::LoadBalanceResponseType as Response;
use crate::duration;

include!("../generated/grpc.lb.v1.rs");

impl Server {
    /// Makes an entry of a server that calls are sent to.
    pub fn at(address: SocketAddr, token: impl Into<String>) -> Self {
        let ip_address = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Self { ip_address, port: address.port().into(), load_balance_token: token.into(), drop: false }
    }

    /// Makes an entry whose calls fail, for the reason that the token names.
    pub fn dropping(token: impl Into<String>) -> Self {
        Self { load_balance_token: token.into(), drop: true, ..Self::default() }
    }
}

impl LoadBalanceResponse {
    /// Makes the first message, with the interval of the client's reports; 0 for no reports.
    pub fn initial(report_every: Duration) -> Self {
        let client_stats_report_interval = Some(duration::message(report_every));
        Response::InitialResponse(InitialLoadBalanceResponse { client_stats_report_interval }).into()
    }

    /// Makes a list.
    pub fn servers(servers: impl IntoIterator<Item = Server>) -> Self {
        Response::ServerList(ServerList { servers: servers.into_iter().collect() }).into()
    }

    /// Makes the request for fallback.
    pub fn fallback() -> Self {
        Response::FallbackResponse(FallbackResponse {}).into()
    }
}

impl From<Response> for LoadBalanceResponse {
    fn from(response: Response) -> Self {
        Self { load_balance_response_type: Some(response) }
    }
}

impl From<Request> for LoadBalanceRequest {
    fn from(request: Request) -> Self {
        Self { load_balance_request_type: Some(request) }
    }
}

impl InitialLoadBalanceResponse {
    /// Returns the interval of the client's reports. 0, which means never, if it is not set or negative.
    pub fn report_interval(&self) -> Duration {
        let Some(prost_types::Duration { seconds, nanos }) = self.client_stats_report_interval else {
            return Duration::ZERO;
        };
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(seconds), Ok(nanos)) => Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())),
            _ => Duration::ZERO,
        }
    }
}

impl ClientStats {
    /// Returns whether the report is empty.
    pub fn is_zero(&self) -> bool {
        *self == Self { timestamp: self.timestamp, ..Self::default() }
    }

    /// Returns the number of dropped calls, for all reasons.
    pub fn dropped(&self) -> i64 {
        self.calls_finished_with_drop.iter().map(|token| token.num_calls).sum()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The bytes were written down from the proto file by hand: tag and wire type, length, value.
    #[test]
    fn tags_and_types_are_those_of_the_proto_file() {
        let initial = Request::InitialRequest(InitialLoadBalanceRequest { name: "a/b".into() });
        assert_eq!(LoadBalanceRequest::from(initial).encode_to_vec(), b"\x0a\x05\x0a\x03a/b");
        let stats = ClientStats {
            timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 2 }),
            num_calls_started: 3,
            num_calls_finished: 4,
            num_calls_finished_with_client_failed_to_send: 5,
            num_calls_finished_known_received: 6,
            calls_finished_with_drop: vec![ClientStatsPerToken { load_balance_token: "t".into(), num_calls: 7 }],
        };
        let bytes = b"\x12\x15\x0a\x04\x08\x01\x10\x02\x10\x03\x18\x04\x30\x05\x38\x06\x42\x05\x0a\x01t\x10\x07";
        assert_eq!(LoadBalanceRequest::from(Request::ClientStats(stats)).encode_to_vec(), bytes);
        let initial = LoadBalanceResponse::initial(Duration::from_millis(1_500));
        assert_eq!(initial.encode_to_vec(), b"\x0a\x0a\x12\x08\x08\x01\x10\x80\xca\xb5\xee\x01");
        let servers = [Server::at(([10, 0, 0, 7], 80).into(), "k"), Server::dropping("d")];
        let bytes = b"\x12\x14\x0a\x0b\x0a\x04\x0a\x00\x00\x07\x10\x50\x1a\x01k\x0a\x05\x1a\x01d\x20\x01";
        assert_eq!(LoadBalanceResponse::servers(servers).encode_to_vec(), bytes);
        assert_eq!(LoadBalanceResponse::fallback().encode_to_vec(), b"\x1a\x00");
    }

    #[test]
    fn spans_that_make_no_sense_are_none() {
        let interval = |seconds, nanos| {
            let span = prost_types::Duration { seconds, nanos };
            InitialLoadBalanceResponse { client_stats_report_interval: Some(span) }.report_interval()
        };
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
            assert_eq!(interval(seconds, nanos), Duration::ZERO);
        }
        let longest = interval(i64::MAX, i32::MAX);
        assert!(longest >= Duration::from_secs(i64::MAX as u64), "{longest:?}");
        assert_eq!(InitialLoadBalanceResponse::default().report_interval(), Duration::ZERO);
    }

    #[test]
    fn a_report_of_nothing_is_zero_at_any_time() {
        let mut stats = ClientStats { timestamp: Some(std::time::SystemTime::now().into()), ..ClientStats::default() };
        assert!(stats.is_zero());
        stats.num_calls_started = 1;
        assert!(!stats.is_zero());
    }
}

//! The messages of `grpc.lb.v1`, as they are on the wire.
//!
//! Written by hand after gRPC's `load_balancer.proto`: fields that this version does not know are skipped, as protobuf
//! wants it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a client sends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalanceRequest {
    /// One of these.
    #[prost(oneof = "Request", tags = "1, 2")]
    pub request: Option<Request>,
}

/// What a client says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Request {
    /// The first message: what is to be balanced.
    #[prost(message, tag = "1")]
    Initial(InitialLoadBalanceRequest),
    /// Later ones: what became of the client's calls.
    #[prost(message, tag = "2")]
    Stats(ClientStats),
}

/// The first message of a client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InitialLoadBalanceRequest {
    /// The name of the service, as it was dialled; under 256 bytes.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What became of a client's calls since its last report.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientStats {
    /// When it was written.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// Calls that began.
    #[prost(int64, tag = "2")]
    pub num_calls_started: i64,
    /// Calls that ended, those of the next fields included.
    #[prost(int64, tag = "3")]
    pub num_calls_finished: i64,
    /// Those of them that never left the client, though an endpoint had been chosen.
    #[prost(int64, tag = "6")]
    pub num_calls_finished_with_client_failed_to_send: i64,
    /// Those of them that the server is known to have received: it has answered.
    #[prost(int64, tag = "7")]
    pub num_calls_finished_known_received: i64,
    /// Those of them that were dropped at the balancer's word.
    #[prost(message, repeated, tag = "8")]
    pub calls_finished_with_drop: Vec<ClientStatsPerToken>,
}

/// How many calls were dropped for one reason.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientStatsPerToken {
    /// The token of the entries that dropped them.
    #[prost(string, tag = "1")]
    pub load_balance_token: String,
    /// How many.
    #[prost(int64, tag = "2")]
    pub num_calls: i64,
}

/// What a balancer sends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalanceResponse {
    /// One of these.
    #[prost(oneof = "Response", tags = "1, 2, 3")]
    pub response: Option<Response>,
}

/// What a balancer says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    /// The first message.
    #[prost(message, tag = "1")]
    Initial(InitialLoadBalanceResponse),
    /// Where calls are to go, from now on.
    #[prost(message, tag = "2")]
    Servers(ServerList),
    /// The client is to do without a balancer, until the next list.
    #[prost(message, tag = "3")]
    Fallback(FallbackResponse),
}

/// The first message of a balancer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InitialLoadBalanceResponse {
    /// How often the client is to report. None or 0: not at all.
    #[prost(message, optional, tag = "2")]
    pub client_stats_report_interval: Option<Span>,
}

/// Where calls are to go.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerList {
    /// Calls take them in turn. One that stands there twice gets twice the calls.
    #[prost(message, repeated, tag = "1")]
    pub servers: Vec<Server>,
}

/// One entry of a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Server {
    /// 4 bytes of IPv4 or 16 of IPv6, in network order.
    #[prost(bytes = "vec", tag = "1")]
    pub ip_address: Vec<u8>,
    /// Its port.
    #[prost(int32, tag = "2")]
    pub port: i32,
    /// What calls to it carry as `lb-token`; for a drop entry, the name of the reason. At most 50 bytes.
    #[prost(string, tag = "3")]
    pub load_balance_token: String,
    /// Calls whose turn it is are to fail. There is no address then.
    #[prost(bool, tag = "4")]
    pub drop: bool,
}

/// Asks the client to do without a balancer.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FallbackResponse {}

/// A span of time: `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Span {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And billionths of one.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A moment: `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And billionths of one.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Server {
    /// A server that calls are sent to.
    pub fn at(address: SocketAddr, token: impl Into<String>) -> Self {
        let ip_address = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Self { ip_address, port: address.port().into(), load_balance_token: token.into(), drop: false }
    }

    /// An entry whose calls fail, for the reason that the token names.
    pub fn dropping(token: impl Into<String>) -> Self {
        Self { load_balance_token: token.into(), drop: true, ..Self::default() }
    }
}

impl LoadBalanceResponse {
    /// The first message, with how often the client is to report; 0 for never.
    pub fn initial(report_every: Duration) -> Self {
        let client_stats_report_interval = Some(Span::from(report_every));
        Response::Initial(InitialLoadBalanceResponse { client_stats_report_interval }).into()
    }

    /// A list.
    pub fn servers(servers: impl IntoIterator<Item = Server>) -> Self {
        Response::Servers(ServerList { servers: servers.into_iter().collect() }).into()
    }

    /// The order to do without a balancer.
    pub fn fallback() -> Self {
        Response::Fallback(FallbackResponse {}).into()
    }
}

impl From<Response> for LoadBalanceResponse {
    fn from(response: Response) -> Self {
        Self { response: Some(response) }
    }
}

impl From<Request> for LoadBalanceRequest {
    fn from(request: Request) -> Self {
        Self { request: Some(request) }
    }
}

impl ClientStats {
    /// Whether nothing has happened.
    pub fn is_zero(&self) -> bool {
        *self == Self { timestamp: self.timestamp, ..Self::default() }
    }

    /// Those that were dropped, for whatever reason.
    pub fn dropped(&self) -> i64 {
        self.calls_finished_with_drop.iter().map(|token| token.num_calls).sum()
    }
}

impl From<Duration> for Span {
    fn from(span: Duration) -> Self {
        Self { seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), nanos: span.subsec_nanos() as i32 }
    }
}

impl From<Span> for Duration {
    /// A span below zero is none.
    fn from(span: Span) -> Self {
        let (seconds, nanos) = (u64::try_from(span.seconds), u32::try_from(span.nanos));
        match (seconds, nanos) {
            (Ok(seconds), Ok(nanos)) => Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())),
            _ => Duration::ZERO,
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let Span { seconds, nanos } = time.duration_since(UNIX_EPOCH).unwrap_or_default().into();
        Self { seconds, nanos }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The bytes were written down from the proto file by hand: tag and wire type, length, value.
    #[test]
    fn tags_and_types_are_those_of_the_proto_file() {
        let initial = Request::Initial(InitialLoadBalanceRequest { name: "a/b".into() });
        assert_eq!(LoadBalanceRequest::from(initial).encode_to_vec(), b"\x0a\x05\x0a\x03a/b");
        let stats = ClientStats {
            timestamp: Some(Timestamp { seconds: 1, nanos: 2 }),
            num_calls_started: 3,
            num_calls_finished: 4,
            num_calls_finished_with_client_failed_to_send: 5,
            num_calls_finished_known_received: 6,
            calls_finished_with_drop: vec![ClientStatsPerToken { load_balance_token: "t".into(), num_calls: 7 }],
        };
        let bytes = b"\x12\x15\x0a\x04\x08\x01\x10\x02\x10\x03\x18\x04\x30\x05\x38\x06\x42\x05\x0a\x01t\x10\x07";
        assert_eq!(LoadBalanceRequest::from(Request::Stats(stats)).encode_to_vec(), bytes);
        let initial = LoadBalanceResponse::initial(Duration::from_millis(1_500));
        assert_eq!(initial.encode_to_vec(), b"\x0a\x0a\x12\x08\x08\x01\x10\x80\xca\xb5\xee\x01");
        let servers = [Server::at(([10, 0, 0, 7], 80).into(), "k"), Server::dropping("d")];
        let bytes = b"\x12\x14\x0a\x0b\x0a\x04\x0a\x00\x00\x07\x10\x50\x1a\x01k\x0a\x05\x1a\x01d\x20\x01";
        assert_eq!(LoadBalanceResponse::servers(servers).encode_to_vec(), bytes);
        assert_eq!(LoadBalanceResponse::fallback().encode_to_vec(), b"\x1a\x00");
    }

    #[test]
    fn spans_that_make_no_sense_are_none() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
            assert_eq!(Duration::from(Span { seconds, nanos }), Duration::ZERO);
        }
        let longest = Duration::from(Span { seconds: i64::MAX, nanos: i32::MAX });
        assert!(longest >= Duration::from_secs(i64::MAX as u64), "{longest:?}");
    }

    #[test]
    fn a_report_of_nothing_is_zero_at_any_time() {
        let mut stats = ClientStats { timestamp: Some(SystemTime::now().into()), ..ClientStats::default() };
        assert!(stats.is_zero());
        stats.num_calls_started = 1;
        assert!(!stats.is_zero());
    }
}

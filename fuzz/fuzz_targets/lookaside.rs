//! What an external balancer says: what is made of its messages, and what a channel does with them.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use callboard::lookaside::Decides;
use callboard::lookaside::fuzzing::{Conversation, Listed, Said};
use callboard::lookaside::v1::{
    InitialLoadBalanceResponse, LoadBalanceResponse, Response, Server, ServerList, prost_types,
};
use callboard::{Address, CallError, Channel, Endpoint};
use callboard_fuzz::{Field, Stage, answer_calls, assert_checked, assert_short, headers, message, paused, within};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Arbitrary, Debug)]
struct Input {
    /// How many entries of a list are used.
    most: u8,
    messages: Vec<Says>,
    /// Whether they are sent to a channel, too.
    channel: bool,
}

#[derive(Arbitrary, Clone, Debug)]
enum Says {
    Initial { seconds: i64, nanos: i32 },
    Servers(Vec<Listing>),
    Fallback,
    Nothing,
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Clone, Debug)]
enum Listing {
    /// A server as it should be.
    Good(u8, u8),
    Drop(u8),
    Any {
        ip: Vec<u8>,
        port: i32,
        token: String,
        drop: bool,
    },
}

fuzz_target!(|input: Input| {
    let messages: Vec<_> = input.messages.iter().map(encoded).collect();
    let size: usize = messages.iter().map(Vec::len).sum();
    within((2 << 20) + 1_000 * size, || {
        paused(async {
            conversation(&messages, usize::from(input.most) + 1).await;
            if input.channel {
                channel(messages, usize::from(input.most) + 1).await;
            }
        });
    });
});

fn encoded(says: &Says) -> Vec<u8> {
    let response = match says {
        Says::Initial { seconds, nanos } => {
            let span = prost_types::Duration { seconds: *seconds, nanos: *nanos };
            Response::InitialResponse(InitialLoadBalanceResponse { client_stats_report_interval: Some(span) })
        }
        Says::Servers(servers) => Response::ServerList(ServerList { servers: servers.iter().map(server).collect() }),
        Says::Fallback => return LoadBalanceResponse::fallback().encode_to_vec(),
        Says::Nothing => return Vec::new(),
        Says::Raw(bytes) => return bytes.clone(),
    };
    LoadBalanceResponse::from(response).encode_to_vec()
}

fn server(listing: &Listing) -> Server {
    match listing.clone() {
        Listing::Good(ip, port) => Server::at(([10, 0, 0, ip], u16::from(port) + 1).into(), format!("t{port}")),
        Listing::Drop(token) => Server::dropping(format!("d{token}")),
        Listing::Any { ip, port, token, drop } => Server { ip_address: ip, port, load_balance_token: token, drop },
    }
}

/// Each message is read or refused, and the last list decides until the balancer asks for fallback.
async fn conversation(messages: &[Vec<u8>], most: usize) {
    let (mut conversation, mut decides) = (Conversation::new(most), None);
    for message in messages {
        match conversation.take(message.clone()).await {
            Err(status) => assert_short(status.message()),
            Ok(Said::List(list)) => {
                listed(&list, message, most);
                let (entries, drops, skipped) = list.counts();
                decides = Some((list.servers().len(), entries, drops, skipped));
            }
            Ok(Said::Fallback) => decides = None,
            Ok(Said::Initial(_) | Said::Nonsense | Said::Unknown) => {}
        }
        let now = conversation.status().decides;
        let by_list = match now {
            Decides::Balancer { servers, entries, drops, skipped, .. } => Some((servers, entries, drops, skipped)),
            _ => None,
        };
        assert_eq!(by_list, decides);
    }
}

/// A list says no more than its message does, and calls go where it says.
fn listed(list: &Listed, message: &[u8], most: usize) {
    let Ok(LoadBalanceResponse { load_balance_response_type: Some(Response::ServerList(said)) }) =
        LoadBalanceResponse::decode(message)
    else {
        panic!("a list out of another message")
    };
    let (entries, drops, skipped) = list.counts();
    let used = entries + skipped;
    assert!(used <= said.servers.len() && (used == said.servers.len() || said.servers.len() > most));
    // As many entries that drop calls are used as go with the servers.
    assert!(entries - drops <= most, "{entries} entries count, and {drops} of them drop");
    let addresses: BTreeSet<_> = list.servers().iter().map(|server| server.address().to_string()).collect();
    assert_eq!(addresses.len(), list.servers().len(), "each address once");
    assert!(list.servers().len() + drops <= entries);
    assert!(list.same_as(&list.clone()));
    list.servers().iter().for_each(|server| assert_checked(server));

    let endpoints: Vec<_> = list.servers().iter().rev().map(|server| Endpoint::new(server.clone())).collect();
    let steered = list.steer(&endpoints, 2 * entries);
    assert_eq!(steered.len(), if endpoints.is_empty() { 0 } else { 2 * entries });
    assert!(steered.iter().flatten().all(|place| *place < endpoints.len()));
    if !endpoints.is_empty() {
        assert_eq!(steered.iter().filter(|place| place.is_none()).count(), 2 * drops, "each drop entry has its turn");
    }
}

/// A channel whose balancer says all this ends its calls in time, and leaves nothing behind.
async fn channel(messages: Vec<Vec<u8>>, most: usize) {
    let stage = Stage::new();
    stage.sign_in("lb", "192.0.2.1:1", "balancer");
    stage.sign_in("a", "192.0.2.2:1", "backend");
    let balancer: Address = "192.0.2.1:1".parse().expect("an address");
    let builder = stage.builder(move |address, connection| {
        let messages = if address == balancer { Some(messages.clone()) } else { None };
        answer_calls(connection, move |stream| match &messages {
            Some(messages) => {
                let head = headers(stream, false, &[Field::Status(200), Field::Grpc]);
                [head, messages.iter().flat_map(|says| message(stream, says)).collect()].concat()
            }
            None => {
                let head = headers(stream, false, &[Field::Status(200), Field::Grpc]);
                [head, message(stream, b""), headers(stream, true, &[Field::GrpcStatus(0)])].concat()
            }
        })
    });
    let channel = builder.max_instances(most).build().expect("a channel");
    for wait in [0, 50, 12_000] {
        sleep(Duration::from_millis(wait)).await;
        call(&channel).await;
    }
    let _ = format!("{:?} {:?}", channel.lookaside(), channel.endpoints());
    stage.end(channel).await;
}

async fn call(channel: &Channel) {
    let (path, codec) = (PathAndQuery::from_static("/a.B/C"), ProstCodec::<String, String>::default());
    let mut request = Request::new(String::new());
    request.set_timeout(DEADLINE);
    let begun = Instant::now();
    let mut client = tonic::client::Grpc::new(channel.clone());
    let result = timeout(2 * DEADLINE, client.unary(request, path, codec)).await.expect("it ends in time");
    assert!(begun.elapsed() <= DEADLINE + Duration::from_millis(10), "{:?}", begun.elapsed());
    if let Err(status) = result {
        assert!(CallError::of(&status).is_some(), "no server has failed a call: {status:?}");
        assert_short(status.message());
    }
}

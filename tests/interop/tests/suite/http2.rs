//! HTTP/2's negative cases: what gRPC wants a client to bear. The server is made of frames.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callboard::Channel;
use callboard_interop::pb::test_service_client::TestServiceClient;
use callboard_raw::{Peer, RawServer, code, setting};
use tonic::Code;

use crate::cases::large;
use crate::common::Stage;
use crate::table::{Table, verdict};
use crate::windows::{Asked, Cut, LARGE, Server};

/// Runs a case against a server that follows a script.
async fn against<S>(script: impl Fn(Server) -> S + Send + 'static, case: impl AsyncFnOnce(Channel, &RawServer))
where
    S: Future<Output = Option<()>> + Send + 'static,
{
    let stage = Stage::new();
    let script = move |peer: Peer| {
        let followed = script(Server::new(peer));
        // It ends with the connection, or when it has nothing more to do.
        async move { followed.await.unwrap_or_default() }
    };
    let (server, _registration) = stage.raw("raw", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    case(channel, &server).await;
}

fn stub(channel: &Channel) -> TestServiceClient<Channel> {
    TestServiceClient::new(channel.clone())
}

/// Answers as it is asked to.
async fn answer(server: &mut Server, asked: &Asked, cut: Cut) -> Option<()> {
    server.head(asked.stream);
    server.send(asked.stream, &asked.response(), cut).await?;
    server.trailers(asked.stream, "0");
    Some(())
}

/// The server ends the connection after each call; gRPC's case has two calls.
async fn goaway() {
    const CALLS: usize = 10;
    let script = async |mut server: Server| {
        server.settings(&[]);
        let asked = server.asked().await?;
        answer(&mut server, &asked, LARGE).await?;
        server.go_away(asked.stream, code::NO_ERROR);
        while server.step().await.is_some() {}
        Some(())
    };
    against(script, async |channel, server| {
        for call in 1..=CALLS {
            large(&mut stub(&channel)).await.unwrap_or_else(|status| panic!("call {call} of {CALLS}: {status}"));
        }
        let accepted = server.stats().accepted;
        assert!(accepted >= CALLS, "each call has a connection of its own: {accepted}");
    })
    .await;
}

/// The server resets each stream once so much of the response has been sent, by a code that says nothing. What gRPC makes
/// of it is INTERNAL. The connection stays.
async fn reset_after(part: impl Fn(&Asked) -> Vec<u8> + Clone + Send + Sync + 'static) {
    let script = move |mut server: Server| {
        let part = part.clone();
        async move {
            server.settings(&[]);
            loop {
                let asked = server.asked().await?;
                server.head(asked.stream);
                server.send(asked.stream, &part(&asked), LARGE).await?;
                server.reset(asked.stream, code::NO_ERROR);
            }
        }
    };
    against(script, async |channel, server| {
        for _ in 0..5 {
            let status = large(&mut stub(&channel)).await.expect_err("there is no whole response");
            assert_eq!(status.code(), Code::Internal, "{status}");
        }
        assert_eq!((server.stats().accepted, server.stats().requests), (1, 5));
    })
    .await;
}

async fn rst_after_header() {
    reset_after(|_| Vec::new()).await;
}

async fn rst_during_data() {
    reset_after(|asked| {
        let mut response = asked.response();
        response.truncate(response.len() / 2);
        response
    })
    .await;
}

async fn rst_after_data() {
    reset_after(Asked::response).await;
}

/// The server sends a PING before and after every frame, and counts the answers.
async fn ping() {
    let (sent, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&sent), Arc::clone(&answered));
    let script = move |mut server: Server| {
        let (sent, answered) = counts.clone();
        let ping = move |server: &Server| server.ping((sent.fetch_add(1, Ordering::SeqCst) as u64).to_be_bytes());
        async move {
            server.settings(&[]);
            let asked = server.asked().await?;
            ping(&server);
            server.head(asked.stream);
            ping(&server);
            for part in asked.response().chunks(LARGE.size) {
                ping(&server);
                server.send(asked.stream, part, LARGE).await?;
                ping(&server);
            }
            ping(&server);
            server.trailers(asked.stream, "0");
            ping(&server);
            loop {
                answered.store(server.pongs, Ordering::SeqCst);
                server.step().await?;
            }
        }
    };
    against(script, async |channel, server| {
        large(&mut stub(&channel)).await.unwrap();
        let count = || (answered.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
        while count().0 < count().1 {
            tokio::task::yield_now().await;
        }
        assert_eq!((count(), server.stats().accepted), ((44, 44), 1));
    })
    .await;
}

/// After the first call, the server allows one stream at a time.
async fn max_streams() {
    const CALLS: usize = 15;
    let script = async |mut server: Server| {
        server.settings(&[]);
        let mut asked = server.asked().await?;
        server.settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
        loop {
            answer(&mut server, &asked, LARGE).await?;
            asked = server.asked().await?;
        }
    };
    against(script, async |channel, server| {
        large(&mut stub(&channel)).await.unwrap();
        let call = || {
            let mut stub = stub(&channel);
            tokio::spawn(async move { large(&mut stub).await })
        };
        let calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let stats = server.stats();
        assert_eq!((stats.peak, stats.accepted, stats.requests), (1, 1, 1 + CALLS));
    })
    .await;
}

/// The server cuts its response into frames with 5 bytes of it in each, and much padding or none.
async fn small_frames(padding: Option<u8>) {
    let script = move |mut server: Server| async move {
        server.settings(&[]);
        loop {
            let asked = server.asked().await?;
            answer(&mut server, &asked, Cut { size: 5, padding }).await?;
        }
    };
    against(script, async |channel, server| {
        large(&mut stub(&channel)).await.unwrap();
        assert_eq!(server.stats().accepted, 1);
    })
    .await;
}

async fn data_frame_padding() {
    small_frames(Some(255)).await;
}

async fn no_df_padding_sanity() {
    small_frames(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_negative_case_of_http2_passes() {
    type Case = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);
    let cases: [Case; 8] = [
        ("goaway", Box::pin(goaway())),
        ("rst_after_header", Box::pin(rst_after_header())),
        ("rst_during_data", Box::pin(rst_during_data())),
        ("rst_after_data", Box::pin(rst_after_data())),
        ("ping", Box::pin(ping())),
        ("max_streams", Box::pin(max_streams())),
        ("data_frame_padding", Box::pin(data_frame_padding())),
        ("no_df_padding_sanity", Box::pin(no_df_padding_sanity())),
    ];
    let mut table = Table::new("HTTP/2", ["frames"]);
    for (name, case) in cases {
        table.add(name, verdict(case).await);
    }
    table.settle();
}

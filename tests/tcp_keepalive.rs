//! What TCP bears before a connection is given up: lost probes, and a server that stands still.
//!
//! The lossy way is a filter of Linux's on the server's socket: what it drops is never acknowledged, as if a full queue on
//! the way had dropped it.
#![cfg(target_os = "linux")]
// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{Channel, ConnectivityState, ErrorKind, TcpKeepalive};
use callboard_echo::pb::EchoRequest;
use common::{PATIENCE, Stage, echo, endpoint, quick, until};
use socket2::{SockFilter, SockRef};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts connections, sends SETTINGS, and reads nothing.
struct Still {
    accepted: Arc<Mutex<Vec<TcpStream>>>,
    address: callboard::Address,
}

impl Still {
    async fn start() -> Self {
        // The stream's window and the connection's, as large as can be: TCP's alone stops the client.
        const WINDOWS: &[u8] = &[
            0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff, // SETTINGS_INITIAL_WINDOW_SIZE
            0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0, // WINDOW_UPDATE
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
        let address = listener.local_addr().unwrap().try_into().unwrap();
        let accepted: Arc<Mutex<Vec<_>>> = Arc::default();
        let all = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                socket.write_all(WINDOWS).await.unwrap();
                all.lock().unwrap().push(socket);
            }
        });
        Self { accepted, address }
    }

    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// From now on nothing reaches the first connection, or everything again.
    fn drop_all(&self, all: bool) {
        const DROP: SockFilter = SockFilter::new(6, 0, 0, 0); // "return 0": none of the packet's bytes are taken
        let accepted = self.accepted.lock().unwrap();
        let socket = SockRef::from(&accepted[0]);
        if all { socket.attach_filter(&[DROP]).unwrap() } else { socket.detach_filter().unwrap() }
    }
}

fn is_ready(channel: &Channel) -> bool {
    endpoint(channel, "a").endpoint.state() == ConnectivityState::Ready
}

async fn connected(stage: &Stage, keepalive: TcpKeepalive) -> Channel {
    stage.channel(stage.builder().tcp_keepalive(keepalive).backoff(quick()), 1).await
}

#[tokio::test]
async fn three_lost_probes_leave_a_connection_alone_and_a_host_that_is_gone_is_noticed() {
    let (stage, server) = (Stage::new(), Still::start().await);
    let _a = stage.sign_in("a", server.address.clone(), 1).await;
    let keepalive = TcpKeepalive::after(SECOND).interval(SECOND).probes(4).user_timeout(8 * SECOND);
    let channel = connected(&stage, keepalive).await;
    // Probes go out 1, 2 and 3 s after the last sign of life; nothing is given up before 8 s.
    server.drop_all(true);
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    server.drop_all(false);
    tokio::time::sleep(4 * SECOND).await;
    assert!(is_ready(&channel) && server.accepted() == 1, "lost probes ended a healthy connection");
    server.drop_all(true);
    let begun = Instant::now();
    until("the host counts as gone", || server.accepted() == 2).await;
    let took = begun.elapsed();
    // The last sign of life is up to a second old when the host is cut off.
    assert!(took > 6 * SECOND && took < PATIENCE, "{took:?}");
}

#[tokio::test]
async fn a_server_that_takes_nothing_keeps_its_connection_for_as_long_as_the_user_timeout_says() {
    let mut lasted = Vec::new();
    for user_timeout in [Some(2 * SECOND), None] {
        let (stage, server) = (Stage::new(), Still::start().await);
        let _a = stage.sign_in("a", server.address.clone(), 1).await;
        let channel = connected(&stage, TcpKeepalive::off().user_timeout(user_timeout)).await;
        let request = EchoRequest { payload: vec![0; 3 << 20], ..EchoRequest::default() };
        let mut client = echo(&channel);
        let mut call = tokio::spawn(async move { client.unary(request).await });
        let begun = Instant::now();
        let status = match tokio::time::timeout(6 * SECOND, &mut call).await {
            Ok(ended) => ended.unwrap().unwrap_err().message().to_owned(),
            Err(_) => "none".to_owned(),
        };
        lasted.push((begun.elapsed(), status));
        call.abort();
    }
    let [(bounded, status), (unbounded, none)] = &lasted[..] else { unreachable!() };
    assert!(*bounded > SECOND && *bounded < 5 * SECOND && status.contains("timed out"), "{lasted:?}");
    assert!(*unbounded >= 6 * SECOND && none == "none", "{lasted:?}");
}

#[tokio::test]
async fn settings_that_would_end_healthy_connections_are_refused() {
    let stage = Stage::new();
    let builder = stage.builder().tcp_keepalive(TcpKeepalive::default().user_timeout(20 * SECOND));
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("user timeout 20s"), "{}", error.chain());
    let connector = tower::service_fn(|_: callboard::Address| async { TcpStream::connect("127.0.0.1:1").await });
    let builder = stage.builder().connector(connector).tcp_keepalive(TcpKeepalive::off());
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("connector of its own"), "{}", error.chain());
}

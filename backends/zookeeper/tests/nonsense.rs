//! What answers is no ZooKeeper. No server is needed for that.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Instance, Registry, Resolver, ServiceName};
use callboard_zookeeper::ZooKeeper;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// What core allows an attempt.
const ATTEMPT: Duration = Duration::from_secs(10);

/// A server that sends this to every client, and then nothing.
async fn says(what: Vec<u8>) -> ZooKeeper {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            // A client that has had enough hangs up.
            let _ = socket.write_all(&what).await;
            open.push(socket);
        }
    });
    ZooKeeper::builder([address.to_string()]).build().unwrap()
}

async fn is_refused(what: &str, zookeeper: ZooKeeper) {
    let service: ServiceName = "project/test".parse().unwrap();
    let instance = Instance::at("127.0.0.1:50051".parse().unwrap()).unwrap();
    let complaint = |error: Error| {
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{what}: {error:?}");
        assert_eq!((error.backend(), error.service()), (Some("zookeeper"), Some(&service)), "{what}: {error:?}");
    };
    let registered = timeout(ATTEMPT, zookeeper.register(&service, &instance)).await;
    complaint(registered.expect(what).expect_err(what));
    let mut watch = zookeeper.watch(&service);
    complaint(timeout(ATTEMPT, watch.next()).await.expect(what).expect(what).expect_err(what));
}

/// A whole answer to whoever connects: a session of this length in milliseconds.
fn session(length: i32) -> Vec<u8> {
    let mut answer = Vec::new();
    answer.extend(37_i32.to_be_bytes());
    answer.extend(0_i32.to_be_bytes());
    answer.extend(length.to_be_bytes());
    answer.extend(7_i64.to_be_bytes());
    answer.extend(16_i32.to_be_bytes());
    answer.extend([0; 17]);
    answer
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_panic_and_no_hang() {
    let with = |after: &[u8]| [session(6000), after.to_vec()].concat();
    let cases = [
        ("nothing", vec![]),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("a length without end", vec![0x7f, 0xff, 0xff, 0xff, 1, 2, 3]),
        ("a negative length", vec![0xff, 0xff, 0xff, 0xff, 1, 2, 3]),
        ("an empty message", vec![0; 4]),
        ("a session, and then nothing", with(&[])),
        ("a session, and then an empty message", with(&[0; 4])),
        ("a session, and then a negative length", with(&[0xff; 8])),
        ("a session of no length", session(0)),
        ("a session of a negative length", session(-1)),
    ];
    let tried = cases.map(|(what, said)| async move { is_refused(what, says(said).await).await });
    futures_util::future::join_all(tried).await;
}

//! Servers that are not there, or not what they should be.

use std::time::Duration;

use callboard::InstanceKind;
use callboard_raw::Peer;

use crate::common::silent::Refusing;
use crate::trial::Trial;

/// The measure of the others: a server that does nothing wrong costs nothing.
#[test]
fn a_good_server() {
    Trial::of("servers::a_good_server").run(async |scene| {
        scene.raw("good", |peer| callboard_raw::serve("good", peer)).await;
    });
}

#[test]
fn a_server_that_accepts_and_hangs_up() {
    Trial::of("servers::a_server_that_accepts_and_hangs_up").run(async |scene| {
        scene.raw("a", |peer: Peer| async move { peer.cut() }).await;
    });
}

#[test]
fn a_server_that_answers_no_call() {
    Trial::of("servers::a_server_that_answers_no_call").run(async |scene| {
        let silent = |mut peer: Peer| async move {
            peer.settings(&[]);
            while peer.request().await.is_some() {}
        };
        scene.raw("a", silent).await;
    });
}

#[test]
fn answers_that_come_byte_by_byte() {
    Trial::of("servers::answers_that_come_byte_by_byte").run(async |scene| {
        let slow = |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                peer.head(request.stream);
                // A message of a MiB, of which a byte comes each millisecond.
                peer.data(request.stream, &[0, 0, 16, 0, 0], false);
                for _ in 0..1000 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    peer.data(request.stream, &[0], false);
                }
            }
        };
        scene.raw("a", slow).await;
    });
}

#[test]
fn addresses_where_nobody_listens() {
    Trial::of("servers::addresses_where_nobody_listens").run(async |scene| {
        let refusing: Vec<_> = (0..50).map(|_| Refusing::new()).collect();
        for (index, one) in refusing.iter().enumerate() {
            scene.register(&format!("refusing-{index}"), one.address.clone(), InstanceKind::Backend).await;
        }
        refusing
    });
}

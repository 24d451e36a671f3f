//! Servers whose way to the registry is loopback, as behind a tunnel.

use std::collections::BTreeSet;
use std::time::Duration;

use callboard::{Channel, dial};
use tokio::time::{sleep, timeout};

use crate::{Examples, Server};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that listens everywhere takes no loopback address for the one at which others reach it: it does not start.
/// Two that have been given one id do not end each other: the later one has the entry, the other serves on, and has it
/// again once the later one has left.
pub async fn tunnel(examples: Examples, url: &str) {
    let untold = Server::start_untold(examples, url);
    let status = untold.ended().await;
    assert_eq!(status.code(), Some(1), "it ends at once, with an error");

    let first = Server::start_with(examples, url, &["--id", "one"]);
    let channel = dial(url).await.unwrap();
    let at_first = first.address().await;
    until_alone(&channel, &at_first).await;
    let second = Server::start_with(examples, url, &["--id", "one"]);
    let at_second = second.address().await;
    until_alone(&channel, &at_second).await;
    // Longer than the longest wait of the one that has lost it: it does not take it back.
    for _ in 0..50 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(addresses(&channel), BTreeSet::from([at_second.clone()]));
    }
    assert!(second.terminate().await.success(), "it leaves and ends well");
    until_alone(&channel, &at_first).await;
    assert!(first.terminate().await.success(), "it has not ended before");
}

fn addresses(channel: &Channel) -> BTreeSet<String> {
    channel.endpoints().iter().map(|status| status.endpoint.instance().address().to_string()).collect()
}

async fn until_alone(channel: &Channel, address: &str) {
    let alone = async {
        while addresses(channel) != BTreeSet::from([address.to_owned()]) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, alone).await.unwrap_or_else(|_| panic!("not {address} alone, but {:?}", addresses(channel)));
}

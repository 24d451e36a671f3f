//! An external balancer as people start it.

use std::time::Duration;

use callboard_servers::Program;

use crate::{Client, Examples, Server};

fn start(examples: Examples, url: &str) -> Program {
    let program = Program::at(examples.lookaside).args([url, "--listen", "127.0.0.1:0"]);
    program.env("CALLBOARD_ADVERTISE", "").env("POD_IP", "").start()
}

/// Servers of weights 3 and 1, and a client whose own balancer is round robin: alone it shares calls alike, with an
/// external balancer by weight. The client is dialled once; balancers come, are replaced, and go, and no call fails.
pub async fn lookaside(examples: Examples, url: &str) {
    let (a, b) = (Server::start_with(examples, url, &["--weight", "3"]), Server::start(examples, url));
    let (at_a, at_b) = (a.address().await, b.address().await);
    let mut client = Client::start(examples, url, &[]);
    until_shares(&mut client, &at_a, &at_b, 0.5).await;
    let first = start(examples, url);
    first.line("balancing ").await;
    until_shares(&mut client, &at_a, &at_b, 0.75).await;
    first.line("calls reported").await;

    // Another one comes, and the first one goes: it ends its conversations, so that it can end itself.
    let second = start(examples, url);
    second.line("balancing ").await;
    first.interrupt();
    assert!(first.wait().await.success(), "Ctrl-C: it leaves and ends well");
    second.line("calls reported").await;
    until_shares(&mut client, &at_a, &at_b, 0.75).await;

    // The board changes, and the list with it.
    let c = Server::start_with(examples, url, &["--weight", "4"]);
    let at_c = c.address().await;
    client.until_served_by(&[&at_a, &at_b, &at_c]).await;
    until_shares(&mut client, &at_c, &at_a, 4.0 / 7.0).await;
    assert!(c.terminate().await.success(), "SIGTERM: it leaves and ends well");
    client.until_served_by(&[&at_a, &at_b]).await;

    // The last one is killed: its list stays in force, until its entry is gone from the board.
    second.kill().await;
    until_shares(&mut client, &at_a, &at_b, 0.5).await;
    let (calls, failed, status) = client.finish().await;
    println!("{calls} calls, {failed} failed");
    assert_eq!((failed, status.code()), (0, Some(0)));
    assert!(a.interrupt().await.success() && b.interrupt().await.success());
}

/// Waits for a second in which one of two servers has answered this share of what both have.
async fn until_shares(client: &mut Client, one: &str, other: &str, share: f64) {
    let mut before = client.line().await;
    let looked = async {
        loop {
            let now = client.line().await;
            let (of_one, of_other) = (now.of(one) - before.of(one), now.of(other) - before.of(other));
            let seen = of_one as f64 / (of_one + of_other).max(1) as f64;
            if (seen - share).abs() < 0.02 {
                return;
            }
            println!("{seen:.3} instead of {share:.3}: {now:?}");
            before = now;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("the shares are as wanted within a minute");
}

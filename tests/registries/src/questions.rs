//! The four questions that people ask of such a thing first, by trying it.

use crate::{Client, Examples, Server};

/// Two servers and a client. Does a new server get calls? Does one that leaves, and one that dies, still get them? Does
/// one client, dialled once, follow all that?
///
/// `calls_lost_at_most` is how many calls may be in flight on the server that is killed.
pub async fn four_questions(examples: Examples, url: &str, calls_lost_at_most: u64) {
    let (a, b) = (Server::start(examples, url), Server::start(examples, url));
    let (at_a, at_b) = (a.address().await, b.address().await);
    let mut client = Client::start(examples, url, &[]);
    let line = client.until_served_by(&[&at_a, &at_b]).await;
    println!("two servers:      {line:?}");
    let (of_a, of_b) = (line.of(&at_a), line.of(&at_b));
    assert!(of_a.abs_diff(of_b) <= line.calls / 10, "round robin shares alike: {line:?}");

    assert!(a.interrupt().await.success(), "Ctrl-C: it leaves and ends well");
    let line = client.until_served_by(&[&at_b]).await;
    println!("one has left:     {line:?}");
    assert_eq!(line.failed, 0, "leaving costs no call");

    let c = Server::start(examples, url);
    let at_c = c.address().await;
    let line = client.until_served_by(&[&at_b, &at_c]).await;
    println!("another has come: {line:?}");
    assert_eq!(line.failed, 0, "coming costs no call");

    b.kill().await;
    let line = client.until_served_by(&[&at_c]).await;
    println!("one was killed:   {line:?}");
    assert!(line.failed <= calls_lost_at_most, "only calls in flight on the killed server fail: {line:?}");

    let d = Server::start_everywhere(examples, url);
    let at_d = d.address().await;
    assert!(at_d.starts_with("127.0.0.1:"), "it tells others where they reach it: {at_d}");
    let line = client.until_served_by(&[&at_c, &at_d]).await;
    println!("another has come: {line:?}");
    assert!(c.terminate().await.success(), "SIGTERM: it leaves and ends well");
    client.until_served_by(&[&at_d]).await;

    let (calls, failed, status) = client.finish().await;
    println!("total:            {calls} calls, {failed} failed");
    assert!(failed <= calls_lost_at_most, "{failed} failed");
    assert_eq!(status.code(), Some(i32::from(failed > 0)), "the exit status tells whether a call has failed");
    assert!(d.interrupt().await.success());
}

//! Which server gets which calls.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use callboard::Balancer;
use callboard::balancer::{PickFirst, RoundRobin, Weighted};
use common::{Stage, shares};

#[tokio::test]
async fn round_robin_gives_each_of_three_exactly_a_third() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await, stage.server("c").await];
    let channel = stage.channel(stage.builder().balancer(RoundRobin::new()), 3).await;
    let expected = BTreeMap::from(["a", "b", "c"].map(|id| (id.to_owned(), 100)));
    assert_eq!(shares(&channel, 300).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_many_tasks_at_once_share_exactly() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 5).await, stage.weighted("b", 3).await, stage.weighted("c", 1).await];
    let balancers: [(Arc<dyn Balancer>, _); 2] =
        [(Arc::new(RoundRobin::new()), [600, 600, 600]), (Arc::new(Weighted::new()), [1_000, 600, 200])];
    for (balancer, expected) in balancers {
        let channel = stage.channel(stage.builder().balancer(balancer), 3).await;
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move { shares(&channel, 90).await })
            })
            .collect();
        let mut total = BTreeMap::new();
        for caller in callers {
            for (id, calls) in caller.await.unwrap() {
                *total.entry(id).or_insert(0) += calls;
            }
        }
        assert_eq!(total.into_values().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn weighted_shares_follow_the_weights_within_a_percent() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 5).await, stage.weighted("b", 3).await, stage.weighted("c", 1).await];
    let channel = stage.channel(stage.builder().balancer(Weighted::new()), 3).await;
    let calls = 1_800;
    let shares = shares(&channel, calls).await;
    for (id, weight) in [("a", 5), ("b", 3), ("c", 1)] {
        let expected = calls * weight / 9;
        let off = shares[id].abs_diff(expected);
        assert!(off * 100 <= calls, "{id}: {} calls, expected {expected}", shares[id]);
    }
}

#[tokio::test]
async fn pick_first_sends_all_to_one_and_to_the_next_when_it_dies() {
    let stage = Stage::new();
    let (first, _a) = stage.server("a").await;
    let (second, _b) = stage.server("b").await;
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()).wait_for_ready(true), 1).await;
    assert_eq!(shares(&channel, 100).await, BTreeMap::from([("a".to_owned(), 100)]));
    assert_eq!(second.accepted(), 0, "the second is not even connected");
    first.kill().await;
    // The channel may not have noticed yet; a call that was never sent goes elsewhere by itself.
    assert_eq!(shares(&channel, 100).await, BTreeMap::from([("b".to_owned(), 100)]));
    assert_eq!((second.accepted(), second.calls()), (1, 100));
}

//! What a real store of configs cannot be made to do when a test wants it.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod script;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use callboard_consul::{Consul, ConsulBuilder};
use callboard_core::{ErrorKind, Resolver, Snapshot, Snapshots};
use futures_util::FutureExt;
use script::{Reply, Sequence, agent_in_time, listing, next, project, reply, without_wait};
use tokio::sync::watch;
use tokio::time::timeout;

/// An agent that answers questions for the set, and for the config, one after the other; and a watch of it. A second
/// config is told only to who has taken the first set, so that it is known what comes first.
async fn watched(
    sets: impl IntoIterator<Item = Reply>,
    configs: impl IntoIterator<Item = Reply>,
    set: impl FnOnce(ConsulBuilder) -> ConsulBuilder,
) -> (Snapshots, Arc<Sequence>) {
    let (sets, configs) = (Sequence::new(sets), Sequence::new(configs));
    let (asked, taken) = (Arc::clone(&configs), watch::Sender::new(false));
    let script = move |line: &str| match line {
        line if line.contains("/v1/health/service/") => {
            let asks_again = line.contains("index=");
            taken.send_modify(|taken| *taken |= asks_again);
            ready(sets.next(line)).boxed()
        }
        line if line.contains("/v1/kv/") => {
            let (reply, mut taken, first) = (configs.next(line), taken.subscribe(), !line.contains("index="));
            async move { taken.wait_for(|taken| *taken || first).await.ok().and(reply) }.boxed()
        }
        _ => ready(reply(200, 1, "\"\"")).boxed(),
    };
    let consul = set(Consul::builder().address(agent_in_time(script).await.to_string())).build().unwrap();
    (consul.watch(&project()), asked)
}

fn text(set: &Snapshot) -> Option<&str> {
    set.config.as_deref().map(|config| std::str::from_utf8(config).unwrap())
}

#[tokio::test]
async fn a_config_has_an_index_of_its_own_which_may_go_backwards_too() {
    let configs = [
        reply(200, 30, "one"),
        reply(200, 31, "one"), // somebody has written the same
        reply(404, 32, ""),
        reply(404, 32, ""),
        reply(200, 5, "two"),
        reply(200, 5, "two"),
        reply(200, 7, "three"),
    ];
    let (mut watch, asked) = watched([reply(200, 16, listing(1))], configs, |builder| builder).await;
    for expected in [Some("one"), None, Some("two"), Some("three")] {
        let set = next(&mut watch).await.unwrap();
        assert_eq!((text(&set), set.instances.len()), (expected, 1));
    }
    let plain = "/v1/kv/callboard/project-test/@config?raw=";
    let waiting = |index: u64| format!("{plain}&index={index}");
    let plainly = || plain.to_owned();
    let expected = [plainly(), waiting(30), waiting(31), waiting(32), waiting(32), plainly(), waiting(5)];
    assert_eq!(without_wait(&asked.queries())[..7], expected);
}

/// What narrows the list of instances is not said to the store.
#[tokio::test]
async fn a_config_is_asked_for_where_the_service_is_watched() {
    let set = |builder: ConsulBuilder| {
        builder.datacenter("dc2").stale(true).tag("v1").near("_agent").filter("a").config_prefix("ours/all")
    };
    let (mut watch, asked) = watched([reply(200, 16, listing(1))], [reply(404, 1, "")], set).await;
    next(&mut watch).await.unwrap();
    assert_eq!(asked.queries()[0], "/v1/kv/ours/all/project-test/@config?dc=dc2&stale=&raw=");
}

/// There is no first set without the config: a channel would make its first calls without it.
#[tokio::test]
async fn a_first_set_waits_for_its_config() {
    let (mut watch, _) = watched([reply(200, 16, listing(1)), reply(200, 17, listing(2))], [None], |b| b).await;
    assert_eq!(next(&mut watch).await.unwrap_err().kind(), ErrorKind::Timeout);
    let (mut watch, _) = watched([None], [reply(200, 1, "one")], |b| b).await;
    assert_eq!(next(&mut watch).await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Without access to the store the service is found as before.
#[tokio::test]
async fn a_refusal_counts_as_no_config_and_costs_nothing_else() {
    for refusal in [
        reply(403, 0, "Permission denied: lacks permission 'key:read'"),
        Some((403, String::new(), "Endpoint is blocked by agent configuration".to_owned())),
        Some((404, String::new(), "no such page".to_owned())),
        reply(405, 1, ""),
    ] {
        let sets = [reply(200, 16, listing(1)), reply(200, 17, listing(2))];
        let refusals = std::iter::repeat_n(refusal, 100);
        let (mut watch, asked) = watched(sets, refusals, |builder| builder).await;
        // The second set may be there before the refusal, and then there is no first.
        while next(&mut watch).await.unwrap() != expected(2) {}
        let more = timeout(Duration::from_secs(1), next(&mut watch)).await;
        assert!(more.is_err(), "{more:?}");
        assert!(asked.queries().len() <= 2, "asked again after the query's wait only: {:?}", asked.queries());
    }
}

fn expected(port: u16) -> Snapshot {
    let mut set = Snapshot::default();
    let instance = callboard_core::Instance::new("a", format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    set.instances.push(Arc::new(instance.with_incarnation(callboard_core::Incarnation::from_micros(0))));
    set
}

/// A right that is taken away for a while does not take away what was read.
#[tokio::test]
async fn a_refusal_does_not_undo_what_was_read_before() {
    let refused = || reply(403, 0, "ACL not found");
    let configs = [reply(200, 30, "one"), refused(), refused(), reply(200, 31, "two")];
    let second = Duration::from_secs(1);
    let (mut watch, _) = watched([reply(200, 16, listing(1))], configs, |builder| builder.wait(second)).await;
    for expected in ["one", "two"] {
        assert_eq!(text(&next(&mut watch).await.unwrap()), Some(expected));
    }
}

/// What fails is not taken for an answer.
#[tokio::test]
async fn a_failure_ends_the_watch() {
    for (status, kind) in [(500, ErrorKind::Unavailable), (429, ErrorKind::Unavailable), (302, ErrorKind::Unavailable)]
    {
        let configs = [reply(200, 30, "one"), reply(status, 1, "no cluster leader")];
        let (mut watch, _) = watched([reply(200, 16, listing(1))], configs, |builder| builder).await;
        assert_eq!(text(&next(&mut watch).await.unwrap()), Some("one"));
        let error = next(&mut watch).await.unwrap_err();
        assert_eq!((error.kind(), error.service()), (kind, Some(&project())), "{error:?}");
        assert!(error.to_string().contains("no cluster leader"), "{error}");
    }
}

#[tokio::test]
async fn an_agent_that_answers_at_once_for_ever_is_not_asked_without_a_pause() {
    let configs = std::iter::repeat_n(reply(200, 16, "one"), 1000);
    let (mut watch, asked) = watched([reply(200, 16, listing(1))], configs, |builder| builder).await;
    next(&mut watch).await.unwrap();
    let more = timeout(Duration::from_secs(3), next(&mut watch)).await;
    assert!(more.is_err(), "what has not changed is said once: {more:?}");
    let asked = asked.queries().len();
    assert!((15..=26).contains(&asked), "asked {asked} times in 3 s");
}

//! What a real agent cannot be made to do when a test wants it: an agent that answers by a script.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod script;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_consul::Consul;
use callboard_core::{Error, ErrorKind, Instance, Registry, Resolver, Snapshot};
use script::{Reply, SOON, Sequence, agent, listing, next, project, reply, without_wait};
use tokio::time::{Instant, timeout};

/// It does not ask for configs, so that what it asks first is known.
fn consul(agent: SocketAddr) -> Consul {
    Consul::builder().address(agent.to_string()).config(false).build().unwrap()
}

fn port(snapshot: &Snapshot) -> String {
    snapshot.instances[0].address().to_string()
}

/// Answers one after the other to the watch, and notes the queries.
fn in_order(replies: impl IntoIterator<Item = Reply>) -> (impl Fn(&str) -> Reply + Send + Sync, Arc<Sequence>) {
    let sets = Sequence::new(replies);
    let noted = Arc::clone(&sets);
    let script = move |line: &str| match line {
        line if line.contains("/v1/health/service/") => sets.next(line),
        _ => reply(200, 1, "\"\""),
    };
    (script, noted)
}

#[tokio::test]
async fn an_index_that_goes_backwards_is_forgotten_and_an_unchanged_one_is_not_new() {
    let replies =
        [(16, 1), (16, 1), (17, 2), (5, 3), (5, 3), (6, 4)].map(|(index, port)| reply(200, index, listing(port)));
    let (script, queries) = in_order(replies);
    let mut watch = consul(agent(script).await).watch(&project());
    for expected in ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:3", "127.0.0.1:4"] {
        assert_eq!(port(&next(&mut watch).await.unwrap()), expected);
    }
    let queries = without_wait(&queries.queries());
    let plain = "/v1/health/service/project-test?passing=true";
    let waiting = |index: u64| format!("{plain}&index={index}");
    assert_eq!(queries[..], [plain.to_owned(), waiting(16), waiting(16), waiting(17), plain.to_owned(), waiting(5)]);
}

/// What is asked without waiting needs not be asked twice; what has waited may be empty because of a right that is gone.
#[tokio::test]
async fn an_empty_list_is_asked_for_again_only_if_it_was_waited_for() {
    let replies = [(16, "[]"), (17, &*listing(1)), (18, "[]"), (18, "[]")].map(|(index, body)| reply(200, index, body));
    let (script, queries) = in_order(replies);
    let mut watch = consul(agent(script).await).watch(&project());
    for expected in [0, 1, 0] {
        assert_eq!(next(&mut watch).await.unwrap().instances.len(), expected);
    }
    let plain = "/v1/health/service/project-test?passing=true";
    let waiting = |index: u64| format!("{plain}&index={index}");
    assert_eq!(without_wait(&queries.queries())[..], [plain.to_owned(), waiting(16), waiting(17), plain.to_owned()]);
}

#[tokio::test]
async fn a_refusal_ends_the_watch_whatever_index_it_has() {
    for (status, kind) in [
        (500, ErrorKind::Unavailable),
        (403, ErrorKind::Denied),
        (429, ErrorKind::Unavailable),
        (302, ErrorKind::Unavailable),
    ] {
        let (script, _) = in_order([reply(200, 16, listing(1)), reply(status, 1, "no cluster leader")]);
        let mut watch = consul(agent(script).await).watch(&project());
        next(&mut watch).await.unwrap();
        let error = next(&mut watch).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.backend(), error.service()),
            (kind, Some("consul"), Some(&project())),
            "{error:?}"
        );
        assert!(error.to_string().contains("no cluster leader"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_consuls_answer_is_an_error_and_no_panic() {
    for body in ["", "null?", "{}", "[{}]", "[1]", "\u{0}", r#"[{"Node":{},"Service":{}}]"#] {
        let (script, _) = in_order([reply(200, 16, body)]);
        let error: Error = next(&mut consul(agent(script).await).watch(&project())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{body:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_agent_that_answers_at_once_for_ever_is_not_asked_without_a_pause() {
    let (counted, counter) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let script = {
        let counted = Arc::clone(&counted);
        move |line: &str| {
            if line.contains("/v1/health/service/") {
                *counted.lock().unwrap() += 1;
            }
            reply(200, 16, listing(1))
        }
    };
    let mut watch = consul(agent(script).await).watch(&project());
    let listen = async {
        while next(&mut watch).await.is_ok() {
            *counter.lock().unwrap() += 1;
        }
    };
    assert!(timeout(Duration::from_secs(3), listen).await.is_err());
    let asked = *counted.lock().unwrap();
    assert!((15..=26).contains(&asked), "asked {asked} times in 3 s");
    assert_eq!(*counter.lock().unwrap(), 1, "what has not changed is said once");
}

/// A thousand that fail with each election, each by itself, would keep the servers from it.
#[tokio::test]
async fn while_there_is_no_leader_one_request_asks_for_all_watches_and_all_go_on_when_there_is() {
    let (led, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let script = {
        let (led, asked) = (Arc::clone(&led), Arc::clone(&asked));
        move |line: &str| {
            asked.fetch_add(1, Ordering::Relaxed);
            match (led.load(Ordering::Relaxed), line) {
                (_, line) if line.contains("index=") => None,
                (false, line) if line.contains("/status/leader") => reply(200, 0, "\"\""),
                (false, _) => reply(500, 0, "rpc error making call: No cluster leader"),
                (true, _) => reply(200, 16, listing(1)),
            }
        }
    };
    let consul = Arc::new(consul(agent(script).await));
    let watchers: Vec<_> = (0..200).map(|_| Watcher::new(consul.clone(), &project())).collect();
    for watcher in &watchers {
        watcher.until(SOON, "no leader", |seen| seen.stale.is_some()).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await; // it is how often they ask in this time that matters
    let asked = asked.load(Ordering::Relaxed);
    println!("{} watches ask {asked} times in 4 s", watchers.len());
    assert!(asked < 300, "{asked}");
    led.store(true, Ordering::Relaxed);
    let since = Instant::now();
    for watcher in &watchers {
        watcher.until(SOON, "a leader", |seen| seen.stale.is_none() && seen.ids() == ["a"]).await;
    }
    println!("all hear after {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_millis(1_500), "{:?}", since.elapsed());
}

/// An agent that is stopped keeps its connections. Well before the blocking query would time out, that is noticed.
#[tokio::test]
async fn an_agent_that_falls_silent_is_noticed_within_five_seconds() {
    let script = |line: &str| match line {
        line if line.contains("index=") || line.contains("/status/") => None,
        _ => reply(200, 16, listing(1)),
    };
    let mut watch = consul(agent(script).await).watch(&project());
    next(&mut watch).await.unwrap();
    let since = Instant::now();
    let error = next(&mut watch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

/// Older agents answer 500 for a check that they do not know, and say so in words; newer ones answer 404.
#[tokio::test]
async fn a_check_that_an_old_agent_does_not_know_is_lost() {
    let script = |line: &str| match line {
        line if line.contains("/check/pass/") => reply(500, 0, r#"CheckID "x" does not have associated TTL"#),
        line if line.contains("/health/service/id/") => reply(404, 0, ""),
        line if line.contains("hash=") => None,
        _ => reply(200, 0, ""),
    };
    let instance = Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap();
    let mut lease = consul(agent(script).await).register(&project(), &instance).await.unwrap();
    let error = timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!((error.kind(), error.service()), (ErrorKind::Lost, Some(&project())), "{error:?}");
}

/// A pass that fails is tried again and again, and the lease is lost no sooner than its time to live.
#[tokio::test]
async fn a_lease_is_lost_when_its_time_to_live_has_passed_in_vain() {
    let passes = Arc::new(Mutex::new(0));
    let script = {
        let passes = Arc::clone(&passes);
        move |line: &str| match line {
            line if line.contains("/check/pass/") => {
                *passes.lock().unwrap() += 1;
                reply(500, 0, "no disk")
            }
            line if line.contains("/health/service/id/") => reply(404, 0, ""),
            line if line.contains("hash=") => None,
            _ => reply(200, 0, ""),
        }
    };
    let instance = Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap();
    let builder = Consul::builder().address(agent(script).await.to_string()).ttl(Duration::from_secs(3));
    let since = Instant::now();
    let mut lease = builder.build().unwrap().register(&project(), &instance).await.unwrap();
    let error = timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error:?}");
    assert!(error.chain().contains("no disk"), "{}", error.chain());
    assert!(since.elapsed() >= Duration::from_secs(3), "{:?}", since.elapsed());
    let passes = *passes.lock().unwrap();
    assert!((5..=30).contains(&passes), "{passes} passes");
}

/// A pass that is not answered leaves time for another one, however short the time to live is.
#[tokio::test]
async fn one_pass_that_is_swallowed_does_not_lose_the_lease() {
    let passes = Arc::new(Mutex::new(0));
    // It says that the entry is not there before it is registered, and then nothing of use.
    let looks = Sequence::new([reply(404, 0, ""), reply(404, 0, "")]);
    let script = {
        let passes = Arc::clone(&passes);
        move |line: &str| match line {
            line if line.contains("/check/pass/") => {
                let mut passes = passes.lock().unwrap();
                *passes += 1;
                if *passes == 2 { None } else { reply(200, 0, "") }
            }
            line if line.contains("/health/service/id/") => looks.next(line).or_else(|| reply(500, 0, "no disk")),
            line if line.contains("hash=") => None,
            _ => reply(200, 0, ""),
        }
    };
    let instance = Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap();
    let builder = Consul::builder().address(agent(script).await.to_string()).ttl(Duration::from_secs(3));
    let mut lease = builder.build().unwrap().register(&project(), &instance).await.unwrap();
    let lost = timeout(Duration::from_secs(6), lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    assert!(*passes.lock().unwrap() > 3);
}

//! What supervision logs. One test alone in its process: whether an event is wanted is remembered for all threads.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_core::{
    Error, ErrorKind, Incarnation, Instance, RegistrationSettings, Registry, WatchSettings, Watcher, register, watch,
};
use callboard_memory::Memory;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

/// Where the test logs to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines since the last call.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn assert_one(lines: &[String], parts: &[&str]) {
    let [line] = lines else { panic!("not one line: {lines:#?}") };
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_person_should_know_is_said_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    an_outage_is_said_once_and_within_the_span_of_who_asked(&log).await;
    a_conflict_is_an_error_that_says_whose_the_id_is(&log).await;
    a_record_is_remarked_on_once(&log).await;
    of_many_records_a_hundred_are_remarked_on(&log).await;
}

/// Each side says it.
async fn an_outage_is_said_once_and_within_the_span_of_who_asked(log: &Log) {
    let (memory, service) = (Memory::default(), "project/test".parse().unwrap());
    let instance = Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap();
    let registration = tracing::info_span!("server")
        .in_scope(|| register(Arc::new(memory.clone()), &service, instance, RegistrationSettings::default()));
    registration.wait_registered(MINUTE).await.unwrap();
    let mut watcher = watch(Arc::new(memory.clone()), &service, WatchSettings::default());
    assert!(watcher.changed().await.stale.is_none());
    assert!(log.lines().is_empty());

    memory.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "connection refused")));
    let _ = tokio::time::timeout(MINUTE, async {
        loop {
            watcher.changed().await;
        }
    })
    .await;
    let expected = ["WARN", "the registry does not answer", "service=project/test", "error=\"connection refused\""];
    assert_one(&log.lines(), &expected);

    memory.put(&service, "a", None);
    sleep(MINUTE).await;
    let expected =
        ["WARN server:", "the registration is lost", "service=project/test", "instance=\"a\"", "error=\"memory"];
    assert_one(&log.lines(), &expected);

    // That it is over is said once, too, and how long it was.
    memory.faults(|faults| faults.down = None);
    hear(&mut watcher, MINUTE).await;
    let lines = log.lines();
    for expected in [
        ["INFO", "the registry answers again", "service=project/test", "after="],
        ["INFO server:", "registered again", "instance=\"a\"", "after="],
    ] {
        let of: Vec<_> = lines.iter().filter(|line| line.contains(expected[1])).cloned().collect();
        assert_one(&of, &expected);
    }
    registration.deregister().await.unwrap();
    assert!(log.lines().is_empty());
}

/// However long it lasts.
async fn a_conflict_is_an_error_that_says_whose_the_id_is(log: &Log) {
    let (memory, service) = (Memory::default(), "project/test".parse().unwrap());
    let instance = |address: &str, incarnation| {
        let instance = Instance::new("a", address.parse().unwrap()).unwrap();
        instance.with_incarnation(Incarnation::from_micros(incarnation))
    };
    let other = memory.register(&service, &instance("10.0.0.9:9", 7)).await.unwrap();
    let ours = register(Arc::new(memory.clone()), &service, instance("10.0.0.7:7", 5), RegistrationSettings::default());
    sleep(MINUTE).await;
    assert_one(&log.lines(), &["ERROR", "another server has its id", "10.0.0.9:9, of incarnation 7"]);
    other.revoke().await.unwrap();
    ours.wait_registered(MINUTE).await.unwrap();
    ours.deregister().await.unwrap();
}

/// Hears what there is to hear for so long.
async fn hear(watcher: &mut Watcher, time: Duration) {
    let _ = tokio::time::timeout(time, async {
        loop {
            watcher.changed().await;
        }
    })
    .await;
}

/// However often others change, and however long it is.
async fn a_record_is_remarked_on_once(log: &Log) {
    let (memory, service) = (Memory::default(), "project/test".parse().unwrap());
    let record = |id: &str, weight: u32, incarnation: u64| {
        format!(r#"{{"v":1,"id":"{id}","address":"10.0.0.7:1","weight":{weight},"incarnation":{incarnation}}}"#)
    };
    let put = |key: &str, stored: &str| memory.put(&service, key, Some(stored.as_bytes()));
    put("garbage", &format!(r#"{{"v":1,"id":"a","address":"h:1","kind":"{}"}}"#, "x".repeat(1 << 20)));
    put("zz", &record("a", 1, u64::MAX));
    let mut settings = WatchSettings::default();
    settings.max_instances = 2;
    let mut watcher = watch(Arc::new(memory.clone()), &service, settings);
    for weight in 1..100 {
        put("a", &record("a", weight, 5));
        hear(&mut watcher, Duration::from_millis(50)).await;
    }
    let lines = log.lines();
    let of = |part: &str| -> Vec<String> { lines.iter().filter(|line| line.contains(part)).cloned().collect() };
    assert_one(
        &of("garbage"),
        &["WARN", "service=project/test", "memory: \"project/test/garbage\": record skipped: not a"],
    );
    let remark = ["it says that it is \"a\", and counts as \"zz\"", "is more than a day ahead"];
    assert_one(&of("project/test/zz"), &remark);
    assert_one(&of("two ids have one address"), &["one=\"a\"", "other=\"zz\"", "address=10.0.0.7:1"]);
    assert_eq!((lines.len(), lines.iter().map(String::len).max() < Some(1_000)), (3, true), "{lines:.300?}");
    let other = |id: &str| put(id, &format!(r#"{{"v":1,"id":"{id}","address":"{id}.test:1"}}"#));
    other("c");
    hear(&mut watcher, Duration::from_millis(50)).await;
    assert_eq!(watcher.resolution().left_out, 1);
    assert_one(&log.lines(), &["there are too many instances", "instances=3", "max_instances=2"]);
    other("d");
    hear(&mut watcher, Duration::from_millis(50)).await;
    assert_eq!((watcher.resolution().left_out, log.lines().len()), (2, 0));
}

async fn of_many_records_a_hundred_are_remarked_on(log: &Log) {
    let (memory, service) = (Memory::default(), "project/test".parse().unwrap());
    let mut watcher = watch(Arc::new(memory.clone()), &service, WatchSettings::default());
    let version = |number: u32| format!(r#"{{"v":{number},"id":"a","address":"h:1"}}"#);
    for round in 10..30 {
        for number in 0..1_000 {
            memory.put(&service, &format!("garbage-{number}"), Some(version(round).as_bytes()));
        }
        hear(&mut watcher, Duration::from_millis(50)).await;
        assert_eq!(watcher.resolution().skipped, 1_000);
    }
    // One of the lines says that there are no more, and one that nothing can be read.
    assert_eq!(log.lines().len(), 102);
    hear(&mut watcher, 61 * MINUTE).await;
    memory.put(&service, "garbage-0", Some(b"garbage"));
    hear(&mut watcher, MINUTE).await;
    assert_eq!(log.lines().len(), 101, "an hour later");
}

//! What supervision logs. One test alone in its process: whether an event is wanted is remembered for all threads.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_core::{AnnounceSettings, Error, ErrorKind, FollowSettings, Instance, announce, follow};
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
async fn each_side_warns_of_an_outage_once_and_within_the_span_of_who_asked() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let (memory, service) = (Memory::default(), "project/test".parse().unwrap());
    let instance = Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap();
    let announcement = tracing::info_span!("server")
        .in_scope(|| announce(Arc::new(memory.clone()), &service, instance, AnnounceSettings::default()));
    announcement.on_board(MINUTE).await.unwrap();
    let mut follow = follow(Arc::new(memory.clone()), &service, FollowSettings::default());
    assert!(follow.changed().await.stale.is_none());
    assert!(log.lines().is_empty());

    memory.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "connection refused")));
    let _ = tokio::time::timeout(MINUTE, async {
        loop {
            follow.changed().await;
        }
    })
    .await;
    let expected = ["WARN", "the registry cannot be heard", "service=project/test", "error=\"connection refused\""];
    assert_one(&log.lines(), &expected);

    memory.put(&service, "a", None);
    sleep(MINUTE).await;
    let expected =
        ["WARN server:", "lost its place on the board", "service=project/test", "instance=\"a\"", "error=\"memory"];
    assert_one(&log.lines(), &expected);
    announcement.leave().await.unwrap();
    assert!(log.lines().is_empty());
}

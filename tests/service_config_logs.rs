//! What is logged of a bad service config. One test alone in its process: whether an event is wanted is remembered for all
//! threads.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use callboard::CONFIG_NAME;
use common::{Stage, until_config, until_refused};

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
    /// The warnings since the last call.
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_bad_config_is_warned_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    log.warnings();
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{"));
    until_refused(&channel, "EOF").await;
    // Once more, and beside it something else that is new.
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{"));
    let (_other, _b) = stage.server("b").await;
    common::until_ready(&channel, 2).await;
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for part in ["the service config is refused", "project/test", "EOF while parsing an object"] {
        assert!(warnings[0].contains(part), "{part} is not in {}", warnings[0]);
    }
    stage.configure(Some("{}")).await;
    until_config(&channel, Some("{}")).await;
    assert!(log.warnings().is_empty());
}

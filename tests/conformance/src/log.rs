//! What is logged while a test runs.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a test logs to. Clones share one text, so that a subscriber can have one:
/// `tracing_subscriber::fmt().with_writer(move || log.clone())`.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What has been logged since the last call.
    pub fn take(&self) -> String {
        let text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

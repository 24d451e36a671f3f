//! The victim's log: what is said from INFO up is counted and thrown away.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

static LINES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);

struct Counter;

impl io::Write for Counter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        LINES.fetch_add(text.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
        BYTES.fetch_add(text.len() as u64, Ordering::Relaxed);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts from here on what is logged, and who panics.
pub fn count() {
    tracing_subscriber::fmt().with_env_filter("info").with_ansi(false).with_writer(|| Counter).init();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
}

/// Panics, lines and bytes so far.
pub fn counted() -> (u64, u64, u64) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    (of(&PANICS), of(&LINES), of(&BYTES))
}

//! Counting what the client allocates.
#![allow(unsafe_code, reason = "only an unsafe trait can stand between a program and its allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Off while time is measured: counting in two threads at once is not free.
static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Starts or stops counting.
pub(crate) fn count(on: bool) {
    COUNTING.store(on, Ordering::SeqCst);
}

/// How often memory was asked for, or asked to grow, while that was counted.
pub(crate) fn made() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Bytes allocated less bytes freed, while that was counted.
pub(crate) fn held() -> i64 {
    BYTES.load(Ordering::SeqCst)
}

struct Counting;

impl Counting {
    fn note(count: u64, bytes: i64) {
        if COUNTING.load(Ordering::Relaxed) {
            COUNT.fetch_add(count, Ordering::Relaxed);
            BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: each method does what `System` does, and what it does besides does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(1, layout.size() as i64);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(1, layout.size() as i64);
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::note(0, -(layout.size() as i64));
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

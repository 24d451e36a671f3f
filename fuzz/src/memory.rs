//! How much memory an input takes.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Does some work that may take so many bytes at once beyond what is taken already.
pub fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken <= most, "{taken} bytes of memory were taken, and {most} are allowed");
    done
}
